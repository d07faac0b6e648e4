//! JSON of the admin socket: what the daemon answers and the command line reads.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/services`, `/v1/services/NAME` | | list of [`ServiceRow`], [`ServiceView`] |
//! | `GET /v1/pools`, `/v1/pools/NAME` | | list of [`PoolRow`], [`PoolView`] |
//! | `POST /v1/pools/NAME` | [`PoolRequest`] | [`Changed`] |
//! | `GET /v1/sessions/POOL?limit=N&after=KEY` | | [`SessionList`] |
//! | `POST /v1/sessions/POOL` | [`ClearSessions`] | [`SessionsCleared`] |
//! | `GET /v1/certificates`, `/v1/certificates/NAME` | | list of [`CertificateRow`], [`CertificateView`] |
//! | `POST /v1/certificates/reload` | | [`CertificatesReloaded`] |
//! | `POST /v1/flow` | [`FlowRequest`] | [`FlowView`] |
//! | `GET /v1/rules`, `/v1/rules/SERVICE` | | [`Rules`] |
//! | `POST /v1/rules` | [`RuleRequest`] | [`Changed`] |
//! | `POST /v1/changes` | [`ChangesRequest`] | [`Changed`] |
//! | `GET /v1/history?limit=N` | | [`HistoryView`] |
//! | `GET /v1/diff` | | [`DiffView`] |
//! | `POST /v1/watch` | [`WatchRequest`] | a [`WatchLine`] a line, and empty lines in between, until either side ends |
//! | `GET /v1/top` | | [`Top`] |
//! | `POST /v1/trace` | [`TraceRequest`] | [`TraceView`] |
//! | `POST /v1/reload` | [`OnlyIf`] or `null` | [`Reloaded`] |
//! | `POST /v1/upgrade` | [`UpgradeRequest`](crate::reconcile::UpgradeRequest) | [`Upgraded`](crate::reconcile::Upgraded) |
//!
//! What is refused has a code of 400 or above and [`Failure`] as its body. The read-only socket answers GET, `flow`,
//! `trace` and `watch` alone.

pub use super::api_certificates::*;
pub use super::api_changes::*;
pub use super::api_forward::*;
pub use super::api_health::*;
pub use super::api_sessions::*;
pub use super::api_status::*;
pub use super::api_tools::*;
use crate::config::ProblemView;
use crate::datapath::{FlowReason, Protocol};
use crate::reconcile::Mark;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// A service at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// Name.
    pub name: String,
    /// `http`, `https`, `tls`, `passthrough` or `l4`.
    pub mode: String,
    /// `IP:PORT`, `IP:FIRST-LAST` or `IP:*`.
    pub addresses: Vec<String>,
    /// `tcp`, `udp`.
    pub protocols: Vec<Protocol>,
    /// Packets that the datapath met.
    pub packets: u64,
    /// Of these, dropped.
    pub packets_dropped: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Open now.
    pub connections_active: u64,
    /// Requests answered.
    pub requests: u64,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// At a glance.
    #[serde(flatten)]
    pub row: ServiceRow,
    /// Number in the datapath's counters.
    pub id: Option<u32>,
    /// Names; the first is the default.
    pub certificates: Vec<String>,
    /// `1.2` or `1.3`.
    pub min_tls: Option<String>,
    /// Whether HTTP/2 is offered.
    pub http2: Option<bool>,
    /// In the order of matching.
    pub routes: Vec<RouteView>,
    /// Closed at accept because of the bound.
    pub connections_refused: u64,
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
    /// Handshakes done.
    pub handshakes: u64,
    /// Handshakes failed.
    pub handshake_failures: u64,
    /// Handshakes by word.
    #[serde(default)]
    pub handshake_counts: HandshakesView,
    /// By the name that a client asks for; the first is for all others.
    #[serde(default)]
    pub policies: Vec<PolicyView>,
    /// Whether clients that ask for another name, or none, are refused.
    #[serde(default)]
    pub strict_sni: bool,
    /// What ALPN offers.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// Of mode `l4`.
    pub forward: Option<ForwardView>,
    /// Packets by what became of them.
    pub verdicts: Vec<VerdictView>,
    /// Limits in force.
    pub limits: Option<LimitsView>,
    /// Whether its SYNs are answered with cookies now.
    pub flooded: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteView {
    /// Name.
    pub name: String,
    /// Empty: every host.
    pub hosts: Vec<String>,
    /// Prefix.
    pub path: String,
    /// Pool.
    pub pool: String,
}

