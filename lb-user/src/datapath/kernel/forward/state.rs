//! What the kernel's tables of forwarding hold, computed from what is wanted and from what they held. Pure: times are given,
//! and nothing is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{BACKEND_ALIVE, BACKEND_V4, BackendValue, Be16, ForwardValue};
use lb_common::select::{Backend, Slot, WATCHED};
use tls_worker::api::BackendState;

use super::maglev::{self, Candidate};
use super::slots;
use crate::datapath::kernel::plan::wire;
use crate::datapath::{DatapathError, DesiredForward, ForwardBackend, ForwardMode};

/// Time of `CLOCK_MONOTONIC`, nanoseconds.
pub(super) type Nanos = u64;

/// Both rings of a service: of IPv4 and of IPv6.
pub(super) type Rings = [Vec<Slot>; 2];

/// All forwarded services.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) services: BTreeMap<u32, Arc<Service>>,
}

/// A forwarded service as the kernel has it.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) forward: DesiredForward,
    pub(super) rings: Rings,
    pub(super) phase: Phase,
    /// When an unknown UDP flow is a new one.
    pub(super) udp_new_after: Nanos,
    /// Backends with a number, with those that are gone and may still be remembered.
    pub(super) backends: BTreeMap<SocketAddr, Standing>,
}

/// A backend of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) number: Backend,
    pub(super) alive: bool,
    /// Slots of both rings that new flows go to it by.
    pub(super) slots: u32,
    /// Whether the pool still has it.
    pub(super) in_pool: bool,
}

/// How far a change has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Every slot has one backend.
    Settled,
    /// Flows that began before the change have until then to be seen.
    Moving(Nanos),
    /// Some are remembered.
    Watching,
}

impl State {
    /// What the tables are to hold for `desired`, `max` backends at the most.
    pub(super) fn next(&self, desired: &[DesiredForward], max: u32, now: Nanos) -> Result<Self, DatapathError> {
        let mut next = Self::default();
        // A number whose service goes may stand in a packet's way still: it is not given again in this step.
        let standing = self.services.values().flat_map(|service| service.backends.values());
        let taken: BTreeSet<Backend> = standing.map(|backend| backend.number).collect();
        let mut free = (1..=max as Backend).filter(|number| !taken.contains(number));
        for forward in desired {
            let before = self.services.get(&forward.id);
            if let Some(before) = before.filter(|before| before.forward == *forward) {
                next.services.insert(forward.id, Arc::clone(before));
                continue;
            }
            if before.is_some_and(|before| before.forward.places() != forward.places()) {
                let why = "`table_size` and `hash` are fixed while the service stands, as every flow would move; give \
                           the service another name, or restart the edge";
                return Err(DatapathError::Forward { service: forward.name.clone(), why: why.to_owned() });
            }
            let number = |address| match before.and_then(|before| before.backends.get(&address)) {
                Some(standing) => Some(standing.number),
                None => free.next(),
            };
            let service = Service::next(before.map(Arc::as_ref), forward, number, now).ok_or(DatapathError::Full {
                what: "backends of all forwarded services, with those that still have flows",
                count: max as usize + 1,
                bound: max as usize,
                key: "max_backends",
            })?;
            next.services.insert(forward.id, Arc::new(service));
        }
        Ok(next)
    }

    /// The state when time has passed. `remembered` tells, for a service that is watched, the slots of each ring in which
    /// somebody is remembered who goes elsewhere than the slot points.
    pub(super) fn ripened(&self, now: Nanos, mut remembered: impl FnMut(u32) -> Option<[BTreeSet<u32>; 2]>) -> Self {
        let mut next = self.clone();
        for (id, service) in &mut next.services {
            match service.phase {
                Phase::Settled => {}
                Phase::Moving(until) if until > now => {}
                Phase::Moving(_) => {
                    let service = Arc::make_mut(service);
                    service.rings = service.rings.each_ref().map(|ring| slots::watched(ring));
                    service.phase = Phase::Watching;
                }
                Phase::Watching => {
                    let Some(remembered) = remembered(*id) else { continue };
                    let service = Arc::make_mut(service);
                    for (ring, remembered) in service.rings.iter_mut().zip(&remembered) {
                        *ring = slots::settled(ring, |slot| remembered.contains(&slot));
                    }
                    if service.count(|slot| !slot.is_settled()) == 0 {
                        service.phase = Phase::Settled;
                        service.backends.retain(|_, backend| backend.in_pool);
                    }
                }
            }
        }
        next
    }

    /// Every backend by number.
    pub(super) fn backends(&self) -> BTreeMap<Backend, BackendValue> {
        let mut backends = BTreeMap::new();
        for service in self.services.values() {
            for (address, standing) in &service.backends {
                let v4 = if address.is_ipv4() { BACKEND_V4 } else { 0 };
                let alive = if standing.alive { BACKEND_ALIVE } else { 0 };
                let port = Be16::new(address.port());
                let value = BackendValue { address: wire(address.ip()), port, flags: v4 | alive, pad: 0 };
                backends.insert(standing.number, value);
            }
        }
        backends
    }
}

