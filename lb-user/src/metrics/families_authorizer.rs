//! Families of authorizers.

use super::family::Family;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut outcomes = Family::counter(
        "bailey_authorizer_requests_total",
        "Requests of routes with an authorizer, by what came of it.",
    );
    let mut cache = Family::counter("bailey_authorizer_cache_total", "Uses of kept answers, by kind.");
    let mut failures = Family::counter("bailey_authorizer_failures_total", "Callouts without an answer, by reason.");
    let mut seconds = Family::histogram("bailey_authorizer_seconds", "Time of callouts.");
    let mut kept = Family::gauge("bailey_authorizer_cache_entries", "Answers that are kept.");
    for row in &edge.worker.report.authorizers {
        let name = || ("authorizer", row.authorizer.clone());
        for (result, n) in &row.outcomes {
            outcomes.add([name(), ("result", result.clone())], *n);
        }
        for (kind, n) in &row.cache {
            cache.add([name(), ("kind", kind.clone())], *n);
        }
        for (reason, n) in &row.failures {
            failures.add([name(), ("reason", reason.clone())], *n);
        }
        seconds.add_histogram([name()], &row.seconds);
        kept.add([name()], row.kept);
    }
    vec![outcomes, cache, failures, seconds, kept]
}