/// A pool at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolRow {
    /// Name.
    pub name: String,
    /// `round_robin` or `least_connections`.
    pub balance: String,
    /// Backends that may be chosen.
    pub up: usize,
    /// All.
    pub total: usize,
    /// Requests in flight.
    pub active: u64,
    /// Whether it differs from the file.
    pub changed: bool,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// At a glance.
    #[serde(flatten)]
    pub row: PoolRow,
    /// For people: `tcp every 5s`; none: no checks.
    pub health: Option<String>,
    /// For people: `verified as app.example`; none: clear text.
    pub tls: Option<String>,
    /// Backends.
    pub backends: Vec<BackendView>,
    /// Seconds that a drain may take, where none is said for it.
    #[serde(default)]
    pub drain_seconds: u64,
    /// Names that stand for some of them.
    #[serde(default)]
    pub names: Vec<NameView>,
    /// Backends that the file has and an operator removed.
    pub removed: Vec<SocketAddr>,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// Where.
    pub address: SocketAddr,
    /// 1 to 256.
    pub weight: u16,
    /// State in force: `up`, `down`, `draining`, `disabled`.
    pub state: String,
    /// What the operator says.
    pub mark: Mark,
    /// What the checks say: `up`, `down`, `unknown` (none is done yet), `unchecked`.
    pub health: String,
    /// What the check that decided found.
    pub cause: Option<String>,
    /// Since the checks say so.
    pub since_seconds: Option<u64>,
    /// The name that it was found by; none: the file or an operator says its address.
    #[serde(default)]
    pub name: Option<String>,
    /// Requests and tunnels in flight.
    pub active: u64,
    /// Of these, tunnels.
    #[serde(default)]
    pub tunnels: u64,
    /// Of a backend that drains: entries of the pool's persistence that lead here; none: there is no table of them.
    #[serde(default)]
    pub sessions: Option<u64>,
    /// Until what is in flight is cut; none: it does not drain, or has drained.
    #[serde(default)]
    pub drain_left_seconds: Option<u64>,
    /// Requests that were cut at the end of a drain.
    #[serde(default)]
    pub cut_requests: u64,
    /// The same of tunnels.
    #[serde(default)]
    pub cut_tunnels: u64,
    /// Connections open.
    pub connections_open: u64,
    /// Requests answered.
    pub requests: u64,
    /// Failures of all kinds.
    pub failures: u64,
    /// Whether the file has it.
    pub in_file: bool,
    /// Whether anything about it differs from the file.
    pub changed: bool,
    /// By forwarded service.
    pub forwarded: Vec<ForwardedView>,
    /// Checks, answers and operators put together.
    #[serde(flatten)]
    pub standing: StandingView,
}

/// A name that stands for the addresses that DNS has for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NameView {
    /// With its port.
    pub name: String,
    /// In force.
    pub addresses: Vec<IpAddr>,
    /// Since DNS last said something about it.
    pub answered_seconds: Option<u64>,
    /// Until it is looked up again.
    pub next_seconds: Option<u64>,
    /// Since when lookups fail.
    pub failing_seconds: Option<u64>,
    /// Why the last one did.
    pub error: Option<String>,
    /// Since when DNS says that it has no address.
    pub empty_seconds: Option<u64>,
}

/// Which way a flow goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowRequest {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Client.
    pub source: SocketAddr,
    /// Service.
    pub destination: SocketAddr,
}

/// The way of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowView {
    /// None: the destination is no service.
    pub service: Option<String>,
    /// Worker thread, where steering is by hash.
    pub worker: Option<u32>,
    /// Its CPU.
    pub cpu: Option<u32>,
    /// Hash of the flow.
    pub hash: Option<u32>,
    /// Slot of the worker table, or of the service's ring.
    pub slot: Option<u32>,
    /// Backend of a forwarded service.
    pub backend: Option<SocketAddr>,
    /// Why.
    pub reason: Option<FlowReason>,
}

/// A reload was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Generation in force.
    pub generation: u64,
    /// What the file is warned of.
    pub warnings: Vec<ProblemView>,
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong.
    pub error: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Which of several changes was refused, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<usize>,
    /// Of a config that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemView>,
}
