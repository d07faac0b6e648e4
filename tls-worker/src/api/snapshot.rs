//! [`Snapshot`]: everything a worker serves by, immutable, under one generation number. It holds no path and no
//! host name to resolve: the worker opens no file. Indices point into the snapshot's own lists.

use super::access_log::AccessLog;
use super::actions::{EdgeAnswer, HeaderAction, Mirror, PoolShare, Rewrite};
use super::authorizer::Authorizer;
use super::balancing::{BackendRole, Balance, Balancing, Multiplex, PoolLimits};
use super::compression::Compression;
use super::edges::{ClientLimits, Forwarding, ProxyHeader, ProxyVersion};
use super::http_limits::{HttpLimits, PathPolicy};
use super::persistence::Persistence;
use super::resilience::{Hedge, Outliers, Retry, RetryBudget};
use super::routing::{Condition, FieldMatch, PathMatch};
use super::tls_words::{Certificate, ClientCertHeader, ServerTls, TicketKeys, UpstreamTls};
use serde::{Deserialize, Serialize};
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
    /// Keys of session tickets.
    #[serde(default)]
    pub tickets: TicketKeys,
    /// Bounds of handshakes.
    #[serde(default)]
    pub handshakes: HandshakeLimits,
    /// Connections of clients at the most, of one worker thread; 0: no bound but those of services.
    #[serde(default)]
    pub max_connections_per_thread: u32,
    /// Access logs that services point into.
    #[serde(default)]
    pub access_logs: Vec<AccessLog>,
    /// Authorizers that routes point into.
    #[serde(default)]
    pub authorizers: Vec<Authorizer>,
}

/// Bounds of what is not a connection yet. Each of one worker thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeLimits {
    /// Handshakes under way at once, those included whose ClientHello is not whole; more are closed at accept.
    pub at_once: u32,
    /// The same of one source (an IPv4 address, an IPv6 /64).
    pub per_source: u32,
    /// Handshakes that compute before established connections get their turn again; the others queue.
    pub per_turn: u32,
    /// Longest ClientHello, bytes.
    pub max_client_hello: u32,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        HandshakeLimits { at_once: 4096, per_source: 256, per_turn: 4, max_client_hello: 16 << 10 }
    }
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Name, unique.
    pub name: String,
    /// Where clients reach it.
    pub addresses: Vec<ListenAddress>,
    /// What is spoken there.
    pub mode: Mode,
    /// For [`Mode::Https`] and [`Mode::Tls`].
    pub tls: Option<ServerTls>,
    /// In the order of matching ([`Route::rank`]); the first that matches is taken. None matches: 404, or without HTTP no
    /// connection.
    pub routes: Vec<Route>,
    /// Deadlines towards clients.
    pub timeouts: ClientTimeouts,
    /// Response header that names the worker, its CPU and the CPU the kernel delivered on.
    pub served_by_header: Option<String>,
    /// Connections of one thread at once; more are closed at accept and counted.
    pub max_connections_per_thread: u32,
    /// Connections begin with a PROXY header; none: they do not.
    #[serde(default)]
    pub proxy_header: Option<ProxyHeader>,
    /// Clients behind proxies, and what backends are told.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Connections and rates of requests.
    #[serde(default)]
    pub client_limits: ClientLimits,
    /// Into [`Snapshot::access_logs`]; none: nothing is written of its requests.
    #[serde(default)]
    pub access_log: Option<usize>,
    /// What becomes of paths.
    #[serde(default)]
    pub path: PathPolicy,
    /// What clients may send.
    #[serde(default)]
    pub limits: HttpLimits,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in clear text.
    #[default]
    Http,
    /// TLS, then HTTP/1.1 or HTTP/2 by ALPN.
    Https,
    /// TLS, then bytes to and from a backend, as they are.
    Tls,
    /// Bytes to and from a backend that has the TLS; the ClientHello says which.
    Passthrough,
    /// Bytes to and from a backend, whatever they are.
    Tcp,
}

