//! Forwarded services: rings, the memory of flows, the way to backends.

mod inherit;
mod maglev;
#[cfg(test)]
mod model;
mod question;
mod reach;
mod rings;
mod slots;
mod state;
mod sweep;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::DevMapHash;
use lb_common::abi::{self, Be16, FEATURE_NAT, ReverseValue};

use self::reach::Reach;
use self::state::{Nanos, Phase, Service};
use self::sweep::{is_of, sweep};
use self::tables::{Content, Reverse, Tables};
use super::error::failed;
use super::monotonic;
use super::netlink::Netlink;
use super::plan::{key, number_of, wire};
use super::settings::Settings;
use crate::datapath::{
    DatapathError, DesiredForward, ForwardBackendState, ForwardMode, ForwardState, Ports, Protocol, Tuning,
};

pub(super) use self::inherit::Noted;
pub(super) use self::reach::ask;

/// Remembered flows are looked through at most so often, and the way to backends.
const SWEEP_EVERY: Nanos = 1_000_000_000;
const LOOK_EVERY: Nanos = 5_000_000_000;

/// What became of flows that were remembered.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Taken out by the sweep.
    purged: u64,
    /// Gone though nobody took them out, at the last look.
    evicted: u64,
}

/// Forwarded services as the kernel has them.
pub(in crate::datapath) struct Forwarding {
    tables: Tables,
    in_force: Content,
    before: Content,
    max_backends: u32,
    hash_seed: u64,
    /// By service: what became of remembered flows.
    memory: BTreeMap<u32, Memory>,
    reach: Reach,
    swept: Nanos,
    looked: Nanos,
}

impl Forwarding {
    /// Take the maps out of the loaded object. `interfaces` are those that the edge is attached to; rings are pinned in
    /// `pins`, where that is given.
    pub(in crate::datapath) fn take(
        ebpf: &mut Ebpf,
        tuning: &Tuning,
        interfaces: BTreeMap<u32, String>,
        pins: Option<PathBuf>,
    ) -> Result<Self, DatapathError> {
        let map = ebpf.take_map(abi::DEVICES).ok_or_else(|| absent(abi::DEVICES))?;
        let mut devices = DevMapHash::try_from(map).map_err(|e| failed("use the map DEVICES", &e))?;
        if interfaces.len() > abi::MAX_DEVICES as usize {
            let (count, bound) = (interfaces.len(), abi::MAX_DEVICES as usize);
            return Err(DatapathError::Full { what: "interfaces", count, bound, key: "interfaces" });
        }
        for index in interfaces.keys() {
            devices.insert(*index, *index, None, 0).map_err(|e| failed("write DEVICES", &e))?;
        }
        let mut tables = Tables::take(ebpf)?;
        tables.pins = pins;
        Ok(Self {
            tables,
            in_force: Content::default(),
            before: Content::default(),
            max_backends: tuning.max_backends,
            hash_seed: tuning.hash_seed,
            memory: BTreeMap::new(),
            reach: Reach::new(interfaces),
            swept: 0,
            looked: 0,
        })
    }

    /// Make the tables what `desired` asks for, but for what only the services of before need. On an error nothing has
    /// changed.
    pub(in crate::datapath) fn apply(
        &mut self,
        settings: &mut Settings,
        desired: &[DesiredForward],
    ) -> Result<(), DatapathError> {
        let reverse = reverse(desired)?;
        let state = self.in_force.state.next(desired, self.max_backends, monotonic())?;
        let next = Content { state, reverse };
        let led = self.tables.lead(&self.in_force, &next);
        self.before = std::mem::replace(&mut self.in_force, next);
        // While both stand, whoever has replies to translate has them translated.
        let nat = !self.in_force.reverse.is_empty() || !self.before.reverse.is_empty();
        if let Err(e) = led.and_then(|()| settings.set_features(FEATURE_NAT, nat)) {
            self.revert(settings);
            return Err(e);
        }
        self.looked = 0;
        Ok(())
    }

    /// The services of before are not led to any more: take away what they needed.
    pub(in crate::datapath) fn retire(&mut self, settings: &mut Settings) {
        let retired = self.tables.retire(&self.before, &self.in_force).and_then(|()| self.forget_gone());
        let nat = !self.in_force.reverse.is_empty();
        if let Err(e) = retired.and_then(|()| settings.set_features(FEATURE_NAT, nat)) {
            tracing::warn!(error = %e, "something of a forwarded service that is gone could not be removed");
        }
        self.before = Content::default();
    }

    /// Go back to before the last [`Self::apply`].
    pub(in crate::datapath) fn revert(&mut self, settings: &mut Settings) {
        let failed = std::mem::replace(&mut self.in_force, std::mem::take(&mut self.before));
        let led = self.tables.lead(&failed, &self.in_force).and_then(|()| self.tables.retire(&failed, &self.in_force));
        let nat = !self.in_force.reverse.is_empty();
        if let Err(e) = led.and_then(|()| settings.set_features(FEATURE_NAT, nat)) {
            tracing::error!(error = %e, "a change of forwarded services could not be undone");
        }
    }

