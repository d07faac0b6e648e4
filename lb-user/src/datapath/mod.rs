//! The datapath: how a connection gets from the wire to a worker. The reconciler alone holds it.
//!
//! Two kinds: `kernel` (XDP and sk_lookup; the only place that names aya) and `sockets` (ordinary SO_REUSEPORT
//! listeners, no privilege). Whoever calls knows services, addresses and workers, and never maps or programs.
//!
//! A datapath outlives the process that opened it, where that is asked for: one control plane leaves it ([`Datapath::leave`]),
//! or dies, and the next opens it as [`Inherited`].

mod decap;
mod forward;
mod kernel;
mod listen;
pub mod probe;
mod slots;
mod sockets;

pub use decap::{Decap, DecapCounters, DecapOptions};
pub use forward::*;
pub use kernel::{KernelDatapath, KernelOptions, Steering};
pub use sockets::SocketsDatapath;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tls_worker::api::{ListenAddress, ListenerInfo};
use tokio::sync::broadcast;

/// What the datapath is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// Terminated services, each with the id it keeps for the edge's life (1-based, dense where possible).
    pub services: Vec<DesiredService>,
    /// Forwarded services.
    pub forwards: Vec<DesiredForward>,
    /// Limits by service id, of services of both kinds.
    pub limits: BTreeMap<u32, Limits>,
    /// Denied and allowed prefixes, sorted by service and network.
    pub prefixes: Arc<Vec<PrefixRule>>,
}

/// One terminated TCP service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredService {
    /// 1-based.
    pub id: u32,
    /// Name, for errors.
    pub name: String,
    /// Where clients reach it.
    pub addresses: Vec<ListenAddress>,
}

/// A worker thread as the datapath sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Dense, from 0.
    pub index: u32,
    /// CPU that it is pinned to.
    pub cpu: u32,
}

/// A listening socket, held by the datapath, lent to workers.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unique for the process's life; never used again for another socket.
    pub id: u64,
    /// [`Worker::index`].
    pub worker: u32,
    /// Address it is bound to; none: every service is steered to it.
    pub address: Option<SocketAddr>,
    /// The socket.
    pub socket: Arc<OwnedFd>,
}

impl Listener {
    /// One that another process held, as that tells of it.
    pub fn told(info: ListenerInfo, socket: OwnedFd) -> Self {
        Self { id: info.id, worker: info.thread, address: info.address, socket: Arc::new(socket) }
    }
}

/// What an edge of the same name left standing, for the next control plane to go on with.
#[derive(Debug, Clone)]
pub struct Inherited {
    /// Listeners that workers hold; their ids stay.
    pub listeners: Vec<Listener>,
    /// What [`Datapath::note`] gave there last.
    pub note: serde_json::Value,
    /// The old control plane still runs and hands over; false: it is dead.
    pub alive: bool,
}

/// What an operator is told about the datapath.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Description {
    /// `native`, `generic` or `sockets`.
    pub datapath: String,
    /// `hash` or `rss`; none for `sockets`.
    pub steering: Option<String>,
    /// By interface: the mode it was attached in.
    pub interfaces: Vec<(String, String)>,
    /// Directory of the pins.
    pub pins: Option<String>,
    /// Addresses added as local routes.
    pub addresses: Vec<IpAddr>,
}

/// Counters read from the kernel, summed over CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Only rows that are not zero.
    pub packets: Vec<PacketCounter>,
    /// Connections assigned, by worker index. Empty for `sockets`.
    pub worker_flows: Vec<(u32, u64)>,
    /// Forwarded services.
    pub forwards: Vec<ForwardState>,
    /// The shield.
    pub shield: ShieldState,
}

/// Packets of one service with one verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketCounter {
    /// [`DesiredService::id`]; 0: no service.
    pub service: u32,
    /// [`lb_common::Verdict::name`].
    pub verdict: &'static str,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Where a flow goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct FlowAnswer {
    /// Service id, none when the destination is no service.
    pub service: Option<u32>,
    /// Hash, slot, worker and CPU where steering is by hash.
    pub hash: Option<u32>,
    /// Slot of the worker table.
    pub slot: Option<u32>,
    /// Worker index.
    pub worker: Option<u32>,
    /// CPU of that worker.
    pub cpu: Option<u32>,
    /// Backend of a forwarded service.
    pub backend: Option<SocketAddr>,
    /// Why; none where the datapath cannot tell.
    pub reason: Option<FlowReason>,
}

