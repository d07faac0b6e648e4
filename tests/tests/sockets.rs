//! The `sockets` datapath: no BPF, no root, the same service.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::client::{Protocol, Target};
use lb_tests::edge::{Edge, free_port};
use lb_tests::harness::{main as run, plain};
use lb_tests::lab::{HOST, folder};
use lb_tests::need::binary;
use lb_tests::netns::runtime;
use lb_tests::pki::Authority;

fn main() -> ExitCode {
    run(vec![
        plain("an_ordinary_user_runs_an_edge_without_bpf", ordinary_user),
        plain("a_port_that_is_taken_is_a_clear_error", port_taken),
        plain("a_reload_moves_a_service_to_another_port", moves_port),
    ])
}

struct Here {
    folder: tempfile::TempDir,
    authority: Authority,
    port: u16,
    metrics: u16,
}

impl Here {
    fn new() -> Result<Self> {
        let folder = folder()?;
        let authority = Authority::new("sockets")?;
        authority.issue(folder.path(), "edge", &[HOST])?;
        Ok(Self { folder, authority, port: free_port()?, metrics: free_port()? })
    }

    fn config(&self, backend: &Backend) -> String {
        format!(
            "[edge]\nname = \"sockets-{}\"\ndatapath = \"sockets\"\n[admin]\nsocket = \"admin.sock\"\n\
             metrics = \"127.0.0.1:{}\"\n[certificate.c]\nchain = \"edge.pem\"\nkey = \"edge.key\"\n\
             [service.web]\naddresses = [\"127.0.0.1:{}\"]\nmode = \"https\"\ncertificates = [\"c\"]\npool = \"app\"\n\
             served_by_header = \"x-served-by\"\n[pool.app]\nbackends = [\"{}\"]\n",
            self.metrics, self.metrics, self.port, backend.address
        )
    }

    fn start(&self, config: &str) -> Result<Edge<'static>> {
        Edge::start_here(
            self.folder.path(),
            user_command(self.folder.path())?,
            config,
            ([127, 0, 0, 1], self.metrics).into(),
        )
    }

    fn target(&self, port: u16) -> Result<Target> {
        Ok(Target { address: ([127, 0, 0, 1], port).into(), host: HOST.into(), roots: self.authority.roots()? })
    }
}

/// `bailey` as an ordinary user: ourselves, or `nobody` with a copy of the programs where root runs the tests.
fn user_command(folder: &Path) -> Result<Command> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Command::new(binary("bailey")?));
    }
    for program in ["bailey", "bailey-worker"] {
        std::fs::copy(binary(program)?, folder.join(program))?;
    }
    lb_tests::netns::finish(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(folder))?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    command.arg(folder.join("bailey"));
    Ok(command)
}

fn ordinary_user() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("here")?;
    let mut edge = here.start(&here.config(&backend))?;
    let target = here.target(here.port)?;
    runtime()?.block_on(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let reply = target.get(protocol, "/").await?;
            ensure!(reply.status == 200 && reply.header("x-backend") == "here", "{reply:?}");
        }
        ensure!(target.websocket("/ws", &["one", "two"]).await? == ["one", "two"]);
        Ok(())
    })?;
    let status = edge.json(&["status"])?;
    ensure!(status.to_string().contains("sockets"), "{status}");
    let uid = std::fs::read_to_string(format!("/proc/{}/status", edge.id()))?;
    ensure!(!uid.contains("Uid:\t0"), "the edge runs as root:\n{uid}");
    ensure!(edge.metrics()?.sum("bailey_connections_total", &[("service", "web")]) == 3.0);
    ensure!(edge.stop()?.code() == Some(0), "{}", edge.log());
    Ok(())
}

fn port_taken() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("here")?;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", here.port))?;
    let Err(error) = here.start(&here.config(&backend)) else { anyhow::bail!("started on a taken port") };
    let text = format!("{error:#}");
    ensure!(text.contains(&here.port.to_string()) && text.contains("web"), "{text}");
    Ok(())
}

fn moves_port() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("here")?;
    let config = here.config(&backend);
    let edge = here.start(&config)?;
    let other = free_port()?;
    edge.rewrite(
        &config.replace(&format!("127.0.0.1:{}\"]\nmode", here.port), &format!("127.0.0.1:{other}\"]\nmode")),
    )?;
    edge.done(&["reload"])?;
    let target = here.target(other)?;
    let reply = runtime()?.block_on(target.get(Protocol::Http1, "/"))?;
    ensure!(reply.status == 200, "{reply:?}");
    let old = lb_tests::wait::wait_for("the old port to close", lb_tests::wait::PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", here.port)).err()
    })?;
    ensure!(old.kind() == std::io::ErrorKind::ConnectionRefused, "{old}");
    Ok(())
}
