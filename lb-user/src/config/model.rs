//! The config as the program uses it: every reference leads somewhere, every number is within its bounds, every
//! file has been read. What the worker takes as it is stands here in the worker's own types.

mod health;
mod tls;

pub use health::{DnsProbe, HealthCheck, HttpProbe, LdapProbe, Probe, ScriptProbe, TextProbe};
pub use tls::{Certificate, CertificateSource, FileContents, Fingerprint, Tls, WatchedFile};

use crate::admin::SocketAccess;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::{self, EdgeAnswer, Route};

use super::dns::Dns;
use super::names::{FoundBy, NamedBackend};
pub use crate::datapath::Steering;
use crate::datapath::{ForwardHash, ForwardMode, Limits, Protocol, ServiceAddress, Tuning};
use ipnet::IpNet;

/// One file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[edge]`
    pub edge: Edge,
    /// `[admin]`
    pub admin: Admin,
    /// `[dns]`
    pub dns: Dns,
    /// `[tls]`
    pub tls: Tls,
    /// `[certificate.NAME]`; services hold indices.
    pub certificates: Vec<Certificate>,
    /// `[service.NAME]` that ends in a worker, routes in the order of matching, pools by index.
    pub services: Vec<api::Service>,
    /// `[service.NAME]` with mode `l4`, pools by index.
    pub forwards: Vec<Forward>,
    /// Limits by service; of those that have some.
    pub limits: BTreeMap<String, Limits>,
    /// What the file and the files that it names deny and allow.
    pub prefixes: Arc<Prefixes>,
    /// `[pool.NAME]`, and what authorizers' URLs stand for; services and authorizers hold indices.
    pub pools: Vec<Pool>,
    /// `[authorizer.NAME]`; routes hold indices.
    pub authorizers: Vec<api::Authorizer>,
    /// `[access_log.NAME]`; services hold indices.
    pub access_logs: Vec<AccessLog>,
    /// The text that it was made from, and the file of it.
    pub origin: Origin,
    /// Files of certificates, keys, authorities, revocation lists and ticket keys; each once.
    pub files: Vec<WatchedFile>,
    /// What they held.
    pub contents: FileContents,
}

/// The text of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// As it was given.
    pub path: PathBuf,
    /// All of it.
    pub text: Arc<str>,
}

impl Config {
    /// The certificate of a name.
    pub fn certificate(&self, name: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.name() == name)
    }

    /// The pool of a name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// The names of services of both kinds.
    pub fn service_names(&self) -> impl Iterator<Item = &str> + Clone {
        let terminated = self.services.iter().map(|service| service.name.as_str());
        terminated.chain(self.forwards.iter().map(|forward| forward.name.as_str()))
    }

    /// Where a route's requests go, in a few words.
    pub fn leads_to(&self, route: &Route) -> String {
        let name = |pool: usize| self.pools.get(pool).map(|pool| pool.name.as_str()).unwrap_or_default();
        match (&route.answer, &route.split[..]) {
            (Some(EdgeAnswer::Redirect(redirect)), _) => format!("redirect {}", redirect.code),
            (Some(EdgeAnswer::Fixed(fixed)), _) => format!("answer {}", fixed.status),
            (None, []) => name(route.pool).to_owned(),
            (None, split) => {
                let shares = split.iter().map(|share| format!("{} {}", name(share.pool), share.weight));
                shares.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Pools, by index, that a route of a terminated service leads to, or an authorizer asks.
    pub fn routed_pools(&self) -> impl Iterator<Item = usize> {
        let routed = self.services.iter().flat_map(|service| service.routes.iter().flat_map(Route::pools));
        routed.chain(self.authorizers.iter().map(|authorizer| authorizer.pool))
    }
}

/// A service whose packets are sent on without a look inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Name.
    pub name: String,
    /// Where clients reach it.
    pub addresses: Vec<ServiceAddress>,
    /// At least one, sorted.
    pub protocols: Vec<Protocol>,
    /// Index of its pool.
    pub pool: usize,
    /// How packets reach a backend.
    pub mode: ForwardMode,
    /// What chooses the backend.
    pub hash: ForwardHash,
    /// Slots of its ring: a prime.
    pub slots: u32,
    /// How long flows that began before a change are given to be seen.
    pub drain: Duration,
    /// A UDP flow that was silent for so long has ended.
    pub udp_idle: Duration,
    /// `ipip`: bytes of an outer packet; none: what the route says.
    pub outer_mtu: Option<u32>,
}

/// What is denied and allowed, by service (`None`: all of them) and network; true: allowed.
pub type Prefixes = BTreeMap<Option<String>, BTreeMap<IpNet, bool>>;

/// What holds for the life of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Instance.
    pub name: String,
    /// How connections come in.
    pub datapath: DatapathKind,
    /// For XDP; empty with [`DatapathKind::Sockets`].
    pub interfaces: Vec<String>,
    /// How a flow finds its worker.
    pub steering: Steering,
    /// One worker thread each; never empty.
    pub cpus: Vec<u32>,
    /// User of the worker process; none: `bailey`, or `nobody` where that is missing.
    pub user: Option<String>,
    /// None: beside this program.
    pub worker_binary: Option<PathBuf>,
    /// Directory for what is kept across restarts; none: nothing is.
    pub state: Option<PathBuf>,
    /// Changes that the history keeps.
    pub state_history: u32,
    /// Entries of persistence that are written there in a second at the most; 0: none are kept.
    pub state_sessions: u32,
    /// Size of the kernel's tables.
    pub max_services: u32,
    /// Size of the kernel's tables.
    pub max_addresses: u32,
    /// Connections of clients at the most, of all workers.
    pub max_connections: u32,
    /// Files that a worker may have open.
    pub open_files: u64,
    /// Health checks at one time.
    pub max_health_checks: u32,
    /// Filter in tracing's syntax.
    pub log: String,
    /// One packet in so many is logged; 0: none.
    pub packet_log_sample: u32,
    /// Sizes and numbers of forwarding and the shield.
    pub tuning: Tuning,
    /// Processes, and how they follow one another.
    pub life: Life,
}

