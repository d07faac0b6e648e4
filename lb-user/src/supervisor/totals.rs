//! Counters over the lives of several worker processes. Pure. Counters never fall; gauges are those of the one that
//! lives.

use std::collections::BTreeMap;
use tls_worker::api::{
    AccessLogReport, AuthorizerReport, BackendReport, Coding, CompressionReport, Histogram, PoolReport, Report,
    RequestReport, ServiceReport, SessionReport, ThreadReport,
};

/// What all workers counted.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Of workers that are gone.
    gone: Report,
    /// The highest that the living one reported.
    living: Report,
}

impl Totals {
    /// A report of the living one. A thread that did not answer in time is missing from it; counters keep what they had.
    pub(super) fn report(&mut self, report: &Report) {
        self.living = combine(&self.living, report, u64::max, later, Gauges::OfSecond);
    }

    /// The living one is gone: its counters stay, its gauges fall to nothing.
    pub(super) fn ended(&mut self) {
        let living = std::mem::take(&mut self.living);
        self.gone = combine(&self.gone, &living, |a, b| a + b, sum_of, Gauges::Nothing);
    }

    /// All together.
    pub(super) fn all(&self) -> Report {
        combine(&self.gone, &self.living, |a, b| a + b, sum_of, Gauges::OfSecond)
    }
}

/// What processes that work beside each other counted.
pub(super) fn together<'a>(totals: impl Iterator<Item = &'a Totals>) -> Report {
    let add = |sum: Report, one: &Totals| combine(&sum, &one.all(), |a, b| a + b, sum_of, Gauges::Both);
    totals.fold(Report::default(), add)
}

/// A later histogram of the same process.
fn later(a: &Histogram, b: &Histogram) -> Histogram {
    let mut later = b.clone();
    for (bucket, before) in later.buckets.iter_mut().zip(a.buckets) {
        *bucket = before.max(*bucket);
    }
    later.sum = a.sum.max(b.sum);
    later
}

/// Histograms of two processes.
fn sum_of(a: &Histogram, b: &Histogram) -> Histogram {
    let mut sum = a.clone();
    sum.merge(b);
    sum
}

#[derive(Clone, Copy, PartialEq)]
enum Gauges {
    OfSecond,
    Nothing,
    /// Of processes that live beside each other.
    Both,
}

impl Gauges {
    fn of(self, first: u64, second: u64) -> u64 {
        match self {
            Gauges::OfSecond => second,
            Gauges::Nothing => 0,
            Gauges::Both => first + second,
        }
    }
}

type Counters = fn(u64, u64) -> u64;
type Histograms = fn(&Histogram, &Histogram) -> Histogram;