/// The seam between the reconciler and the kernel.
pub trait Datapath: Send + 'static {
    /// Make the kernel equal to `desired`. On an error nothing has changed (what was done is undone). Gives the
    /// listeners that stand now, all of them; a listener that is gone from the list is closed once workers let go.
    fn apply(&mut self, desired: &Desired) -> impl Future<Output = Result<Vec<Listener>, DatapathError>> + Send;

    /// Read the counters.
    fn counters(&self) -> Result<Counters, DatapathError>;

    /// Which worker or backend a flow from `source` to `destination` would go to.
    fn flow(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Option<FlowAnswer>;

    /// What must be done again and again: settle slots whose flows have ended, keep next hops known, drop prefixes
    /// that have run out. Called about once a second; never an error, what fails is tried again.
    fn tick(&mut self) -> impl Future<Output = ()> + Send;

    /// Packets that are dropped, from now on; none where the datapath sees no packets.
    fn events(&self) -> Option<broadcast::Receiver<PacketEvent>>;

    /// For `status`.
    fn describe(&self) -> Description;

    /// What the next control plane needs of this one to go on with what stands, beyond the listeners: opaque to
    /// everybody else, versioned by the datapath itself. It changes with [`Self::apply`] and [`Self::tick`].
    fn note(&self) -> serde_json::Value;

    /// Let go of everything without taking it out of the kernel: packets go where they went.
    fn leave(self);

    /// An heir that was opened with [`Inherited::alive`] did not become ready, and has ended: take back what it changed,
    /// and go on as before it. From its opening until then or until [`Self::leave`], nothing is changed here.
    fn retake(&mut self) -> impl Future<Output = Result<(), DatapathError>> + Send {
        async { Ok(()) }
    }

    /// Take everything out of the kernel again: programs, links, pins, routes.
    fn close(self) -> impl Future<Output = Result<(), DatapathError>> + Send;
}

/// Why the datapath could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// Missing privilege.
    #[error("no permission to {what}: {source}; run as root, or set datapath = \"sockets\" under [edge]")]
    Permission {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No such network interface.
    #[error("interface {name:?} does not exist; this host has: {available}")]
    NoInterface {
        /// As written.
        name: String,
        /// Names, comma separated.
        available: String,
    },
    /// Another program sits on the interface.
    #[error(
        "interface {interface} already carries the XDP program {program:?} (id {id}), which is not this edge's; detach it first (ip link set dev {interface} xdp off) or leave the interface out"
    )]
    ForeignProgram {
        /// Interface.
        interface: String,
        /// Name of the program.
        program: String,
        /// Its kernel id.
        id: u32,
    },
    /// Another edge of this name lives, or left its pins.
    #[error("instance {name:?} is already running or has left pins in {pins}: {why}")]
    Occupied {
        /// Instance name.
        name: String,
        /// Directory.
        pins: String,
        /// Which.
        why: String,
    },
    /// What stands was made by another version.
    #[error(
        "the edge that serves has pins of version {theirs} in {pins}, and this one goes on with {ours} alone; end the old edge, then start this one: between the two nothing is served"
    )]
    Version {
        /// Directory.
        pins: String,
        /// What is there: of the layout, of the tables.
        theirs: String,
        /// What this version makes.
        ours: String,
    },
    /// What stands has other sizes than the config asks for.
    #[error(
        "{key} under [edge] is not what the edge that serves was started with, and an heir goes on with its tables; put it back, or end the old edge and start this one"
    )]
    Resized {
        /// Key of the config.
        key: &'static str,
    },
    /// An heir has taken the datapath over.
    #[error("another control plane has taken over what is pinned in {pins}; changes are made there")]
    HandedOver {
        /// Directory.
        pins: String,
    },
    /// An address could not be listened on.
    #[error("cannot listen on {address} for service {service:?}: {source}")]
    Listen {
        /// Address.
        address: String,
        /// Service.
        service: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Forwarding is done in XDP.
    #[error(
        "service {service:?} has mode \"l4\", which needs XDP; set datapath = \"native\" or \"generic\" under [edge]"
    )]
    Unforwarded {
        /// Service.
        service: String,
    },
    /// Two services, or one that cannot be told from itself.
    #[error("service {service:?}: {why}")]
    Forward {
        /// Service.
        service: String,
        /// What cannot be, and what to do.
        why: String,
    },
    /// More than the maps hold.
    #[error("{what}: {count} are over the bound of {bound}; raise {key} under [edge] and restart")]
    Full {
        /// What does not fit.
        what: &'static str,
        /// How many were asked for.
        count: usize,
        /// How many fit.
        bound: usize,
        /// Key of the config.
        key: &'static str,
    },
    /// The kernel refused something else.
    #[error("{what}: {why}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer, with the verifier's last lines where there are some.
        why: String,
    },
}
