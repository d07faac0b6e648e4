//! What the reconciler tells others: one consistent picture, to be read without asking again.

use super::agents::{Refreshed, TlsNotes};
use super::changes::{Asked, Done, MAX_CHANGES, OnlyIf};
use super::checking::HealthNote;
use super::handing::{Handed, UpgradeError, UpgradeRequest, Upgraded};
use super::overlay::{ChangeError, Overlay};
use super::plan::{PlanError, ServiceIds};
use super::tickets::NoRandom;
use crate::config::{Config, LoadError, ProblemView};
use crate::datapath::{Counters, DatapathError, Description, FlowAnswer, PacketEvent, Protocol};
use crate::health::{Counts, Gauges, Key};
use crate::names::Note;
use crate::ocsp::staple::{Fingerprint, Staple};
use crate::state::{History, NotKept, Notes, Who};
use crate::supervisor::{WorkerError, WorkerView};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::ClearSessions;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::Instant;

/// The edge at one moment.
#[derive(Debug, Clone)]
pub struct State {
    /// When the edge began.
    pub started: Instant,
    /// The file in force.
    pub config: Arc<Config>,
    /// What was warned of when it was read.
    pub warnings: Arc<[ProblemView]>,
    /// What operators changed.
    pub overlay: Overlay,
    /// By pool and backend; none before the first check.
    pub health: BTreeMap<Key, HealthNote>,
    /// Checks done.
    pub checks: BTreeMap<Key, Arc<Counts>>,
    /// How busy the agent of checks is.
    pub checking: Arc<Gauges>,
    /// What the worker serves by.
    pub generation: u64,
    /// Service ids.
    pub ids: ServiceIds,
    /// The datapath.
    pub datapath: Description,
    /// Its counters, when they were asked for.
    pub counters: Counters,
    /// The worker.
    pub worker: WorkerView,
    /// Reloads that were applied, and that were refused.
    pub reloads: (u64, u64),
    /// Upgrades to this process, and from it that did not come off.
    pub upgrades: (u64, u64),
    /// Certificates, files and keys.
    pub tls: TlsNotes,
    /// What was changed by whom.
    pub history: History,
    /// Where that is kept.
    pub book: Notes,
    /// Transactions that were made, and that were refused.
    pub changes: (u64, u64),
    /// Why what operators had changed is not in force since the start.
    pub aside: Option<String>,
    /// Names of backends.
    pub names: BTreeMap<String, Note>,
}

/// A reload was taken.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// Generation in force.
    pub generation: u64,
    /// What the file is warned of.
    pub warnings: Arc<[ProblemView]>,
}

/// A flow's way, with the service's name.
#[derive(Debug, Clone)]
pub struct FlowWay {
    /// Service of the destination.
    pub service: Option<String>,
    /// The datapath's answer.
    pub answer: FlowAnswer,
}

/// Dropped packets, live, and the names of their services.
#[derive(Debug)]
pub struct Watch {
    /// As they are seen.
    pub events: broadcast::Receiver<PacketEvent>,
    /// Names by id, as they are now; closed when the edge ends.
    pub names: watch::Receiver<ServiceIds>,
}

/// What the reconciler is asked.
#[derive(Debug)]
pub enum Event {
    /// The edge as it is.
    Query {
        /// With the worker's counters of now, and the datapath's.
        counters: bool,
        /// The answer.
        reply: oneshot::Sender<State>,
    },
    /// Change what operators may.
    Change {
        /// What, by whom.
        asked: Asked,
        /// What came of it, or why nothing.
        reply: oneshot::Sender<Result<Done, Refusal>>,
    },
    /// Forget entries of a pool's persistence.
    ClearSessions {
        /// Pool.
        pool: String,
        /// Which.
        which: ClearSessions,
        /// How many there were.
        reply: oneshot::Sender<Result<u64, Refusal>>,
    },
    /// Read the file again.
    Reload {
        /// By whom.
        who: Who,
        /// Only if nobody has changed anything since.
        only_if: OnlyIf,
        /// The answer.
        reply: oneshot::Sender<Result<Reloaded, Refusal>>,
    },
    /// Read the files of certificates, authorities, revocation lists and ticket keys again.
    Refresh {
        /// The answer; none: nobody waits for it.
        reply: Option<oneshot::Sender<Result<Refreshed, Refusal>>>,
    },
    /// What is known of a staple from now on.
    Staple {
        /// Of the certificate.
        fingerprint: Fingerprint,
        /// The staple.
        staple: Staple,
    },
    /// DNS has other addresses for a name than before.
    Resolved {
        /// Name.
        host: String,
        /// Those that it has now.
        addresses: BTreeSet<IpAddr>,
    },
    /// See dropped packets.
    Watch {
        /// None: the datapath sees no packets.
        reply: oneshot::Sender<Option<Watch>>,
    },
    /// Where a flow goes.
    Flow {
        /// TCP or UDP.
        protocol: Protocol,
        /// Client.
        source: SocketAddr,
        /// Service.
        destination: SocketAddr,
        /// None: the datapath does not steer.
        reply: oneshot::Sender<Option<FlowWay>>,
    },
    /// Have a new control plane take over.
    Upgrade {
        /// Which, and how long it may take.
        request: UpgradeRequest,
        /// What came of it.
        reply: oneshot::Sender<Result<Upgraded, UpgradeError>>,
    },
    /// Another control plane is about to take over: change nothing from here on, and say what it needs.
    HandOver {
        /// None: that is so already.
        reply: oneshot::Sender<Option<Handed>>,
    },
    /// It did not: go on.
    TakeBack {
        /// When that is done.
        reply: oneshot::Sender<()>,
    },
    /// It did: leave what stands to it, drain the workers.
    Leave {
        /// For what is open.
        grace: Duration,
        /// All are gone.
        reply: oneshot::Sender<()>,
    },
    /// End: drain the worker, take everything out of the kernel.
    Shutdown {
        /// For what is open.
        grace: Duration,
        /// What could not be removed.
        reply: oneshot::Sender<Result<(), DatapathError>>,
    },
}