/// Two reports, matched by key; what only one of them has is matched with nothing.
fn combine(a: &Report, b: &Report, counters: Counters, histograms: Histograms, gauges: Gauges) -> Report {
    Report {
        confinement: b.confinement.clone().or_else(|| a.confinement.clone()),
        threads: matched(
            &a.threads,
            &b.threads,
            |t| t.index,
            |a, b| ThreadReport {
                index: a.index.max(b.index),
                cpu: b.cpu.or(a.cpu),
                generation: if gauges == Gauges::Nothing { 0 } else { b.generation.max(a.generation) },
                connections: counters(a.connections, b.connections),
                connections_on_cpu: counters(a.connections_on_cpu, b.connections_on_cpu),
                connections_unknown: counters(a.connections_unknown, b.connections_unknown),
                connections_active: gauges.of(a.connections_active, b.connections_active),
                handshakes_active: gauges.of(a.handshakes_active, b.handshakes_active),
                handshakes_waiting: gauges.of(a.handshakes_waiting, b.handshakes_waiting),
                handshakes_queued: counters(a.handshakes_queued, b.handshakes_queued),
                connections_asked: counters(a.connections_asked, b.connections_asked),
                connections_refused: counters(a.connections_refused, b.connections_refused),
                accept_failures: counters(a.accept_failures, b.accept_failures),
            },
        ),
        services: matched(
            &a.services,
            &b.services,
            |s| s.service.clone(),
            |a, b| ServiceReport {
                service: either(&a.service, &b.service),
                connections: counters(a.connections, b.connections),
                connections_active: gauges.of(a.connections_active, b.connections_active),
                connections_refused: counters(a.connections_refused, b.connections_refused),
                received_bytes: counters(a.received_bytes, b.received_bytes),
                sent_bytes: counters(a.sent_bytes, b.sent_bytes),
                handshakes: labelled(&a.handshakes, &b.handshakes, counters),
                sessions: labelled(&a.sessions, &b.sessions, counters),
                groups: labelled(&a.groups, &b.groups, counters),
                handshake_failures: labelled(&a.handshake_failures, &b.handshake_failures, counters),
                handshakes_refused: labelled(&a.handshakes_refused, &b.handshakes_refused, counters),
                client_certs: labelled(&a.client_certs, &b.client_certs, counters),
                handshake_seconds: histograms(&a.handshake_seconds, &b.handshake_seconds),
                rejected: labelled(&a.rejected, &b.rejected, counters),
                timeouts: labelled(&a.timeouts, &b.timeouts, counters),
                proxy_headers: labelled(&a.proxy_headers, &b.proxy_headers, counters),
                limited: labelled(&a.limited, &b.limited, counters),
                limited_sources: gauges.of(a.limited_sources, b.limited_sources),
                http2_abuse: labelled(&a.http2_abuse, &b.http2_abuse, counters),
                compression: compressed(&a.compression, &b.compression, counters),
                compression_busy: counters(a.compression_busy, b.compression_busy),
                mirrored: labelled(&a.mirrored, &b.mirrored, counters),
                invalid_headers: counters(a.invalid_headers, b.invalid_headers),
            },
        ),
        requests: matched(
            &a.requests,
            &b.requests,
            |r| (r.service.clone(), r.route.clone(), r.pool.clone(), r.backend, r.code_class),
            |a, b| RequestReport {
                service: either(&a.service, &b.service),
                route: either(&a.route, &b.route),
                pool: either(&a.pool, &b.pool),
                backend: b.backend.or(a.backend),
                code_class: a.code_class.max(b.code_class),
                seconds: histograms(&a.seconds, &b.seconds),
            },
        ),
        backends: matched_backends(a, b, counters, gauges),
        pools: matched(
            &a.pools,
            &b.pools,
            |p| p.pool.clone(),
            |a, b| PoolReport {
                pool: either(&a.pool, &b.pool),
                active: gauges.of(a.active, b.active),
                waiting: gauges.of(a.waiting, b.waiting),
                waits: counters(a.waits, b.waits),
                overflows: counters(a.overflows, b.overflows),
                timeouts: counters(a.timeouts, b.timeouts),
                wait_seconds: histograms(&a.wait_seconds, &b.wait_seconds),
                retries: labelled(&a.retries, &b.retries, counters),
                denied: counters(a.denied, b.denied),
                hedges: labelled(&a.hedges, &b.hedges, counters),
                circuit: labelled(&a.circuit, &b.circuit, counters),
                panic: gauges.of(a.panic, b.panic),
            },
        ),
        access_logs: matched(
            &a.access_logs,
            &b.access_logs,
            |row| row.log.clone(),
            |a, b| AccessLogReport {
                log: either(&a.log, &b.log),
                lines: counters(a.lines, b.lines),
                dropped: counters(a.dropped, b.dropped),
            },
        ),
        sessions: matched(
            &a.sessions,
            &b.sessions,
            |s| s.pool.clone(),
            |a, b| SessionReport {
                pool: either(&a.pool, &b.pool),
                entries: gauges.of(a.entries, b.entries),
                lookups: labelled(&a.lookups, &b.lookups, counters),
                removed: labelled(&a.removed, &b.removed, counters),
                untold: counters(a.untold, b.untold),
            },
        ),
        authorizers: matched(
            &a.authorizers,
            &b.authorizers,
            |row| row.authorizer.clone(),
            |a, b| AuthorizerReport {
                authorizer: either(&a.authorizer, &b.authorizer),
                outcomes: labelled(&a.outcomes, &b.outcomes, counters),
                cache: labelled(&a.cache, &b.cache, counters),
                failures: labelled(&a.failures, &b.failures, counters),
                seconds: histograms(&a.seconds, &b.seconds),
                kept: gauges.of(a.kept, b.kept),
            },
        ),
    }
}

