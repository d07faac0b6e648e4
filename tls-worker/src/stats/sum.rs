//! Summing the threads' reports into one.

use crate::api::{
    AccessLogReport, AuthorizerReport, BackendReport, PoolReport, Report, RequestReport, ServiceReport, SessionReport,
};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Threads are listed, the rest is added up by name.
pub(crate) fn sum(parts: Vec<Report>) -> Report {
    let mut whole = Report::default();
    let (mut services, mut requests) = (HashMap::new(), HashMap::new());
    let (mut backends, mut pools) = (HashMap::new(), HashMap::new());
    let (mut sessions, mut logs) = (HashMap::new(), HashMap::new());
    let mut authorizers = HashMap::new();
    for part in parts {
        whole.threads.extend(part.threads);
        for s in part.services {
            add(&mut services, s.service.clone(), s, add_service);
        }
        for r in part.requests {
            let key = (r.service.clone(), r.route.clone(), r.pool.clone(), r.backend, r.code_class);
            add(&mut requests, key, r, |to: &mut RequestReport, from| to.seconds.merge(&from.seconds));
        }
        for p in part.pools {
            add(&mut pools, p.pool.clone(), p, add_pool);
        }
        for a in part.authorizers {
            add(&mut authorizers, a.authorizer.clone(), a, add_authorizer);
        }
        for b in part.backends {
            add(&mut backends, (b.pool.clone(), b.backend), b, add_backend);
        }
        for l in part.access_logs {
            let add_lines = |to: &mut AccessLogReport, from: AccessLogReport| {
                to.lines += from.lines;
                to.dropped += from.dropped;
            };
            add(&mut logs, l.log.clone(), l, add_lines);
        }
        for s in part.sessions {
            let add_lookups = |to: &mut SessionReport, from: SessionReport| add_pairs(&mut to.lookups, from.lookups);
            add(&mut sessions, s.pool.clone(), s, add_lookups);
        }
    }
    whole.threads.sort_by_key(|t| t.index);
    whole.services = sorted(services);
    whole.requests = sorted(requests);
    whole.backends = sorted(backends);
    whole.pools = sorted(pools);
    whole.sessions = sorted(sessions);
    whole.access_logs = sorted(logs);
    whole.authorizers = sorted(authorizers);
    whole
}

fn add<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, from: V, merge: impl Fn(&mut V, V)) {
    match map.entry(key) {
        Entry::Vacant(v) => {
            v.insert(from);
        }
        Entry::Occupied(mut o) => merge(o.get_mut(), from),
    }
}

fn sorted<K: Ord, V>(map: HashMap<K, V>) -> Vec<V> {
    let mut pairs: Vec<(K, V)> = map.into_iter().collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.into_iter().map(|(_, v)| v).collect()
}

fn add_service(to: &mut ServiceReport, from: ServiceReport) {
    to.connections += from.connections;
    to.connections_active += from.connections_active;
    to.connections_refused += from.connections_refused;
    to.received_bytes += from.received_bytes;
    to.sent_bytes += from.sent_bytes;
    to.handshake_seconds.merge(&from.handshake_seconds);
    add_pairs(&mut to.handshakes, from.handshakes);
    add_pairs(&mut to.sessions, from.sessions);
    add_pairs(&mut to.groups, from.groups);
    add_pairs(&mut to.handshake_failures, from.handshake_failures);
    add_pairs(&mut to.handshakes_refused, from.handshakes_refused);
    add_pairs(&mut to.client_certs, from.client_certs);
    add_pairs(&mut to.rejected, from.rejected);
    add_pairs(&mut to.timeouts, from.timeouts);
    add_pairs(&mut to.mirrored, from.mirrored);
    to.invalid_headers += from.invalid_headers;
    add_pairs(&mut to.proxy_headers, from.proxy_headers);
    add_pairs(&mut to.limited, from.limited);
    to.limited_sources += from.limited_sources;
    add_pairs(&mut to.http2_abuse, from.http2_abuse);
    to.compression_busy += from.compression_busy;
    for row in from.compression {
        match to.compression.iter_mut().find(|known| known.coding == row.coding) {
            Some(known) => {
                known.responses += row.responses;
                known.bytes_in += row.bytes_in;
                known.bytes_out += row.bytes_out;
            }
            None => to.compression.push(row),
        }
    }
}

fn add_authorizer(to: &mut AuthorizerReport, from: AuthorizerReport) {
    add_pairs(&mut to.outcomes, from.outcomes);
    add_pairs(&mut to.cache, from.cache);
    add_pairs(&mut to.failures, from.failures);
    to.seconds.merge(&from.seconds);
    // Every thread sees the same answers.
    to.kept = to.kept.max(from.kept);
}

fn add_backend(to: &mut BackendReport, from: BackendReport) {
    to.active += from.active;
    to.tunnels += from.tunnels;
    to.cut_requests += from.cut_requests;
    to.cut_tunnels += from.cut_tunnels;
    to.drain_left_ms = to.drain_left_ms.max(from.drain_left_ms);
    to.connections += from.connections;
    to.connections_open += from.connections_open;
    add_pairs(&mut to.failures, from.failures);
    to.ejected += from.ejected;
    add_pairs(&mut to.ejections, from.ejections);
}

fn add_pool(to: &mut PoolReport, from: PoolReport) {
    to.active += from.active;
    to.waiting += from.waiting;
    to.waits += from.waits;
    to.overflows += from.overflows;
    to.timeouts += from.timeouts;
    to.wait_seconds.merge(&from.wait_seconds);
    add_pairs(&mut to.retries, from.retries);
    to.denied += from.denied;
    add_pairs(&mut to.hedges, from.hedges);
    add_pairs(&mut to.circuit, from.circuit);
    to.panic += from.panic;
}

fn add_pairs(to: &mut Vec<(String, u64)>, from: Vec<(String, u64)>) {
    for (name, n) in from {
        match to.iter_mut().find(|(known, _)| *known == name) {
            Some((_, total)) => *total += n,
            None => to.push((name, n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Histogram, ThreadReport};
    use crate::stats::HistogramCells;
    use proptest::prelude::*;
    use std::time::Duration;

    fn part(index: u32, service: &str, connections: u64, failure: &str) -> Report {
        Report {
            threads: vec![ThreadReport { index, ..Default::default() }],
            services: vec![ServiceReport {
                service: service.into(),
                connections,
                handshake_failures: vec![(failure.into(), connections)],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn threads_are_listed_and_services_added_by_name() {
        let whole = sum(vec![part(1, "web", 3, "closed"), part(0, "web", 4, "timeout"), part(2, "api", 1, "closed")]);
        assert_eq!(whole.threads.iter().map(|t| t.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(whole.services.len(), 2);
        let web = whole.services.iter().find(|s| s.service == "web").unwrap();
        assert_eq!(web.connections, 7);
        assert_eq!(web.handshake_failures, [("closed".to_string(), 3), ("timeout".to_string(), 4)]);
    }

    proptest! {
        #[test]
        fn the_counted_histogram_is_the_reported_one(times in proptest::collection::vec(0u64..20_000_000, 0..50)) {
            let cells = HistogramCells::default();
            let mut plain = Histogram::default();
            for us in &times {
                cells.observe(Duration::from_micros(*us));
                plain.observe(Duration::from_micros(*us).as_secs_f64());
            }
            let read = cells.read();
            prop_assert_eq!(read.buckets, plain.buckets);
            prop_assert_eq!(read.count(), times.len() as u64);
            prop_assert!((read.sum - plain.sum).abs() < 1e-6);
        }
    }
}
