//! Who is still remembered in a service that is watched. Pure.

use std::collections::BTreeSet;

use lb_common::abi::{self, FlowKey, FlowValue, PROTO_UDP};
use lb_common::select::Backend;

use super::state::{Nanos, Service};

/// What a look at the memory of flows gave for one service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Flows whose memory is of no more use.
    pub(super) delete: Vec<FlowKey>,
    /// Slots of each ring in which somebody is remembered.
    pub(super) remembered: [BTreeSet<u32>; 2],
    /// Flows that stay remembered.
    pub(super) kept: u64,
}

/// Whether a remembered flow is of the service `id`.
pub(super) fn is_of(value: &FlowValue, id: u32) -> bool {
    value.ring == abi::ring(id, false) || value.ring == abi::ring(id, true)
}

/// Look through `entries`, of which some are of the service `id`.
pub(super) fn sweep(entries: &[(FlowKey, FlowValue)], id: u32, service: &Service, now: Nanos) -> Sweep {
    let mut sweep = Sweep::default();
    let living = service.backends.values().filter(|standing| standing.alive);
    let living: BTreeSet<Backend> = living.map(|standing| standing.number).collect();
    for (key, value) in entries {
        if !is_of(value, id) {
            continue;
        }
        let family = usize::from(value.ring == abi::ring(id, true));
        let silence =
            if key.protocol == u32::from(PROTO_UDP) { service.forward.udp_idle } else { service.forward.drain };
        let over = value.seen.saturating_add(u64::try_from(silence.as_nanos()).unwrap_or(Nanos::MAX)) <= now;
        let slot = service.rings[family].get(value.slot as usize);
        let needless = slot.is_none_or(|slot| u32::from(slot.current) == value.backend);
        let dead = !living.contains(&(value.backend as Backend));
        if over || needless || dead {
            sweep.delete.push(*key);
        } else {
            sweep.remembered[family].insert(value.slot);
            sweep.kept += 1;
        }
    }
    sweep
}