fn matched_backends(a: &Report, b: &Report, counters: Counters, gauges: Gauges) -> Vec<BackendReport> {
    let empty = |like: &BackendReport| BackendReport {
        active: 0,
        tunnels: 0,
        cut_requests: 0,
        cut_tunnels: 0,
        drain_left_ms: 0,
        connections: 0,
        connections_open: 0,
        failures: Vec::new(),
        ejected: 0,
        ejections: Vec::new(),
        ..like.clone()
    };
    let key = |report: &BackendReport| (report.pool.clone(), report.backend);
    let mut rows: BTreeMap<_, BackendReport> = a.backends.iter().map(|row| (key(row), row.clone())).collect();
    for row in rows.values_mut() {
        row.active = gauges.of(row.active, 0);
        row.tunnels = gauges.of(row.tunnels, 0);
        row.drain_left_ms = gauges.of(row.drain_left_ms, 0);
        row.connections_open = gauges.of(row.connections_open, 0);
        row.ejected = gauges.of(row.ejected, 0);
    }
    for row in &b.backends {
        let before = rows.entry(key(row)).or_insert_with(|| empty(row));
        before.active = gauges.of(before.active, row.active);
        before.tunnels = gauges.of(before.tunnels, row.tunnels);
        // Time is no count: of processes beside each other the longest.
        before.drain_left_ms = before.drain_left_ms.max(gauges.of(0, row.drain_left_ms));
        before.cut_requests = counters(before.cut_requests, row.cut_requests);
        before.cut_tunnels = counters(before.cut_tunnels, row.cut_tunnels);
        before.connections = counters(before.connections, row.connections);
        before.connections_open = gauges.of(before.connections_open, row.connections_open);
        before.failures = labelled(&before.failures, &row.failures, counters);
        before.ejected = gauges.of(before.ejected, row.ejected);
        before.ejections = labelled(&before.ejections, &row.ejections, counters);
    }
    rows.into_values().collect()
}

fn matched<T: Default, K: Ord>(a: &[T], b: &[T], key: impl Fn(&T) -> K, join: impl Fn(&T, &T) -> T) -> Vec<T> {
    let mut rows: BTreeMap<K, T> = a.iter().map(|row| (key(row), join(row, &T::default()))).collect();
    for row in b {
        let before = rows.remove(&key(row)).unwrap_or_default();
        rows.insert(key(row), join(&before, row));
    }
    rows.into_values().collect()
}

fn labelled(a: &[(String, u64)], b: &[(String, u64)], counters: Counters) -> Vec<(String, u64)> {
    let mut rows: BTreeMap<&str, u64> = a.iter().map(|(label, n)| (label.as_str(), *n)).collect();
    for (label, n) in b {
        let before = rows.entry(label).or_default();
        *before = counters(*before, *n);
    }
    rows.into_iter().map(|(label, n)| (label.to_owned(), n)).collect()
}

fn compressed(a: &[CompressionReport], b: &[CompressionReport], counters: Counters) -> Vec<CompressionReport> {
    let mut rows: BTreeMap<Coding, CompressionReport> = a.iter().map(|row| (row.coding, row.clone())).collect();
    for row in b {
        let none = CompressionReport { coding: row.coding, responses: 0, bytes_in: 0, bytes_out: 0 };
        let before = rows.entry(row.coding).or_insert(none);
        before.responses = counters(before.responses, row.responses);
        before.bytes_in = counters(before.bytes_in, row.bytes_in);
        before.bytes_out = counters(before.bytes_out, row.bytes_out);
    }
    rows.into_values().collect()
}

