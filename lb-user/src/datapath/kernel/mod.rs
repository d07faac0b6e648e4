//! The datapath in the kernel: XDP `edge` and sk_lookup `steer`, their tables, listeners and local routes.

mod attach;
mod bpf;
mod change;
mod decap;
mod error;
mod events;
mod forward;
mod load;
mod log;
mod maps;
mod netlink;
mod note;
mod open;
mod pins;
mod placement;
mod plan;
mod routes;
mod settings;
mod shield;
mod steering;
mod sysctl;
mod takeover;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use aya::Ebpf;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use self::attach::{Attached, Link, Programs};
use self::events::Events;
pub(super) use self::forward::Forwarding;
use self::netlink::Netlink;
use self::note::Note;
use self::pins::Pins;
use self::placement::Placement;
use self::routes::Routes;
pub(super) use self::settings::Settings;
pub(super) use self::shield::Shield;
use self::sysctl::Sysctl;
use self::takeover::Pending;
use super::{
    Counters, Datapath, DatapathError, Description, Desired, FlowAnswer, Listener, PacketEvent, Protocol, Tuning,
    Worker,
};

pub use self::decap::Decap;
pub(super) use self::error::failed;
pub(super) use self::load::{Loaded, Setup, load};
pub(super) use self::maps::Tables;
pub(super) use self::plan::{Bounds, Plan, State, wire};
pub(super) use self::steering::Table;

/// How a flow finds its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// [`Steering::Rss`] where every interface has at least as many receive queues as there are workers.
    Auto,
    /// By a hash of the flow; frames are redirected to the worker's CPU.
    Hash,
    /// The CPU that the NIC chose keeps the flow, and its worker takes it.
    Rss,
}

/// What the edge is opened with; fixed for its life.
#[derive(Debug, Clone)]
pub struct KernelOptions {
    /// Instance; names the pin directory.
    pub name: String,
    /// Interfaces that XDP is attached to.
    pub interfaces: Vec<String>,
    /// Attach in the driver where it can; false: always in the stack.
    pub native: bool,
    /// How a flow finds its worker.
    pub steering: Steering,
    /// One listener for each.
    pub workers: Vec<Worker>,
    /// Services at the most.
    pub max_services: u32,
    /// Addresses × ports of all services at the most.
    pub max_addresses: u32,
    /// One packet in so many is logged; 0: none.
    pub packet_log_sample: u32,
    /// Sizes and numbers of forwarding and the shield.
    pub tuning: Tuning,
}

/// An edge in the kernel.
pub struct KernelDatapath {
    // In the order of dropping: links before the pins that name them.
    attached: Vec<Attached>,
    steer: Link,
    programs: Programs,
    ebpf: Ebpf,
    /// An edge that serves is to be gone on with, by the first change.
    pending: Option<Pending>,
    pins: Pins,
    tables: Tables,
    table: Table,
    settings: Settings,
    placement: Placement,
    shield: Shield,
    events: Events,
    forwarding: Forwarding,
    /// Settings of the kernel that forwarding needs, while it is needed.
    routing: Vec<Sysctl>,
    _asking: AbortOnDropHandle,
    bounds: Bounds,
    native: bool,
    in_force: State,
    listeners: Vec<Listener>,
    netlink: Netlink,
    routes: Routes,
    log: Option<JoinHandle<()>>,
}

impl KernelDatapath {
    /// What takes more privilege than an edge keeps: the BPF file system is mounted, where nobody has done it, and the
    /// programs of others get names.
    pub fn prepare() -> Result<(), DatapathError> {
        attach::remember_names();
        pins::mount()
    }
}

/// A task that ends with its owner.
struct AbortOnDropHandle(JoinHandle<()>);

impl Drop for AbortOnDropHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Datapath for KernelDatapath {
    async fn apply(&mut self, desired: &Desired) -> Result<Vec<Listener>, DatapathError> {
        match self.pending.take() {
            None if !self.owns() => return Err(self.handed_over()),
            None => self.change_to(desired).await?,
            Some(pending) => self.take_over(pending, desired).await?,
        }
        Ok(self.listeners.clone())
    }

    fn counters(&self) -> Result<Counters, DatapathError> {
        let mut counters = self.tables.counters(self.table.workers.len() as u32)?;
        counters.forwards = self.forwarding.states()?;
        counters.shield = self.shield.state()?;
        counters.shield.events_lost = self.events.lost.load(Ordering::Relaxed);
        Ok(counters)
    }

    fn flow(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Option<FlowAnswer> {
        let Some(service) = self.in_force.service(destination.ip().to_canonical(), destination.port(), protocol) else {
            return Some(FlowAnswer::default());
        };
        match self.in_force.is_forwarded(service) {
            true => self.forwarding.flow(service, protocol, source, destination),
            false => self.table.flow(Some(service), source, destination),
        }
    }

    fn describe(&self) -> Description {
        let native = self.attached.iter().all(|attached| attached.native);
        let interfaces = self.attached.iter().map(|a| (a.interface.clone(), mode(a.native).to_owned())).collect();
        Description {
            datapath: mode(native).to_owned(),
            steering: Some(if self.table.rss { "rss" } else { "hash" }.to_owned()),
            interfaces,
            pins: Some(self.pins.directory().display().to_string()),
            addresses: self.routes.added().collect(),
        }
    }

    async fn tick(&mut self) {
        if self.pending.is_some() || !self.owns() {
            return;
        }
        self.shield.tick(&mut self.settings);
        self.forwarding.tick(&self.netlink).await;
    }

    fn events(&self) -> Option<broadcast::Receiver<PacketEvent>> {
        Some(self.events.subscribe())
    }

    fn note(&self) -> serde_json::Value {
        match &self.pending {
            Some(pending) => pending.note().to_value(),
            None => Note::of(&self.routing, &self.shield, &self.forwarding).to_value(),
        }
    }

    fn leave(self) {
        let Self { attached, steer, pins, shield, routing, .. } = self;
        pins.leave();
        drop((attached, steer));
        shield.leave();
        routing.into_iter().for_each(Sysctl::leave);
    }

    async fn retake(&mut self) -> Result<(), DatapathError> {
        match self.pending {
            Some(_) => Ok(()),
            None => self.take_back().await,
        }
    }

    async fn close(mut self) -> Result<(), DatapathError> {
        if self.pending.is_some() || !self.owns() {
            // It is another's, and goes on.
            self.leave();
            return Ok(());
        }
        if let Some(log) = self.log.take() {
            log.abort();
        }
        self.shield.close();
        self.routing.clear();
        self.routes.keep_only(&self.netlink, &Default::default()).await;
        let Self { attached, steer, programs, ebpf, pins, netlink, .. } = self;
        let interfaces: Vec<(String, u32)> = attached.iter().map(|a| (a.interface.clone(), a.index)).collect();
        let edge_id = programs.edge_id;
        drop((attached, steer, programs, ebpf, pins));
        for (interface, index) in interfaces {
            // An interface that is gone carries nothing.
            if let Ok(Some(carried)) = attach::detached(&netlink, index, &[edge_id]).await
                && carried == edge_id
            {
                let what = format!("take XDP off {interface}");
                return Err(DatapathError::Kernel { what, why: "the kernel has not detached it yet".to_owned() });
            }
        }
        Ok(())
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds: what the kernel half reads.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn mode(native: bool) -> &'static str {
    if native { "native" } else { "generic" }
}
