//! Families of names of backends, and of what drains. Pure.

use super::family::Family;
use crate::reconcile::State;
use std::time::UNIX_EPOCH;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut lookups = Family::counter("bailey_dns_lookups_total", "Lookups of names of backends.");
    let mut addresses = Family::gauge("bailey_dns_addresses", "Addresses of a name in force.");
    let mut failing = Family::gauge("bailey_dns_failing", "1 while lookups of a name fail.");
    let mut answered =
        Family::gauge("bailey_dns_last_answer_timestamp_seconds", "When DNS last said something about a name.");
    let mut rejected =
        Family::counter("bailey_dns_addresses_rejected_total", "Addresses that no backend can have, or too many.");
    for (host, note) in &edge.names {
        let name = || ("name", host.clone());
        for (result, count) in ["found", "empty", "failed"].into_iter().zip(note.lookups) {
            lookups.add([name(), ("result", result.into())], count);
        }
        addresses.add([name()], note.addresses.len() as u64);
        failing.add([name()], u64::from(note.failing.is_some()));
        if let Some(since) = note.answered.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            answered.add([name()], since.as_secs());
        }
        rejected.add([name()], note.rejected);
    }
    let mut tunnels = Family::gauge("bailey_backend_tunnels_active", "Tunnels in flight on a backend.");
    let mut cut = Family::counter("bailey_backend_drain_cut_total", "What was in flight when a drain was over.");
    let mut left = Family::gauge("bailey_backend_drain_left_seconds", "Until what is in flight is cut; 0: no drain.");
    for row in &edge.worker.report.backends {
        let labels = || [("pool", row.pool.clone()), ("backend", row.backend.to_string())];
        tunnels.add(labels(), row.tunnels);
        left.add(labels(), row.drain_left_ms.div_ceil(1000));
        for (kind, count) in [("request", row.cut_requests), ("tunnel", row.cut_tunnels)] {
            let [pool, backend] = labels();
            cut.add([pool, backend, ("kind", kind.into())], count);
        }
    }
    vec![lookups, addresses, failing, answered, rejected, tunnels, cut, left]
}
