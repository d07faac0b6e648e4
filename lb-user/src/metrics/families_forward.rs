//! Families of forwarded services and of the shield. Pure. Rows are of services and backends that the config or an
//! operator named, and of backends that are gone for as long as the datapath keeps them.

use super::family::Family;
use crate::datapath::{ForwardState, SynCookies};
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut all = backend_families(edge);
    all.extend(service_families(edge));
    all.extend(shield_families(edge));
    all
}

/// Forwarded services that are there, with their names and pools.
fn forwarded(edge: &State) -> impl Iterator<Item = (&str, &str, &ForwardState)> {
    edge.config.forwards.iter().filter_map(|forward| {
        let id = edge.ids.id(&forward.name)?;
        let state = edge.counters.forwards.iter().find(|state| state.service == id)?;
        let pool = edge.config.pools.get(forward.pool)?;
        Some((forward.name.as_str(), pool.name.as_str(), state))
    })
}

fn backend_families(edge: &State) -> Vec<Family> {
    let mut packets =
        Family::counter("bailey_backend_packets_total", "Packets that a forwarded service sent to a backend.");
    let mut bytes = Family::counter("bailey_backend_packet_bytes_total", "The same in bytes, as they came in.");
    let mut flows = Family::counter("bailey_backend_flows_total", "Flows begun to a backend of a forwarded service.");
    let mut slots = Family::gauge("bailey_ring_slots", "Slots of the ring by which new flows go to a backend.");
    for (service, pool, state) in forwarded(edge) {
        for backend in &state.backends {
            let address = backend.address.to_string();
            let labels = || [("service", service.into()), ("pool", pool.into()), ("backend", address.clone())];
            packets.add(labels(), backend.packets);
            bytes.add(labels(), backend.bytes);
            flows.add(labels(), backend.flows);
            slots.add([("service", service.into()), ("backend", address.clone())], backend.slots.into());
        }
    }
    vec![packets, bytes, flows, slots]
}

fn service_families(edge: &State) -> Vec<Family> {
    let with = |mut family: Family, value: fn(&ForwardState) -> u64| {
        for (service, _, state) in forwarded(edge) {
            family.add([("service", service.into())], value(state));
        }
        family
    };
    let moved = Family::gauge("bailey_ring_slots_moved", "Slots whose flows may go to two backends.");
    let watched = Family::gauge("bailey_ring_slots_watched", "Slots whose remembered flows have not ended.");
    let remembered = Family::counter("bailey_flows_remembered_total", "Flows that were put into memory.");
    let evicted = Family::counter("bailey_flows_evicted_total", "Remembered flows gone because memory was full.");
    let dead = Family::counter("bailey_flows_dead_total", "Packets of flows whose backend is dead, sent to another.");
    vec![
        with(moved, |state| state.moved.into()),
        with(watched, |state| state.watched.into()),
        with(remembered, |state| state.remembered),
        with(evicted, |state| state.evicted),
        with(dead, |state| state.dead),
    ]
}

fn shield_families(edge: &State) -> Vec<Family> {
    let shield = &edge.counters.shield;
    let mut prefixes = Family::gauge("bailey_prefixes", "Prefixes that are denied or allowed, in the kernel.");
    let mut lost =
        Family::counter("bailey_events_lost_total", "Dropped packets to be told live that nobody read in time.");
    if edge.config.edge.filters() {
        prefixes.add([], shield.prefixes);
        lost.add([], shield.events_lost);
    }
    let mut flood =
        Family::gauge("bailey_syn_flood", "1 while SYNs are answered with cookies because of their number.");
    for (service, limits) in &edge.config.limits {
        if let (SynCookies::Auto { .. }, Some(id)) = (limits.syn_cookies, edge.ids.id(service)) {
            flood.add([("service", service.clone())], shield.flooded.contains(&id).into());
        }
    }
    vec![prefixes, lost, flood]
}
