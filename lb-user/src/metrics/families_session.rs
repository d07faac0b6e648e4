//! Families of persistence.

use super::family::Family;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut entries = Family::gauge("bailey_sessions", "Clients in a pool's table of persistence.");
    let mut lookups = Family::counter(
        "bailey_session_lookups_total",
        "Requests and connections of pools with persistence, by result.",
    );
    let mut removed =
        Family::counter("bailey_sessions_removed_total", "Entries taken out of a pool's table, by cause.");
    let mut lost = Family::counter(
        "bailey_session_changes_lost_total",
        "Changes that the next worker will not know of, or knows late.",
    );
    for row in &edge.worker.report.sessions {
        let pool = || ("pool", row.pool.clone());
        entries.add([pool()], row.entries);
        for (result, count) in &row.lookups {
            lookups.add([pool(), ("result", result.clone())], *count);
        }
        for (cause, count) in &row.removed {
            removed.add([pool(), ("cause", cause.clone())], *count);
        }
    }
    let untold: u64 = edge.worker.report.sessions.iter().map(|row| row.untold).sum();
    lost.add([], untold + edge.worker.sessions.lost());
    vec![entries, lookups, removed, lost]
}