/// Processes, and how they follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Worker processes that share the threads.
    pub workers: u32,
    /// How long workers serve without a control plane; zero: they end with it.
    pub alone: Duration,
    /// What open connections of workers get that others took the place of.
    pub drain: Duration,
}

impl Edge {
    /// Whether packets are seen before the stack sees them.
    pub fn filters(&self) -> bool {
        self.datapath != DatapathKind::Sockets
    }
}

/// How connections come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatapathKind {
    /// XDP in the driver.
    Native,
    /// XDP in the stack.
    Generic,
    /// No BPF.
    Sockets,
}

/// Where operators and Prometheus reach the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket.
    pub socket: PathBuf,
    /// Who may connect to it.
    pub access: SocketAccess,
    /// A socket that changes nothing, and who may connect to that.
    pub read_only: Option<(PathBuf, SocketAccess)>,
    /// Connections at one time, of each socket.
    pub max_connections: u32,
    /// Address of `/metrics`.
    pub metrics: Option<SocketAddr>,
}

/// An access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// What is written.
    pub log: api::AccessLog,
    /// Where to.
    pub target: LogTarget,
}

/// Where lines of an access log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// A file, absolute.
    File(PathBuf),
    /// The daemon's standard output.
    Stdout,
    /// The host's syslog.
    Syslog(Syslog),
}

/// How syslog is spoken with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Its datagram socket.
    pub socket: PathBuf,
    /// Number of the facility.
    pub facility: u8,
    /// What messages begin with.
    pub tag: String,
}

/// Backends that serve the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// Weight by address; of names, those that DNS has.
    pub backends: BTreeMap<SocketAddr, u16>,
    /// Backends that are known by name.
    pub names: Vec<NamedBackend>,
    /// Where those come from that the file does not name itself.
    pub found: BTreeMap<SocketAddr, FoundBy>,
    /// What backends are to the pool, of those that are something special.
    pub roles: BTreeMap<SocketAddr, api::BackendRole>,
    /// Backends that the file takes out of use.
    pub marks: BTreeMap<SocketAddr, Mark>,
    /// How one is chosen.
    pub balance: api::Balance,
    /// What else decides about that.
    pub balancing: api::Balancing,
    /// Bounds.
    pub limits: api::PoolLimits,
    /// HTTP/2 towards backends.
    pub multiplex: api::Multiplex,
    /// When a request is tried again.
    pub retry: api::Retry,
    /// How many retries there may be.
    pub retry_budget: api::RetryBudget,
    /// When a second try is begun beside the first.
    pub hedge: Option<api::Hedge>,
    /// When a backend is left out for how it answers.
    pub outliers: Option<api::Outliers>,
    /// Idle connections that a worker thread keeps to a backend.
    pub max_idle: u32,
    /// Deadlines.
    pub timeouts: api::BackendTimeouts,
    /// TLS towards the backends, roots read.
    pub tls: Option<api::UpstreamTls>,
    /// Version of the PROXY protocol in which clients' addresses go ahead.
    pub proxy_version: Option<api::ProxyVersion>,
    /// Clients that come again go to the backend that they had.
    pub persistence: Option<api::Persistence>,
    /// How long what is in flight on a backend may take that gets no new requests.
    pub drain_timeout: Duration,
    /// Checks; none: a backend counts as up.
    pub health: Option<Arc<HealthCheck>>,
}

impl Pool {
    /// These backends, all else as it is where nothing is written.
    pub fn of(name: String, backends: BTreeMap<SocketAddr, u16>, names: Vec<NamedBackend>) -> Self {
        Pool {
            name,
            backends,
            names,
            found: BTreeMap::new(),
            balance: api::Balance::default(),
            roles: BTreeMap::new(),
            marks: BTreeMap::new(),
            balancing: api::Balancing::default(),
            limits: api::PoolLimits::default(),
            multiplex: api::Multiplex::default(),
            retry: api::Retry::default(),
            retry_budget: api::RetryBudget::default(),
            hedge: None,
            outliers: None,
            max_idle: 64,
            timeouts: api::BackendTimeouts::default(),
            tls: None,
            proxy_version: None,
            persistence: None,
            drain_timeout: DRAIN_TIMEOUT,
            health: None,
        }
    }
}

/// What an operator says about a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Serves, when its checks pass.
    #[default]
    Enabled,
    /// Takes no new request.
    Draining,
    /// Takes none.
    Disabled,
}

/// [`Pool::drain_timeout`] where nothing is written.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Most backends of a pool, those added at run time included.
pub const MAX_BACKENDS: usize = 1024;
/// Highest weight of a backend.
pub const MAX_WEIGHT: u16 = 256;
