//! The datapath in the kernel: XDP `edge` and sk_lookup `steer`, their tables, listeners and local routes.

mod attach;
mod bpf;
mod decap;
mod error;
mod events;
mod forward;
mod load;
mod log;
mod maps;
mod netlink;
mod pins;
mod plan;
mod routes;
mod settings;
mod shield;
mod steering;
mod sysctl;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use aya::Ebpf;
use aya::programs::links::PinnedLink;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use self::attach::Attached;
use self::events::Events;
pub(super) use self::forward::Forwarding;
use self::netlink::{Interface, Netlink};
use self::pins::Pins;
use self::routes::Routes;
pub(super) use self::settings::Settings;
pub(super) use self::shield::Shield;
use self::sysctl::Sysctl;
use super::{
    Counters, Datapath, DatapathError, Description, Desired, FlowAnswer, Inherited, Listener, PacketEvent, Protocol,
    Tuning, Worker, listen,
};

pub use self::decap::Decap;
pub(super) use self::error::failed;
pub(super) use self::load::{Loaded, Setup, load};
pub(super) use self::maps::Tables;
pub(super) use self::plan::{Bounds, Plan, State, wire};
pub(super) use self::steering::Table;

/// Next hops that wait to be asked for at the most.
const NEIGHBOURS: usize = 256;

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
    _steer: PinnedLink,
    edge_id: u32,
    _ebpf: Ebpf,
    pins: Pins,
    tables: Tables,
    table: Table,
    settings: Settings,
    shield: Shield,
    events: Events,
    forwarding: Forwarding,
    /// Settings of the kernel that forwarding needs, while it is needed.
    routing: Vec<Sysctl>,
    _asking: AbortOnDropHandle,
    bounds: Bounds,
    in_force: State,
    listeners: Vec<Listener>,
    netlink: Netlink,
    routes: Routes,
    log: Option<JoinHandle<()>>,
}

impl KernelDatapath {
    /// What takes more privilege than an edge keeps: the BPF file system is mounted, where nobody has done it.
    pub fn prepare() -> Result<(), DatapathError> {
        pins::mount()
    }

    /// Load, pin and attach everything; no service yet. On an error everything is taken out again. Of what is inherited
    /// nothing is gone on with: it is taken out, and made anew. An edge that is still alive is not touched, and this is
    /// refused.
    pub async fn open(options: KernelOptions, inherited: Option<Inherited>) -> Result<Self, DatapathError> {
        listen::inherit(inherited.as_ref().map_or(&[], |inherited| &inherited.listeners));
        let (pins, leftovers) = Pins::claim(&options.name)?;
        let netlink = Netlink::open()?;
        let interfaces = attach::interfaces(&netlink, &options.interfaces).await?;
        for interface in &interfaces {
            attach::check_free(&netlink, interface, &leftovers.programs).await?;
        }
        let loopback = attach::interfaces(&netlink, &["lo".to_owned()]).await?;
        let loopback = loopback.first().map_or(1, |lo| lo.index);
        let routes = Routes::open(&netlink, loopback, &leftovers.addresses).await?;

        let bounds = Bounds { services: options.max_services, addresses: options.max_addresses };
        let rss = takes_rss(&options, &interfaces);
        let setup = Setup {
            rss,
            workers: &options.workers,
            bounds,
            log_sample: options.packet_log_sample,
            tuning: &options.tuning,
        };
        let Loaded { mut ebpf, table, settings } = load(&setup)?;
        pins.pin_object(&mut ebpf)?;
        let mut tables = Tables::take(&mut ebpf)?;
        let shield = Shield::take(&mut ebpf)?;
        let (neighbours, wanted) = mpsc::channel(NEIGHBOURS);
        let events = Events::start(&mut ebpf, neighbours)?;
        let asking = AbortOnDropHandle(forward::ask(wanted)?);
        let named = interfaces.iter().map(|interface| (interface.index, interface.name.clone())).collect();
        let forwarding = Forwarding::take(&mut ebpf, &options.tuning, named)?;
        let log = match options.packet_log_sample {
            0 => None,
            _ => Some(log::forward(&mut ebpf)?),
        };

        let listeners = options.workers.iter().map(|worker| worker_listener(*worker)).collect::<Result<Vec<_>, _>>()?;
        listeners.iter().try_for_each(|listener| tables.listen(listener))?;
        let steer = attach::steer(&mut ebpf, &pins)?;
        let edge_id = attach::edge_id(&mut ebpf)?;
        let mut attached = Vec::new();
        for interface in interfaces {
            attached.push(attach::edge(&mut ebpf, interface, options.native, &pins)?);
        }
        Ok(Self {
            attached,
            _steer: steer,
            edge_id,
            _ebpf: ebpf,
            pins,
            tables,
            table,
            settings,
            shield,
            events,
            forwarding,
            routing: Vec::new(),
            _asking: asking,
            bounds,
            in_force: State::default(),
            listeners,
            netlink,
            routes,
            log,
        })
    }
}

