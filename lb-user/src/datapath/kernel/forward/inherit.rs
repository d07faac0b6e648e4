//! Forwarded services of an edge that serves already, gone on with. The kernel's tables are believed; what they do not say
//! is taken from the note of the edge before, and where that is missing or old, from what is safe: a change in progress is
//! given its time anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{self, BACKEND_ALIVE, FlowKey, FlowValue};
use lb_common::select::{Backend, NONE, WATCHED};

use super::state::{Nanos, Phase, Rings, Service, Standing, State};
use super::tables::Content;
use super::{Forwarding, Memory, is_of, monotonic};
use crate::datapath::kernel::plan::hash_number;
use crate::datapath::{DatapathError, DesiredForward, ForwardHash, ForwardMode};

/// Of a service that is not wanted any more, nothing but its numbers counts.
const UNKNOWN_DRAIN: Duration = Duration::from_secs(900);

/// What the tables do not say of a service, for the edge after this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::datapath::kernel) struct Noted {
    /// Until when flows that began before the last change have to be seen.
    moving_until: Option<Nanos>,
    purged: u64,
    evicted: u64,
    backends: Vec<(SocketAddr, Backend)>,
}

impl Forwarding {
    /// For the edge after this one.
    pub(in crate::datapath::kernel) fn noted(&self) -> BTreeMap<u32, Noted> {
        let noted = self.in_force.state.services.iter().map(|(id, service)| {
            let memory = self.memory.get(id).copied().unwrap_or_default();
            let moving_until = match service.phase {
                Phase::Moving(until) => Some(until),
                Phase::Settled | Phase::Watching => None,
            };
            let backends = service.backends.iter().map(|(address, standing)| (*address, standing.number)).collect();
            (*id, Noted { moving_until, purged: memory.purged, evicted: memory.evicted, backends })
        });
        noted.collect()
    }

    /// Take for in force what the tables hold of the services `standing`, given with their way to hash. What cannot be
    /// gone on with, as it is hashed otherwise from now on, begins anew.
    pub(in crate::datapath::kernel) fn inherit(
        &mut self,
        standing: &BTreeMap<u32, u8>,
        wanted: &[DesiredForward],
        noted: &BTreeMap<u32, Noted>,
    ) -> Result<(), DatapathError> {
        let flows = self.tables.flows()?;
        self.in_force = self.content(standing, wanted, noted, &flows)?;
        for id in standing.keys().filter(|id| !self.in_force.state.services.contains_key(id)) {
            // Remembered by numbers that mean something else from now on.
            let keys: Vec<FlowKey> = flows.iter().filter(|(_, value)| is_of(value, *id)).map(|(key, _)| *key).collect();
            tracing::warn!(service = id, flows = keys.len(), "a forwarded service begins anew; its flows may move");
            self.tables.forget(&keys)?;
        }
        self.memory.clear();
        for id in self.in_force.state.services.keys() {
            let counter = self.tables.flow_counter(*id)?;
            let kept = flows.iter().filter(|(_, value)| is_of(value, *id)).count() as u64;
            // Without a note, what nobody accounts for counts as taken out.
            let gone = counter.remembered.saturating_sub(counter.forgotten + kept);
            let memory = noted.get(id).map_or(Memory { purged: gone, evicted: 0 }, |noted| Memory {
                purged: noted.purged,
                evicted: noted.evicted,
            });
            self.memory.insert(*id, memory);
        }
        Ok(())
    }

    /// Somebody else wrote meanwhile: make the tables what is in force. `standing` is what is there now.
    pub(in crate::datapath::kernel) fn write_again(
        &mut self,
        standing: &BTreeMap<u32, u8>,
    ) -> Result<(), DatapathError> {
        let services = self.in_force.state.services.values();
        let wanted: Vec<DesiredForward> = services.map(|service| service.forward.clone()).collect();
        let flows = self.tables.flows()?;
        let there = self.content(standing, &wanted, &self.noted(), &flows)?;
        self.tables.lead(&there, &self.in_force)?;
        self.tables.retire(&there, &self.in_force)
    }

    fn content(
        &self,
        standing: &BTreeMap<u32, u8>,
        wanted: &[DesiredForward],
        noted: &BTreeMap<u32, Noted>,
        flows: &[(FlowKey, FlowValue)],
    ) -> Result<Content, DatapathError> {
        let mut state = State::default();
        for (id, hash) in standing {
            let wanted = wanted.iter().find(|forward| forward.id == *id);
            let noted = noted.get(id).cloned().unwrap_or_default();
            if let Some(service) = self.standing(*id, *hash, wanted, &noted, flows)? {
                state.services.insert(*id, Arc::new(service));
            }
        }
        Ok(Content { state, reverse: self.tables.replies()? })
    }