fn either(a: &str, b: &str) -> String {
    if a.is_empty() { b.to_owned() } else { a.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(connections: u64, active: u64, failures: u64) -> Report {
        let mut seconds = Histogram::default();
        (0..connections).for_each(|_| seconds.observe(0.001));
        Report {
            confinement: None,
            threads: vec![ThreadReport { connections, connections_active: active, ..Default::default() }],
            services: vec![ServiceReport {
                service: "web".into(),
                connections,
                connections_active: active,
                handshake_failures: vec![("no_sni".into(), failures)],
                compression: vec![CompressionReport {
                    coding: Coding::Br,
                    responses: connections,
                    bytes_in: active,
                    bytes_out: failures,
                }],
                handshake_seconds: seconds.clone(),
                ..Default::default()
            }],
            requests: vec![RequestReport { service: "web".into(), code_class: 2, seconds, ..Default::default() }],
            backends: vec![BackendReport {
                pool: "p".into(),
                backend: ([10, 0, 0, 1], 80).into(),
                active,
                tunnels: active,
                cut_requests: connections,
                cut_tunnels: failures,
                drain_left_ms: active,
                connections,
                connections_open: active,
                failures: vec![("connect".into(), failures)],
                ejected: active,
                ejections: vec![("errors".into(), failures)],
            }],
            pools: vec![PoolReport {
                pool: "p".into(),
                waiting: active,
                waits: connections,
                retries: vec![("connect".into(), failures)],
                ..Default::default()
            }],
            access_logs: vec![AccessLogReport { log: "a".into(), lines: connections, dropped: failures }],
            sessions: vec![SessionReport { pool: "p".into(), untold: connections, ..Default::default() }],
            authorizers: vec![AuthorizerReport {
                authorizer: "a".into(),
                outcomes: vec![("denied".into(), failures)],
                ..Default::default()
            }],
        }
    }

    fn counters(report: &Report) -> Vec<u64> {
        let mut all = vec![];
        all.extend(report.threads.iter().map(|t| t.connections));
        all.extend(report.services.iter().flat_map(|s| [s.connections, s.handshake_seconds.count()]));
        all.extend(report.services.iter().flat_map(|s| s.handshake_failures.iter().map(|f| f.1)));
        all.extend(report.services.iter().flat_map(|s| s.compression.iter().map(|c| c.responses)));
        all.extend(report.requests.iter().map(|r| r.seconds.count()));
        all.extend(report.backends.iter().flat_map(|b| [b.connections, b.failures[0].1, b.ejections[0].1]));
        all.extend(report.pools.iter().flat_map(|p| [p.waits, p.retries[0].1]));
        all.extend(report.access_logs.iter().flat_map(|l| [l.lines, l.dropped]));
        all.extend(report.sessions.iter().map(|s| s.untold));
        all.extend(report.authorizers.iter().map(|a| a.outcomes[0].1));
        all
    }

    #[test]
    fn the_dead_are_counted_and_have_nothing_open() {
        let mut totals = Totals::default();
        totals.report(&report(5, 2, 1));
        totals.ended();
        assert_eq!(totals.all().services[0].connections, 5);
        assert_eq!(totals.all().services[0].connections_active, 0);
        assert_eq!(totals.all().backends[0].active + totals.all().backends[0].ejected, 0);
        assert_eq!((totals.all().pools[0].waiting, totals.all().pools[0].waits), (0, 5));
        totals.report(&report(3, 1, 0));
        assert_eq!(totals.all().services[0].connections, 8);
        assert_eq!(totals.all().services[0].connections_active, 1);
        assert_eq!(totals.all().requests[0].seconds.count(), 8);
        assert_eq!(totals.all().backends[0].failures, [("connect".to_owned(), 1)]);
    }

    proptest! {
        #[test]
        fn counters_never_fall(steps in prop::collection::vec((0u64..20, any::<bool>(), any::<bool>()), 1..30)) {
            let mut totals = Totals::default();
            let mut before = vec![];
            let mut living = 0;
            for (more, dies, partial) in steps {
                living += more;
                // A report that lacks a thread's share counts less than the one before.
                let told = if partial { living / 2 } else { living };
                totals.report(&report(told, told, told));
                if dies {
                    totals.ended();
                    living = 0;
                }
                let now = counters(&totals.all());
                for (a, b) in before.iter().zip(&now) {
                    prop_assert!(a <= b);
                }
                before = now;
            }
        }
    }
}
