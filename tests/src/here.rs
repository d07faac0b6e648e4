//! An edge on this host's loopback: no packet path, no namespaces, no root. For what happens above TCP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::client::Target;
use crate::edge::{Edge, Outcome, check, free_port};
use crate::lab::{HOST, folder};
use crate::need::binary;
use crate::netns::unique_name;
use crate::pki::{Authority, Identity};
use crate::programs::{self, Said};

/// A place for one edge: a folder, an authority, a port of metrics.
pub struct Here {
    /// Instance name of the edge.
    pub name: String,
    /// Signs [`Here::identity`]; `ca.pem` is its certificate.
    pub authority: Authority,
    /// `edge.pem` and `edge.key`: [`HOST`], `*.bailey.test`.
    pub identity: Identity,
    metrics: u16,
    folder: TempDir,
}

impl Here {
    /// Lay one out.
    pub fn new() -> Result<Self> {
        let folder = folder()?;
        let authority = Authority::new("Bailey lab")?;
        authority.save(&folder.path().join("ca.pem"))?;
        let identity = authority.issue(folder.path(), "edge", &[HOST, "*.bailey.test", "127.0.0.1"])?;
        Ok(Self { name: unique_name(), authority, identity, metrics: free_port()?, folder })
    }

    /// Where its files are, the config's among them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in that folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// What clients trust.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The head of a config: `[edge]` with `more` in it, `[admin]`, `[certificate.lab]`.
    pub fn head(&self, more: &str) -> String {
        format!(
            "[edge]\nname = \"{}\"\ndatapath = \"sockets\"\n{more}\n\
             [admin]\nsocket = \"admin.sock\"\nmetrics = \"127.0.0.1:{}\"\n\
             [certificate.lab]\nchain = \"edge.pem\"\nkey = \"edge.key\"\n",
            self.name, self.metrics
        )
    }

    /// Start an edge and wait until it serves.
    pub fn start(&self, config: &str) -> Result<Edge<'static>> {
        let command = Command::new(binary("bailey")?);
        Edge::start_here(self.folder(), command, config, ([127, 0, 0, 1], self.metrics).into())
    }

    /// `bailey check` of a config in its folder.
    pub fn check(&self, config: &str) -> Result<Outcome> {
        check(self.folder(), config)
    }

    /// A client of this address.
    pub fn target(&self, address: SocketAddr, host: &str) -> Result<Target> {
        Ok(Target { address, host: host.into(), roots: self.authority.roots()? })
    }

    /// [`programs::s_client`] with the SNI [`HOST`] and a GET of `/`; `more` may name another SNI.
    pub fn s_client(&self, to: SocketAddr, more: &[&str]) -> Result<Said> {
        let sni = if more.iter().any(|word| ["-servername", "-noservername"].contains(word)) {
            &[][..]
        } else {
            &["-servername", HOST]
        };
        programs::s_client(to, &self.ca(), &[sni, more].concat(), &programs::request(HOST, "/"))
    }
}

/// A free port of loopback.
pub fn free_address() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}
