//! [`Snapshot`]: everything a worker serves by, immutable, under one generation number. It holds no path and no
//! host name to resolve: the worker opens no file. Indices point into the snapshot's own lists.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One consistent state of everything that is served.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Rises by at least one with every snapshot.
    pub generation: u64,
    /// Services.
    pub services: Vec<Service>,
    /// Pools that routes point into.
    pub pools: Vec<Pool>,
    /// Certificates that services point into.
    pub certificates: Vec<Certificate>,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Name, unique.
    pub name: String,
    /// Where clients reach it.
    pub addresses: Vec<ListenAddress>,
    /// What is spoken there.
    pub mode: Mode,
    /// For [`Mode::Https`].
    pub tls: Option<ServerTls>,
    /// In the order of matching; the first that matches is taken. None matches: 404.
    pub routes: Vec<Route>,
    /// Deadlines towards clients.
    pub timeouts: ClientTimeouts,
    /// Response header that names the worker, its CPU and the CPU the kernel delivered on.
    pub served_by_header: Option<String>,
    /// Connections of one thread at once; more are closed at accept and counted.
    pub max_connections_per_thread: u32,
}

/// Address and port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListenAddress {
    /// Never a mapped IPv4 address; unspecified stands for every address of the family (`sockets` only).
    pub address: IpAddr,
    /// None: every port.
    pub port: Option<u16>,
}

/// What a service speaks with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in clear text.
    Http,
    /// TLS, then HTTP/1.1 or HTTP/2 by ALPN.
    Https,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerTls {
    /// Into [`Snapshot::certificates`]; picked by SNI, the first is the default.
    pub certificates: Vec<usize>,
    /// Lowest version.
    pub min_version: TlsVersion,
    /// Whether `h2` is offered by ALPN beside `http/1.1`.
    pub http2: bool,
}

/// Versions of TLS that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate chain with its key.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Name in the config.
    pub name: String,
    /// DNS names (also `*.example.com`) that it is served for, lower case.
    pub names: Vec<String>,
    /// DER, leaf first.
    pub chain: Vec<Der>,
    /// PKCS#8, PKCS#1 or SEC1 private key, DER.
    pub key: Der,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of every log.
        f.debug_struct("Certificate").field("name", &self.name).field("names", &self.names).finish_non_exhaustive()
    }
}

/// DER bytes; base64 on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

impl std::fmt::Debug for Der {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

impl Serialize for Der {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map(Der).map_err(serde::de::Error::custom)
    }
}

/// Which requests go to which pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Name in the config. A route with hosts of different rank stands here once for each rank, under one name.
    pub name: String,
    /// Lower case, without port, `*.` allowed in front; empty: every host.
    pub hosts: Vec<String>,
    /// Gateway API's `PathPrefix`: whole path elements. None: every path.
    pub path_prefix: Option<String>,
    /// Into [`Snapshot::pools`].
    pub pool: usize,
}

/// Deadlines towards clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClientTimeouts {
    /// From accept to the end of the TLS handshake, ClientHello included.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its header.
    pub header: Duration,
    /// Without a request in flight (keep-alive), and without a byte in either direction while one is.
    pub idle: Duration,
}

/// Backends that serve the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Name, unique.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// The backends, of every state.
    pub backends: Vec<Backend>,
    /// TLS towards the backends; none: clear text.
    pub tls: Option<UpstreamTls>,
    /// Deadlines towards backends.
    pub timeouts: BackendTimeouts,
    /// Idle connections that one thread keeps to one backend.
    pub max_idle_per_thread: u32,
}

/// How a backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, by weight (smooth).
    RoundRobin,
    /// Fewest requests in flight on this thread, relative to weight.
    LeastConnections,
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Where it is; also its name.
    pub address: SocketAddr,
    /// 1 to 256.
    pub weight: u16,
    /// Whether it may be chosen.
    pub state: BackendState,
}

/// Whether a backend may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Yes.
    Up,
    /// No: the checks say that it is down.
    Down,
    /// No new request; requests in flight go on.
    Draining,
    /// No: the operator says so.
    Disabled,
}

/// TLS towards a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// Whether chain and name are verified.
    pub verify: bool,
    /// Trusted roots, DER. The control plane fills in the system's.
    pub roots: Vec<Der>,
    /// Name sent as SNI and verified; none: the backend's IP address is verified and no SNI is sent.
    pub server_name: Option<String>,
}

/// Deadlines towards backends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BackendTimeouts {
    /// TCP connect and TLS handshake.
    pub connect: Duration,
    /// From the request's last byte to the end of the response's header.
    pub response: Duration,
    /// Without a byte while a body or a tunnel is open.
    pub idle: Duration,
    /// An unused connection is kept so long.
    pub keepalive: Duration,
}