impl KernelDatapath {
    /// `bpf_fib_lookup` answers for an interface that forwards. `lo` is one that no packet comes in by: the host does not
    /// become a router.
    fn route(&mut self) -> Result<(), DatapathError> {
        if !self.routing.is_empty() {
            return Ok(());
        }
        for name in ["ipv4/conf/lo/forwarding", "ipv6/conf/lo/forwarding"] {
            match Sysctl::set(name, "1") {
                Ok(changed) => self.routing.extend(changed),
                // A host without IPv6 has no such setting.
                Err(_) if name.starts_with("ipv6") && !Path::new("/proc/sys/net/ipv6").exists() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Make the kernel what `target` says. On an error nothing has changed.
    async fn change(&mut self, desired: &Desired, target: State) -> Result<(), DatapathError> {
        let plan = Plan::between(&self.in_force, &target);
        if target.forwards() {
            self.route()?;
        }
        self.shield.apply(&mut self.settings, desired)?;
        if let Err(e) = self.forwarding.apply(&mut self.settings, &desired.forwards) {
            self.shield.revert(&mut self.settings);
            return Err(e);
        }
        let both = self.in_force.addresses().union(target.addresses());
        let let_in = self.tables.let_in(both);
        if let Err(e) = let_in.and_then(|()| self.tables.write_all(&plan.add, &self.in_force)) {
            self.revert();
            return Err(e);
        }
        let new_routes = match self.routes.add(&self.netlink, target.addresses()).await {
            Ok(new_routes) => new_routes,
            Err(e) => {
                self.tables.undo(&plan.add, &self.in_force);
                self.revert();
                return Err(e);
            }
        };
        if let Err(e) = self.tables.write_all(&plan.remove, &self.in_force) {
            self.routes.remove(&self.netlink, &new_routes).await;
            self.tables.undo(&plan.add, &self.in_force);
            self.revert();
            return Err(e);
        }
        // Here the change is made; what is left is to take away routes that lead to no service.
        self.tables.count(target.ids());
        self.in_force = target;
        self.forwarding.retire(&mut self.settings);
        if let Err(e) = self.tables.let_in(self.in_force.addresses().iter()) {
            tracing::warn!(error = %e, "packets to addresses that are no service's any more are still looked at");
        }
        self.routes.keep_only(&self.netlink, self.in_force.addresses()).await;
        Ok(())
    }

    fn revert(&mut self) {
        self.forwarding.revert(&mut self.settings);
        self.shield.revert(&mut self.settings);
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
        let target = State::of(desired, self.bounds)?;
        let changed = self.change(desired, target).await;
        if !self.in_force.forwards() {
            self.routing.clear();
        }
        changed?;
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
        self.shield.tick(&mut self.settings);
        self.forwarding.tick(&self.netlink).await;
    }

    fn events(&self) -> Option<broadcast::Receiver<PacketEvent>> {
        Some(self.events.subscribe())
    }

    fn note(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn leave(self) {
        let Self { attached, _steer: steer, pins, shield, routing, .. } = self;
        pins.leave();
        drop((attached, steer));
        shield.leave();
        routing.into_iter().for_each(Sysctl::leave);
    }

    async fn close(mut self) -> Result<(), DatapathError> {
        if let Some(log) = self.log.take() {
            log.abort();
        }
        self.shield.close();
        self.routing.clear();
        self.routes.keep_only(&self.netlink, &Default::default()).await;
        let Self { attached, _steer: steer, _ebpf: ebpf, pins, netlink, edge_id, .. } = self;
        let interfaces: Vec<(String, u32)> = attached.iter().map(|a| (a.interface.clone(), a.index)).collect();
        drop((attached, steer, ebpf, pins));
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

fn takes_rss(options: &KernelOptions, interfaces: &[Interface]) -> bool {
    match options.steering {
        Steering::Hash => false,
        Steering::Rss => true,
        Steering::Auto => {
            let covered = |interface| attach::receive_queues(interface).is_some_and(|n| n >= options.workers.len());
            interfaces.iter().all(covered)
        }
    }
}

fn worker_listener(worker: Worker) -> Result<Listener, DatapathError> {
    let socket = listen::assigned().map_err(|e| failed(format!("make the listener of worker {}", worker.index), &e))?;
    Ok(listen::listener(worker.index, None, socket))
}
