//! One client, one edge, some backends: namespaces, cables, addresses, routes, certificates.
//!
//! ```text
//! client eth0 ─────────── wan edge dmzN ─────────── eth0 backendN
//! 10.77.0.2   10.77.0.0/24   10.77.0.1 · 10.78.N.1     10.78.N.2
//! fd77::2     fd77::/64       fd77::1 · fd78:N::1         fd78:N::2
//! ```
//! A backend's way to anywhere leads through the edge. The VIPs ([`VIP4`], [`VIP6`]) belong to no interface; the client routes them to the edge.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::backend::Backend;
use crate::client::{Reply, Target};
use crate::foreign::Foreign;
use crate::netns::{Namespace, cable, unique_name};
use crate::pki::{Authority, Identity};

/// Service address.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Service address.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// The edge's own address on the client's side.
pub const EDGE4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The client's address.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The client's address.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// Name in the lab's certificate; `*.bailey.test` is in it too.
pub const HOST: &str = "www.bailey.test";

/// A lab. Everything in it is gone when it is dropped.
pub struct Lab {
    /// Unique; the edge's instance name.
    pub name: String,
    /// Where clients are.
    pub client: Namespace,
    /// Where the edge is.
    pub edge: Namespace,
    /// Where backends are, backend `i` at [`Lab::backend`]`(i)`.
    pub backends: Vec<Namespace>,
    /// Signs [`Lab::identity`].
    pub authority: Authority,
    /// For [`HOST`], `*.bailey.test`, both VIPs and loopback.
    pub identity: Identity,
    /// Ends of cables that take frames of XDP, by namespace.
    pub(crate) takers: Mutex<BTreeMap<String, Foreign>>,
    // Last: what still writes logs there is dropped before.
    folder: TempDir,
}

impl Lab {
    /// Lay out a lab with so many backend namespaces.
    pub fn new(backends: u8) -> Result<Self> {
        let name = unique_name();
        let client = Namespace::new(&name, "client")?;
        let edge = Namespace::new(&name, "edge")?;
        cable(("eth0", &client), ("wan", &edge))?;
        client.ip(&format!("address add {CLIENT4}/24 dev eth0"))?;
        client.ip(&format!("address add {CLIENT6}/64 dev eth0 nodad"))?;
        edge.ip(&format!("address add {EDGE4}/24 dev wan"))?;
        edge.ip("address add fd77::1/64 dev wan nodad")?;
        client.ip(&format!("route add 10.99.0.0/24 via {EDGE4}"))?;
        client.ip("-6 route add fd99::/64 via fd77::1")?;
        let mut spaces = Vec::new();
        for number in 1..=backends {
            let space = Namespace::new(&name, &format!("backend{number}"))?;
            cable(("eth0", &space), (&format!("dmz{number}"), &edge))?;
            space.ip(&format!("address add 10.78.{number}.2/24 dev eth0"))?;
            space.ip(&format!("address add fd78:{number}::2/64 dev eth0 nodad"))?;
            edge.ip(&format!("address add 10.78.{number}.1/24 dev dmz{number}"))?;
            edge.ip(&format!("address add fd78:{number}::1/64 dev dmz{number} nodad"))?;
            space.ip(&format!("route add default via 10.78.{number}.1"))?;
            space.ip(&format!("-6 route add default via fd78:{number}::1"))?;
            spaces.push(space);
        }
        let folder = folder()?;
        let authority = Authority::new("Bailey lab")?;
        let (v4, v6) = (VIP4.to_string(), VIP6.to_string());
        let subjects = [HOST, "bailey.test", "*.bailey.test", &v4, &v6, "127.0.0.1"];
        let identity = authority.issue(folder.path(), "edge", &subjects)?;
        authority.save(&folder.path().join("ca.pem"))?;
        let takers = Mutex::default();
        Ok(Self { name, client, edge, backends: spaces, authority, identity, takers, folder })
    }

    /// A folder for files of the lab.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority's certificate, as a file.
    pub fn ca(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    /// Address of backend `i` (from 0) with this port.
    pub fn backend(&self, i: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 78, i + 1, 2)), port)
    }

    /// IPv6 address of backend `i` (from 0) with this port.
    pub fn backend6(&self, i: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd78, u16::from(i) + 1, 0, 0, 0, 0, 0, 2)), port)
    }

    /// A client of this address and port.
    pub fn target(&self, address: impl Into<IpAddr>, port: u16) -> Result<Target> {
        Ok(Target { address: (address.into(), port).into(), host: HOST.into(), roots: self.authority.roots()? })
    }

    /// One recording backend in each backend namespace, on port 8080.
    pub fn start_backends(&self) -> Result<Vec<Backend>> {
        let one = |(i, space): (usize, &Namespace)| {
            Backend::start(space, &format!("backend{}", i + 1), self.backend(i as u8, 8080))
        };
        self.backends.iter().enumerate().map(one).collect()
    }

    /// A whole config: service `web` on port 443 of both VIPs, its `more_service` keys, and pool `app` with port 8080
    /// of every backend namespace. `more_edge` goes under `[edge]`.
    pub fn site(&self, more_edge: &str, more_service: &str) -> String {
        let backends: Vec<String> =
            (0..self.backends.len()).map(|i| format!("\"{}\"", self.backend(i as u8, 8080))).collect();
        format!(
            "{}[service.web]\naddresses = [\"{VIP4}:443\", \"[{VIP6}]:443\"]\nmode = \"https\"\n\
             certificates = [\"lab\"]\npool = \"app\"\nserved_by_header = \"x-served-by\"\n{more_service}\n\
             [pool.app]\nbackends = [{}]\n",
            self.config(more_edge),
            backends.join(", ")
        )
    }

    /// The head of a config for this lab's edge: `[edge]` with `more` in it, `[admin]`, `[certificate.lab]`.
    pub fn config(&self, more: &str) -> String {
        format!(
            "[edge]\nname = \"{}\"\ninterfaces = [\"wan\"]\nuser = \"nobody\"\n{more}\n\
             [admin]\nsocket = \"admin.sock\"\nmetrics = \"127.0.0.1:9100\"\n\
             [certificate.lab]\nchain = \"edge.pem\"\nkey = \"edge.key\"\n",
            self.name
        )
    }
}

/// What the response header of `served_by_header` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedBy {
    /// Worker's index.
    pub worker: u32,
    /// CPU that it is pinned to.
    pub cpu: u32,
    /// CPU that the kernel delivered the connection on.
    pub incoming_cpu: u32,
    /// Generation that the request was served by.
    pub generation: u64,
}

impl ServedBy {
    /// Of an answer of service `web` of [`Lab::site`].
    pub fn of(reply: &Reply) -> Result<Self> {
        let text = reply.header("x-served-by");
        let field = |name: &str| -> Result<u64> {
            let value = text.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).with_context(|| format!("no number {name} in {text:?}"))
        };
        Ok(Self {
            worker: field("worker")?.try_into()?,
            cpu: field("cpu")?.try_into()?,
            incoming_cpu: field("incoming-cpu")?.try_into()?,
            generation: field("generation")?,
        })
    }
}

/// A temporary folder that the worker's user may pass through. Its name tells the maker, for [`crate::netns::sweep`].
pub fn folder() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let prefix = format!("{}-", unique_name());
    Ok(tempfile::Builder::new().prefix(&prefix).permissions(PermissionsExt::from_mode(0o755)).tempdir()?)
}
