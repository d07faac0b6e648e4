//! Families of what routes do beside sending a request to its pool.

use super::family::Family;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut mirrored = Family::counter("bailey_http_mirrored_total", "Copies of requests for a mirror, by result.");
    let mut invalid =
        Family::counter("bailey_http_invalid_headers_total", "Values made of variables that no header can have.");
    for service in &edge.worker.report.services {
        for (result, count) in &service.mirrored {
            mirrored.add([("service", service.service.clone()), ("result", result.clone())], *count);
        }
        if service.invalid_headers > 0 {
            invalid.add([("service", service.service.clone())], service.invalid_headers);
        }
    }
    vec![mirrored, invalid]
}
