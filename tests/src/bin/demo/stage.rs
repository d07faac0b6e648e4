//! Where the demo plays: in a lab of namespaces, or on this host's loopback where there is no root or no BPF.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;
use lb_tests::backend::Backend;
use lb_tests::client::Target;
use lb_tests::edge::{Edge, free_port};
use lb_tests::lab::{HOST, Lab, VIP4, VIP6, folder};
use lb_tests::need::{Need, binary};
use lb_tests::netns::{runtime, sweep, unique_name};
use lb_tests::pki::Authority;

/// The place.
pub(crate) enum Stage {
    /// Namespaces, XDP.
    Lab(Box<Lab>),
    /// Loopback, no BPF.
    Here(Box<Here>),
}

/// Loopback.
pub(crate) struct Here {
    missing: String,
    name: String,
    folder: tempfile::TempDir,
    authority: Authority,
    port: u16,
    metrics: u16,
}

impl Stage {
    /// The best that this machine gives.
    pub(crate) fn set() -> Result<Self> {
        if let Some(missing) = Need::Lab.missing() {
            let folder = folder()?;
            let authority = Authority::new("Bailey demo")?;
            authority.issue(folder.path(), "edge", &[HOST])?;
            authority.save(&folder.path().join("ca.pem"))?;
            let (port, metrics) = (free_port()?, free_port()?);
            return Ok(Self::Here(Box::new(Here { missing, name: unique_name(), folder, authority, port, metrics })));
        }
        sweep();
        Ok(Self::Lab(Box::new(Lab::new(2)?)))
    }

    /// Say what stands.
    pub(crate) fn introduce(&self) {
        match self {
            Self::Lab(lab) => {
                println!("Bailey demo: real packets between network namespaces");
                println!("  client    {}   10.77.0.2, fd77::2", lab.client.name());
                println!("  edge      {}     10.77.0.1, fd77::1; XDP on `wan`", lab.edge.name());
                for (number, space) in lab.backends.iter().enumerate() {
                    println!("  backend{}  {} {}", number + 1, space.name(), lab.backend(number as u8, 8080));
                }
                println!("  service   https://{VIP4} and https://[{VIP6}], addresses of no interface, bound by nobody");
            }
            Self::Here(here) => {
                println!("Bailey demo on loopback, datapath `sockets`: no XDP, because this machine lacks");
                println!("  {}", here.missing);
                println!("  service   https://127.0.0.1:{}", here.port);
            }
        }
    }

    /// Two that record.
    pub(crate) fn start_backends(&self) -> Result<Vec<Backend>> {
        match self {
            Self::Lab(lab) => lab.start_backends(),
            Self::Here(_) => ["backend1", "backend2"].into_iter().map(Backend::start_here).collect(),
        }
    }

    /// `bailey run`.
    pub(crate) fn start_edge<'a>(&'a self, backends: &[Backend]) -> Result<Edge<'a>> {
        match self {
            Self::Lab(lab) => Edge::start(lab, &lab.site("steering = \"hash\"", "")),
            Self::Here(here) => {
                let command = Command::new(binary("bailey")?);
                Edge::start_here(
                    here.folder.path(),
                    command,
                    &here.config(backends),
                    ([127, 0, 0, 1], here.metrics).into(),
                )
            }
        }
    }

    /// Does XDP carry it?
    pub(crate) fn lab(&self) -> Option<&Lab> {
        match self {
            Self::Lab(lab) => Some(lab),
            Self::Here(_) => None,
        }
    }

    /// The services' addresses, each as a client sees it.
    pub(crate) fn targets(&self) -> Result<Vec<Target>> {
        match self {
            Self::Lab(lab) => Ok(vec![lab.target(VIP4, 443)?, lab.target(VIP6, 443)?]),
            Self::Here(here) => {
                let address = SocketAddr::from(([127, 0, 0, 1], here.port));
                Ok(vec![Target { address, host: HOST.into(), roots: here.authority.roots()? }])
            }
        }
    }

    /// Be the client.
    pub(crate) fn as_client<T: Send, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        match self {
            Self::Lab(lab) => lab.client.run_async(work),
            Self::Here(_) => runtime()?.block_on(work()),
        }
    }

    /// Commands to play with.
    pub(crate) fn invite(&self) {
        let inside = |space: &str| format!("ip netns exec {space} ");
        let (client, edge, metrics) = match self {
            Self::Lab(lab) => (inside(lab.client.name()), inside(lab.edge.name()), 9100),
            Self::Here(here) => (String::new(), String::new(), here.metrics),
        };
        let (folder, address, port) = match self {
            Self::Lab(lab) => (lab.folder(), VIP4.to_string(), 443),
            Self::Here(here) => (here.folder.path(), "127.0.0.1".into(), here.port),
        };
        let folder = folder.display();
        let bailey = binary("bailey").map_or("bailey".into(), |file| file.display().to_string());
        println!("\nEverything stays up until Ctrl-C. As the client, the operator, and Prometheus:\n");
        println!(
            "  {client}curl -v --cacert {folder}/ca.pem --resolve {HOST}:{port}:{address} https://{HOST}:{port}/hello\n"
        );
        println!("  export BAILEY_SOCKET={folder}/admin.sock");
        for verb in ["status", "service show web", "pool show app", "pool drain app ADDRESS"] {
            println!("  {bailey} {verb}");
        }
        if self.lab().is_some() {
            println!("  {bailey} flow 10.77.0.2:40000 {VIP4}:443/tcp");
        }
        println!("\n  {edge}curl -s http://127.0.0.1:{metrics}/metrics");
    }
}

impl Here {
    fn config(&self, backends: &[Backend]) -> String {
        let backends: Vec<String> = backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
        format!(
            "[edge]\nname = \"{}\"\ndatapath = \"sockets\"\n\
             [admin]\nsocket = \"admin.sock\"\nmetrics = \"127.0.0.1:{}\"\n\
             [certificate.demo]\nchain = \"edge.pem\"\nkey = \"edge.key\"\n\
             [service.web]\naddresses = [\"127.0.0.1:{}\"]\nmode = \"https\"\ncertificates = [\"demo\"]\npool = \"app\"\n\
             served_by_header = \"x-served-by\"\n[pool.app]\nbackends = [{}]\n",
            self.name,
            self.metrics,
            self.port,
            backends.join(", ")
        )
    }
}
