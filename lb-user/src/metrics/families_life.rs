//! Processes, and how they follow one another.

use super::family::Family;
use crate::reconcile::State;
use crate::supervisor::Cause;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let worker = &edge.worker;
    let mut up = Family::gauge("bailey_worker_up", "1 while every worker process serves.");
    up.add([], u64::from(!worker.seats.is_empty() && worker.living() == worker.seats.len()));
    let mut processes = Family::gauge("bailey_worker_processes", "Worker processes that serve.");
    processes.add([], worker.living() as u64);
    let mut adopted = Family::gauge("bailey_worker_adopted", "Worker processes that an earlier control plane started.");
    adopted.add([], worker.seats.iter().filter(|seat| seat.adopted).count() as u64);
    let mut restarts = Family::counter("bailey_worker_restarts_total", "Worker processes started again.");
    restarts.add([], worker.restarts);
    let mut ends =
        Family::counter("bailey_worker_ends_total", "Ends of worker processes that nobody asked for, by cause.");
    for cause in Cause::ALL {
        ends.add([("cause", cause.as_str().to_owned())], worker.ends.get(&cause).copied().unwrap_or(0));
    }
    let mut gap = Family::gauge(
        "bailey_worker_gap_seconds",
        "From the end of the worker process that died last to where the next one served.",
    );
    if let Some(last) = worker.last_gap {
        gap.add_seconds([], last);
    }
    let mut upgrades =
        Family::counter("bailey_upgrades_total", "Upgrades: to this control plane, and from it that did not come off.");
    upgrades.add([("result", "applied".to_owned())], edge.upgrades.0);
    upgrades.add([("result", "refused".to_owned())], edge.upgrades.1);
    vec![up, processes, adopted, restarts, ends, gap, upgrades]
}