/// Which requests go to which pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Route {
    /// Name in the config. A route with hosts of different rank stands here once for each rank, under one name.
    pub name: String,
    /// Lower case, without port, `*.` allowed in front; empty: every host. Without HTTP it is the SNI.
    pub hosts: Vec<String>,
    /// What the path must be.
    #[serde(default)]
    pub path: PathMatch,
    /// One of these; empty: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Each of these.
    #[serde(default)]
    pub headers: Vec<FieldMatch>,
    /// Each of these.
    #[serde(default)]
    pub query: Vec<FieldMatch>,
    /// And this.
    #[serde(default)]
    pub when: Option<Condition>,
    /// The highest is tried first, whatever else is asked.
    #[serde(default)]
    pub priority: u32,
    /// For [`Mode::Tls`] and [`Mode::Passthrough`]: ALPN names, one of which the client offers (passthrough) or
    /// was agreed on (tls). Empty: any, or none.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// Into [`Snapshot::pools`]. Nothing goes there where `split` or `answer` says otherwise.
    pub pool: usize,
    /// Pools by share, in place of `pool`; empty: `pool` alone.
    #[serde(default)]
    pub split: Vec<PoolShare>,
    /// The edge answers, no pool does.
    #[serde(default)]
    pub answer: Option<EdgeAnswer>,
    /// Another pool that gets requests too.
    #[serde(default)]
    pub mirror: Option<Mirror>,
    /// What backends are asked for instead.
    #[serde(default)]
    pub rewrite: Rewrite,
    /// Changes of a request's header, in this order.
    #[serde(default)]
    pub request_headers: Vec<HeaderAction>,
    /// Changes of an answer's header, whoever made it, in this order.
    #[serde(default)]
    pub response_headers: Vec<HeaderAction>,
    /// From a request's header to the header of its answer: over everything that is done for it. None: the pool's
    /// timeouts alone.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// Longest body of a request, bytes, in place of [`HttpLimits::body_bytes`]; 0: no bound.
    #[serde(default)]
    pub max_body: Option<u64>,
    /// In place of [`BackendTimeouts::response`].
    #[serde(default)]
    pub response_timeout: Option<Duration>,
    /// What the backend is told of a client's certificate.
    #[serde(default)]
    pub client_cert: Vec<ClientCertHeader>,
    /// When a request is tried again; none: as the pool says.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// Who is asked first; into [`Snapshot::authorizers`].
    #[serde(default)]
    pub authorizer: Option<usize>,
    /// Which answers are compressed; none: none is.
    #[serde(default)]
    pub compression: Option<Compression>,
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

impl Default for ClientTimeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        ClientTimeouts { handshake: seconds(10), header: seconds(10), idle: seconds(180) }
    }
}

/// Backends that serve the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pool {
    /// Name, unique.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// The backends, of every state.
    pub backends: Vec<Backend>,
    /// TLS towards the backends; none: clear text. Connections of [`Mode::Passthrough`] have their own, and go without it.
    pub tls: Option<UpstreamTls>,
    /// Deadlines towards backends.
    pub timeouts: BackendTimeouts,
    /// Idle connections that one thread keeps to one backend.
    pub max_idle_per_thread: u32,
    /// For connections without HTTP: the client's address goes ahead in a PROXY header of this version.
    #[serde(default)]
    pub proxy_version: Option<ProxyVersion>,
    /// What else decides about the choice of a backend.
    #[serde(default)]
    pub balancing: Balancing,
    /// Bounds.
    #[serde(default)]
    pub limits: PoolLimits,
    /// HTTP/2 towards the backends.
    #[serde(default)]
    pub multiplex: Multiplex,
    /// When a request is tried again, where its route does not say it.
    #[serde(default)]
    pub retry: Retry,
    /// How many retries and hedges there may be.
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// None: no second try beside the first.
    #[serde(default)]
    pub hedge: Option<Hedge>,
    /// None: no backend is left out for its answers.
    #[serde(default)]
    pub outliers: Option<Outliers>,
    /// Clients that come again go to the backend that they had.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// How long requests and tunnels may take that are in flight on a backend that gets no new ones (draining, disabled,
    /// or gone); then they are cut. None: as long as they take.
    #[serde(default)]
    pub drain_timeout: Option<Duration>,
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
    /// What it is to the pool.
    #[serde(default)]
    pub role: BackendRole,
    /// What its certificate is verified against, where the pool's TLS says no name; none: its address.
    #[serde(default)]
    pub server_name: Option<String>,
    /// In place of [`Pool::drain_timeout`].
    #[serde(default)]
    pub drain_timeout: Option<Duration>,
}

/// Whether a backend may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Yes.
    Up,
    /// No: the checks say that it is down.
    Down,
    /// No new request, but those of clients that are kept; requests in flight go on, for a time.
    Draining,
    /// No: the operator says so.
    Disabled,
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

impl Default for BackendTimeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        BackendTimeouts { connect: seconds(5), response: seconds(60), idle: seconds(360), keepalive: seconds(60) }
    }
}