    /// Forget flows of services that are gone: one of the same name would take them for its own.
    fn forget_gone(&mut self) -> Result<(), DatapathError> {
        let stands = |id: &u32| self.in_force.state.services.contains_key(id);
        let unsettled = self.before.state.services.iter().filter(|(_, service)| service.phase != Phase::Settled);
        let gone: Vec<u32> = unsettled.map(|(id, _)| *id).filter(|id| !stands(id)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let flows = self.tables.flows()?;
        for id in gone {
            let keys: Vec<_> = flows.iter().filter(|(_, value)| is_of(value, id)).map(|(key, _)| *key).collect();
            self.tables.forget(&keys)?;
            self.memory.entry(id).or_default().purged += keys.len() as u64;
        }
        Ok(())
    }

    /// Settle what has had its time, and look at the ways.
    pub(super) async fn tick(&mut self, netlink: &Netlink) {
        let now = monotonic();
        if now >= self.swept.saturating_add(SWEEP_EVERY) {
            self.swept = now;
            if let Err(e) = self.ripen(now) {
                tracing::warn!(error = %e, "slots that moved are not settled yet; it is tried again");
            }
        }
        if now >= self.looked.saturating_add(LOOK_EVERY) {
            self.looked = now;
            let services = self.in_force.state.services.values();
            let addresses: BTreeSet<IpAddr> =
                services.flat_map(|service| service.forward.backends.iter().map(|b| b.address.ip())).collect();
            self.reach.look(netlink, &addresses).await;
        }
    }

    fn ripen(&mut self, now: Nanos) -> Result<(), DatapathError> {
        let services = &self.in_force.state.services;
        if services.values().all(|service| service.phase == Phase::Settled) {
            return Ok(());
        }
        let watched: Vec<_> = services.iter().filter(|(_, service)| service.phase == Phase::Watching).collect();
        let flows = if watched.is_empty() { Vec::new() } else { self.tables.flows()? };
        let mut remembered = BTreeMap::new();
        for (id, service) in watched {
            let swept = sweep(&flows, *id, service, now);
            self.tables.forget(&swept.delete)?;
            let counter = self.tables.flow_counter(*id)?;
            let memory = self.memory.entry(*id).or_default();
            memory.purged += swept.delete.len() as u64;
            // In a watched service nothing is remembered anew: what is in no count has been given to others.
            let known = counter.forgotten + memory.purged + swept.kept;
            memory.evicted = memory.evicted.max(counter.remembered.saturating_sub(known));
            remembered.insert(*id, swept.remembered);
        }
        let state = self.in_force.state.ripened(now, |id| remembered.remove(&id));
        let next = Content { state, reverse: self.in_force.reverse.clone() };
        self.tables.lead(&self.in_force, &next)?;
        self.in_force = next;
        Ok(())
    }

    /// Number of a backend of a service.
    pub(in crate::datapath) fn number(&self, service: u32, backend: SocketAddr) -> Option<u32> {
        let standing = self.in_force.state.services.get(&service)?.backends.get(&backend)?;
        Some(standing.number.into())
    }

    /// As it is, by service.
    pub(in crate::datapath) fn states(&self) -> Result<Vec<ForwardState>, DatapathError> {
        self.in_force.state.services.iter().map(|(id, service)| self.state(*id, service)).collect()
    }

    fn state(&self, id: u32, service: &Service) -> Result<ForwardState, DatapathError> {
        let flows = self.tables.flow_counter(id)?;
        let (moved, watched) = service.unsettled();
        let evicted = self.memory.get(&id).map_or(0, |memory| memory.evicted);
        let backends = service.backends.iter().map(|(address, standing)| {
            let counter = self.tables.backend_counter(standing.number)?;
            Ok(ForwardBackendState {
                address: *address,
                slots: standing.slots,
                packets: counter.packets,
                bytes: counter.bytes,
                flows: counter.flows,
                trouble: self.reach.trouble(&service.forward, address.ip()),
            })
        });
        Ok(ForwardState {
            service: id,
            slots: service.rings.iter().map(|ring| ring.len() as u32).sum(),
            moved,
            watched,
            remembered: flows.remembered,
            evicted: evicted + flows.not_remembered,
            dead: flows.dead,
            backends: backends.collect::<Result<_, DatapathError>>()?,
        })
    }
}

fn absent(name: &str) -> DatapathError {
    super::load::absent("map", name)
}

/// Whom the replies of `nat` backends belong to; refused where that cannot be told from the reply.
fn reverse(desired: &[DesiredForward]) -> Result<Reverse, DatapathError> {
    let mut reverse = Reverse::new();
    let mut owners: BTreeMap<abi::ServiceKey, &str> = BTreeMap::new();
    for forward in desired.iter().filter(|forward| forward.mode == ForwardMode::Nat) {
        for listen in &forward.addresses {
            for backend in forward.backends.iter().filter(|b| b.address.is_ipv4() == listen.address.is_ipv4()) {
                // A service of one port has its own in front of the backend's; others keep what the client chose.
                let (ports, port) = match listen.ports {
                    Ports::All => (0..=0, 0),
                    Ports::Range(only, last) if only == last => (backend.address.port()..=backend.address.port(), only),
                    Ports::Range(first, last) => (first..=last, 0),
                };
                for protocol in &forward.protocols {
                    for from in ports.clone() {
                        let key = key(backend.address.ip(), from, number_of(*protocol));
                        let address = wire(listen.address);
                        let value = ReverseValue { address, port: Be16::new(port), pad: 0, service: forward.id };
                        if reverse.insert(key, value).is_some_and(|other| other != value) {
                            return Err(ambiguous(forward, owners.get(&key), backend.address.ip(), from, *protocol));
                        }
                        owners.insert(key, &forward.name);
                    }
                }
            }
        }
    }
    Ok(reverse)
}

fn ambiguous(
    forward: &DesiredForward,
    other: Option<&&str>,
    backend: IpAddr,
    port: u16,
    protocol: Protocol,
) -> DatapathError {
    let other = other.copied().unwrap_or_default();
    let whose = if other == forward.name { "another address of it".to_owned() } else { format!("service {other:?}") };
    DatapathError::Forward {
        service: forward.name.clone(),
        why: format!(
            "replies of backend {backend}, port {port}/{protocol}, belong to {whose} too: with `forward = \"nat\"` a \
             backend's address and port serve one address and port; use another port, \"ipip\" or \"l2\""
        ),
    }
}
