//! The edges: each a product with its configuration for the same job, started and looked at the same way.

mod bailey;
mod haproxy;
mod nginx;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use lb_tests::edge::free_port;
use lb_tests::process::Process;

use crate::cpu::{self, Tree};
use crate::lab::Lab;
use crate::process::ready;

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Product {
    Nginx,
    Haproxy,
    Bailey,
}

impl Product {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Bailey => "Bailey",
        }
    }

    /// What it says about its version.
    pub(crate) fn version(self, lab: &Lab) -> Result<String> {
        match self {
            Self::Nginx => nginx::version(),
            Self::Haproxy => haproxy::version(),
            Self::Bailey => bailey::version(lab),
        }
    }
}

/// Where an edge serves.
pub(crate) struct Addresses {
    /// With the P-256 certificate.
    pub(crate) p256: SocketAddr,
    /// With the RSA-2048 certificate.
    pub(crate) rsa: SocketAddr,
}

/// A running edge. Dropping it ends its processes.
pub(crate) struct Edge {
    pub(crate) product: Product,
    pub(crate) addresses: Addresses,
    process: Process,
}

impl Edge {
    /// `tickets`: session tickets that the peers send after a full handshake. They do as Bailey does, so that it is the
    /// same work for all.
    pub(crate) fn start(product: Product, lab: &Lab, tickets: u64) -> Result<Self> {
        let free = || anyhow::Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let addresses = Addresses { p256: free()?, rsa: free()? };
        let directory = tempfile::Builder::new().prefix(product.name()).tempdir_in(lab.directory.path())?.keep();
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut process = match product {
            Product::Nginx => nginx::start(lab, &directory, &addresses, tickets)?,
            Product::Haproxy => haproxy::start(lab, &directory, &addresses, tickets)?,
            Product::Bailey => bailey::start(lab, &directory, &addresses)?,
        };
        ready(&mut process, &[addresses.p256, addresses.rsa]).context(product.name())?;
        Ok(Self { product, addresses, process })
    }

    /// Its processes, once what went before is done.
    pub(crate) fn at_rest(&self) -> Result<Tree> {
        cpu::tree_at_rest(self.process.id())
    }

    /// What it wrote.
    pub(crate) fn output(&self) -> String {
        self.process.log()
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
