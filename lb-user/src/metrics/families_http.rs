//! Families of what HTTP clients do that they should not.

use super::family::Family;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut abuse = Family::counter(
        "bailey_http2_abuse_total",
        "HTTP/2 connections ended for what the client did too much of, and stalled streams.",
    );
    for service in &edge.worker.report.services {
        for (kind, count) in &service.http2_abuse {
            abuse.add([("service", service.service.clone()), ("kind", kind.clone())], *count);
        }
    }
    vec![abuse]
}