impl Service {
    /// None: `number` has no more numbers.
    fn next(
        before: Option<&Self>,
        forward: &DesiredForward,
        mut number: impl FnMut(SocketAddr) -> Option<Backend>,
        now: Nanos,
    ) -> Option<Self> {
        let mut backends = BTreeMap::new();
        for backend in &forward.backends {
            let alive = matches!(backend.state, BackendState::Up | BackendState::Draining);
            let standing = Standing { number: number(backend.address)?, alive, slots: 0, in_pool: true };
            backends.insert(backend.address, standing);
        }
        let targets = [false, true].map(|v6| target(forward, &backends, v6));
        for (address, standing) in before.into_iter().flat_map(|before| &before.backends) {
            backends.entry(*address).or_insert(Standing { alive: false, slots: 0, in_pool: false, ..*standing });
        }
        let mut shares: BTreeMap<Backend, u32> = BTreeMap::new();
        for number in targets.iter().flatten() {
            *shares.entry(*number).or_default() += 1;
        }
        for standing in backends.values_mut() {
            standing.slots = shares.get(&standing.number).copied().unwrap_or(0);
        }
        let rings = match before {
            // A family that the service had no address of has no flow to keep.
            Some(before) => [0, 1].map(|family| match before.rings[family].is_empty() {
                false if !targets[family].is_empty() => slots::moved(&before.rings[family], &targets[family]),
                _ => fresh(&targets[family]),
            }),
            None => targets.each_ref().map(|target| fresh(target)),
        };
        let mut service = Self {
            forward: forward.clone(),
            rings,
            phase: before.map_or(Phase::Settled, |before| before.phase),
            udp_new_after: before.map_or(0, |before| before.udp_new_after),
            backends,
        };
        if before.is_some_and(|before| before.rings != service.rings) {
            service.phase = Phase::Moving(now.saturating_add(nanos(forward.drain)));
            service.udp_new_after = now.saturating_add(nanos(forward.udp_idle));
        }
        if service.phase == Phase::Settled {
            service.backends.retain(|_, backend| backend.in_pool);
        }
        Some(service)
    }

    pub(super) fn value(&self) -> ForwardValue {
        ForwardValue {
            udp_new_after: self.udp_new_after,
            udp_idle: nanos(self.forward.udp_idle),
            slots: self.forward.slots,
            outer_mtu: self.forward.outer_mtu.unwrap_or(0),
        }
    }

    /// Slots of both rings that are as `which` says.
    pub(super) fn count(&self, which: impl Fn(&Slot) -> bool) -> u32 {
        self.rings.iter().flatten().filter(|slot| which(slot)).count() as u32
    }

    /// Slots that are moving, and slots that are watched.
    pub(super) fn unsettled(&self) -> (u32, u32) {
        if self.phase == Phase::Settled {
            return (0, 0);
        }
        let watched = self.count(|slot| slot.settled == WATCHED && !slot.is_settled());
        (self.count(|slot| !slot.is_settled()) - watched, watched)
    }

    /// The backend of a number.
    pub(super) fn backend(&self, number: Backend) -> Option<SocketAddr> {
        self.backends.iter().find(|(_, standing)| standing.number == number).map(|(address, _)| *address)
    }
}

fn fresh(target: &[Backend]) -> Vec<Slot> {
    target.iter().map(|number| Slot::settled(*number)).collect()
}

/// Who takes new flows of a family; empty when the service has no address of it.
fn target(forward: &DesiredForward, backends: &BTreeMap<SocketAddr, Standing>, v6: bool) -> Vec<Backend> {
    if !forward.addresses.iter().any(|listen| listen.address.is_ipv6() == v6) {
        return Vec::new();
    }
    let takes = |backend: &&ForwardBackend| backend.state == BackendState::Up && reaches(forward, backend.address, v6);
    let candidate = |backend: &ForwardBackend| {
        let number = backends.get(&backend.address)?.number;
        Some(Candidate { number, address: backend.address, weight: backend.weight })
    };
    let candidates: Vec<Candidate> = forward.backends.iter().filter(takes).filter_map(candidate).collect();
    maglev::ring(&candidates, forward.slots)
}

/// Whether packets of a family can be sent to a backend.
fn reaches(forward: &DesiredForward, backend: SocketAddr, v6: bool) -> bool {
    match (forward.mode, backend.ip()) {
        (ForwardMode::Nat, IpAddr::V4(_)) => !v6,
        (ForwardMode::Nat, IpAddr::V6(_)) => v6,
        (ForwardMode::Ipip, IpAddr::V4(_)) => !v6,
        (ForwardMode::Ipip, IpAddr::V6(_)) | (ForwardMode::L2, _) => true,
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