/// Why a change was not made. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It makes no sense.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The file cannot be used.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// Keys that hold for the life of the process.
    #[error("changed, but fixed while the edge runs: {}; restart bailey to change them", .0.join(", "))]
    Restart(Vec<&'static str>),
    /// A name that a pool has nothing else of has no address.
    #[error("pool {pool:?} would have no backend: {host:?} was not looked up: {why}")]
    Unresolved {
        /// Pool.
        pool: String,
        /// Name.
        host: String,
        /// What DNS said.
        why: String,
    },
    /// Packets are seen by XDP alone.
    #[error(
        "datapath = \"sockets\" sees no packets and denies none; set datapath = \"native\" or \"generic\" under [edge]"
    )]
    Unfiltered,
    /// One change of several; none of them was made.
    #[error("change {}, {change:?}: {why}; none of the changes was made", .index + 1)]
    Part {
        /// From 0.
        index: usize,
        /// In words.
        change: String,
        /// Why not.
        why: Box<Refusal>,
    },
    /// Too long.
    #[error("{0} changes at once are too many; {MAX_CHANGES} may be")]
    TooMany(usize),
    /// Somebody was faster.
    #[error("{what} {seen} is not what is in force: something was changed since, or it never was; it is {now} now")]
    Overtaken {
        /// `generation` or `change`.
        what: &'static str,
        /// What the asker has seen.
        seen: u64,
        /// What there is.
        now: u64,
    },
    /// It cannot be written down.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// It cannot be.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The worker did not take it.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The datapath did not take it.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// There are no keys for tickets.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// Another control plane takes over.
    #[error("an upgrade is under way, and nothing else is changed meanwhile; try again in a moment")]
    Upgrading,
    /// The edge is going down.
    #[error("the edge is shutting down")]
    Closing,
}

/// Keys that differ and hold for the life of the process.
pub(super) fn restart_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.edge, &new.edge);
    let (t, u) = (&a.tuning, &b.tuning);
    [
        ("edge.name", a.name != b.name),
        ("edge.datapath", a.datapath != b.datapath),
        ("edge.interfaces", a.interfaces != b.interfaces),
        ("edge.steering", a.steering != b.steering),
        ("edge.cpus", a.cpus != b.cpus),
        ("edge.user", a.user != b.user),
        ("edge.state", a.state != b.state),
        ("edge.state_history", a.state_history != b.state_history),
        ("edge.state_sessions", a.state_sessions != b.state_sessions),
        ("edge.worker_binary", a.worker_binary != b.worker_binary),
        ("edge.max_services", a.max_services != b.max_services),
        ("edge.max_addresses", a.max_addresses != b.max_addresses),
        ("edge.log", a.log != b.log),
        ("edge.worker_processes", a.life.workers != b.life.workers),
        ("edge.orphan_timeout", a.life.alone != b.life.alone),
        ("edge.drain_timeout", a.life.drain != b.life.drain),
        ("edge.packet_log_sample", a.packet_log_sample != b.packet_log_sample),
        ("edge.max_backends", t.max_backends != u.max_backends),
        ("edge.max_flows", t.max_flows != u.max_flows),
        ("edge.max_sources", t.max_sources != u.max_sources),
        ("edge.max_prefixes", t.max_prefixes != u.max_prefixes),
        ("edge.hash_seed", t.hash_seed != u.hash_seed && a.name == b.name),
        ("edge.ipip_source_v4", t.outer_v4 != u.outer_v4),
        ("edge.ipip_source_v6", t.outer_v6 != u.outer_v6),
        ("edge.events_per_second", t.events_per_second != u.events_per_second),
        ("edge.icmp_per_second", t.icmp_per_second != u.icmp_per_second),
        ("admin.socket", old.admin.socket != new.admin.socket),
        ("admin.group", old.admin.access.group != new.admin.access.group),
        ("admin.mode", old.admin.access.mode != new.admin.access.mode),
        ("admin.read_only_socket", old.admin.read_only != new.admin.read_only),
        ("admin.max_connections", old.admin.max_connections != new.admin.max_connections),
        ("admin.metrics", old.admin.metrics != new.admin.metrics),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
