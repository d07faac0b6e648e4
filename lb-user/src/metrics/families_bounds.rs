//! Families of bounds, and of what gave way at one. Pure.

use super::family::Family;
use crate::admin::bounds::bounds;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut used = Family::gauge("bailey_bound_used", "How much of a bound is used.");
    let mut limit = Family::gauge("bailey_bound_limit", "The bound.");
    for bound in bounds(edge) {
        used.add([("bound", bound.name.clone())], bound.used);
        limit.add([("bound", bound.name)], bound.limit);
    }
    let mut shed = Family::counter(
        "bailey_worker_connections_shed_total",
        "Connections that gave way, as there were (nearly) as many as may be, by how.",
    );
    let mut failures = Family::counter(
        "bailey_worker_accept_failures_total",
        "Connections that could not be accepted, as descriptors or memory were missing.",
    );
    for thread in &edge.worker.report.threads {
        let worker = thread.index.to_string();
        let how = |how: &str| [("worker", worker.clone()), ("how", how.to_owned())];
        shed.add(how("asked_to_end"), thread.connections_asked);
        shed.add(how("refused"), thread.connections_refused);
        failures.add([("worker", worker.clone())], thread.accept_failures);
    }
    vec![used, limit, shed, failures]
}
