//! Families of the edges of a connection: PROXY headers, limits of clients. Pure.

use super::family::Family;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut headers = Family::counter(
        "bailey_proxy_headers_total",
        "Connections that begin, or may begin, with a PROXY header, by what came of it.",
    );
    let mut over =
        Family::counter("bailey_limited_total", "Connections and requests over a limit of the service or of a source.");
    let mut sources = Family::gauge("bailey_limit_sources", "Sources that limits remember now.");
    for service in &edge.worker.report.services {
        let named = |label: &'static str, word: &str| [("service", service.service.clone()), (label, word.to_owned())];
        for (word, count) in &service.proxy_headers {
            headers.add(named("result", word), *count);
        }
        for (word, count) in &service.limited {
            over.add(named("limit", word), *count);
        }
        let limits = edge.config.services.iter().find(|one| one.name == service.service).map(|one| &one.client_limits);
        let limited = limits.is_some_and(|l| l.source_connections.is_some() || l.source_requests.is_some());
        if limited || service.limited_sources > 0 {
            sources.add([("service", service.service.clone())], service.limited_sources);
        }
    }
    vec![headers, over, sources]
}