    fn standing(
        &self,
        id: u32,
        hash: u8,
        wanted: Option<&DesiredForward>,
        noted: &Noted,
        flows: &[(FlowKey, FlowValue)],
    ) -> Result<Option<Service>, DatapathError> {
        let row = self.tables.forward_of(id)?;
        let rings = [false, true].map(|v6| self.tables.slots(abi::ring(id, v6)));
        let [Some(v4), Some(v6)] = rings else { return Ok(None) };
        let rings: Rings = [v4, v6];
        let fits = |ring: &[_]| ring.is_empty() || ring.len() == row.slots as usize;
        let same = |forward: &DesiredForward| forward.slots == row.slots && hash_number(forward.hash) == hash;
        if !rings.iter().all(|ring| fits(ring)) || !wanted.is_none_or(same) {
            return Ok(None);
        }
        let unsettled = rings.iter().flatten().any(|slot| !slot.is_settled());
        let backends = self.backends(&rings, noted, flows.iter().filter(|(_, value)| unsettled && is_of(value, id)))?;
        let mut forward = wanted.cloned().unwrap_or_else(|| nobodys(id));
        // Never what is wanted: the next change computes everything, and finds what is the same.
        forward.name.clear();
        forward.backends.clear();
        (forward.slots, forward.udp_idle) = (row.slots, Duration::from_nanos(row.udp_idle));
        forward.outer_mtu = Some(row.outer_mtu).filter(|mtu| *mtu != 0);
        let moving = rings.iter().flatten().any(|slot| !slot.is_settled() && slot.settled != WATCHED);
        let anew = || monotonic().saturating_add(u64::try_from(forward.drain.as_nanos()).unwrap_or(Nanos::MAX));
        let phase = match (unsettled, moving) {
            (false, _) => Phase::Settled,
            (true, true) => Phase::Moving(noted.moving_until.unwrap_or_else(anew)),
            (true, false) => Phase::Watching,
        };
        Ok(Some(Service { forward, rings, phase, udp_new_after: row.udp_new_after, backends }))
    }

    /// Who has a number: by the slots, by flows that are remembered, by the note where the table agrees.
    fn backends<'a>(
        &self,
        rings: &Rings,
        noted: &Noted,
        flows: impl Iterator<Item = &'a (FlowKey, FlowValue)>,
    ) -> Result<BTreeMap<SocketAddr, Standing>, DatapathError> {
        let mut numbers: BTreeSet<Backend> = noted.backends.iter().map(|(_, number)| *number).collect();
        let mut shares: BTreeMap<Backend, u32> = BTreeMap::new();
        for slot in rings.iter().flatten() {
            numbers.extend([slot.settled, slot.current]);
            *shares.entry(slot.current).or_default() += 1;
        }
        numbers.extend(flows.filter_map(|(_, value)| Backend::try_from(value.backend).ok()));
        let by_slots = |number: &Backend| shares.contains_key(number);
        let mut backends = BTreeMap::new();
        for number in numbers.iter().filter(|number| ![NONE, WATCHED].contains(number)) {
            let row = self.tables.backend_of(*number)?;
            let address = SocketAddr::new(IpAddr::from(row.address.0).to_canonical(), row.port.get());
            let noted = noted.backends.iter().find(|(_, noted)| noted == number);
            if noted.is_some_and(|(noted, _)| *noted != address) && !by_slots(number) {
                // The number was given to another service since.
                continue;
            }
            let slots = shares.get(number).copied().unwrap_or(0);
            let alive = row.flags & BACKEND_ALIVE != 0;
            backends.insert(address, Standing { number: *number, alive, slots, in_pool: false });
        }
        Ok(backends)
    }
}

/// A service that nobody wants any more.
fn nobodys(id: u32) -> DesiredForward {
    DesiredForward {
        id,
        name: String::new(),
        addresses: Vec::new(),
        protocols: Vec::new(),
        mode: ForwardMode::Nat,
        hash: ForwardHash::Flow,
        slots: 0,
        drain: UNKNOWN_DRAIN,
        udp_idle: UNKNOWN_DRAIN,
        outer_mtu: None,
        backends: Vec::new(),
    }
}
