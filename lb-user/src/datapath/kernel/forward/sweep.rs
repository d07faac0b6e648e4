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

/// Look through `entries`, of which some are of the service `id`.
pub(super) fn sweep(entries: &[(FlowKey, FlowValue)], id: u32, service: &Service, now: Nanos) -> Sweep {
    let mut sweep = Sweep::default();
    for (key, value) in entries {
        let Some(family) = [false, true].into_iter().find(|v6| abi::ring(id, *v6) == value.ring) else { continue };
        let family = usize::from(family);
        let silence =
            if key.protocol == u32::from(PROTO_UDP) { service.forward.udp_idle } else { service.forward.drain };
        let over = value.seen.saturating_add(u64::try_from(silence.as_nanos()).unwrap_or(Nanos::MAX)) <= now;
        let slot = service.rings[family].get(value.slot as usize);
        let needless = slot.is_none_or(|slot| u32::from(slot.current) == value.backend);
        let number = value.backend as Backend;
        let dead = service.backends.values().find(|standing| standing.number == number).is_none_or(|s| !s.alive);
        if over || needless || dead {
            sweep.delete.push(*key);
        } else {
            sweep.remembered[family].insert(value.slot);
            sweep.kept += 1;
        }
    }
    sweep
}
