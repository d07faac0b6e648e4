//! What is counted. Every thread owns its counters and is the only one to write them; the control loop asks a thread
//! for its [`Report`] by message and sums the answers. Counters are kept by name, so they outlive a snapshot.

mod pool;
mod reasons;
mod sum;

pub(crate) use pool::{BackendFailure, Circuit, Ejection, HedgeResult, PoolStats, RetryReason, SessionLookup};
pub(crate) use reasons::*;
pub(crate) use sum::sum;

use crate::api::{
    ALL_CODINGS, AccessLogReport, AuthorizerReport, Coding, CompressionReport, DURATION_BUCKETS, Histogram, Report,
    RequestReport, ServiceReport, SessionReport,
};
use crate::http::Turn;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Names kept that no snapshot has any more, before they are forgotten.
const MAX_RETIRED: usize = 10_000;

/// A number that one thread writes. It is an atomic only because the connections that carry a reference must be
/// `Send` for hyper's upgrades: loads and stores are plain moves, there is no read-modify-write.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn dec(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

/// An [`api::Histogram`](Histogram) being counted.
#[derive(Debug, Default)]
pub(crate) struct HistogramCells {
    buckets: [Counter; DURATION_BUCKETS.len() + 1],
    nanoseconds: Counter,
}

impl HistogramCells {
    pub(crate) fn observe(&self, d: Duration) {
        let seconds = d.as_secs_f64();
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATION_BUCKETS.len());
        self.buckets[bucket].inc();
        self.nanoseconds.add(d.as_nanos() as u64);
    }

    pub(crate) fn read(&self) -> Histogram {
        let mut h = Histogram { sum: self.nanoseconds.get() as f64 / 1e9, ..Histogram::default() };
        for (to, from) in h.buckets.iter_mut().zip(&self.buckets) {
            *to = from.get();
        }
        h
    }
}

/// Counters by a `reasons!` enum.
#[derive(Debug)]
pub(crate) struct ByReason<const N: usize>([Counter; N]);

impl<const N: usize> Default for ByReason<N> {
    fn default() -> Self {
        ByReason(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> ByReason<N> {
    pub(crate) fn inc(&self, reason: impl Into<usize>) {
        self.0[reason.into()].inc();
    }

    /// All of them, by name: for those that are asked about before they are counted first.
    pub(crate) fn read_all(&self, names: &[&str]) -> Vec<(String, u64)> {
        names.iter().zip(&self.0).map(|(name, n)| (name.to_string(), n.get())).collect()
    }

    /// Those that are not zero, by name.
    pub(crate) fn read(&self, names: &[&str]) -> Vec<(String, u64)> {
        let pairs = names.iter().zip(&self.0);
        pairs.filter(|(_, n)| n.get() > 0).map(|(name, n)| (name.to_string(), n.get())).collect()
    }
}

/// Counters of one thread's accepting.
#[derive(Debug, Default)]
pub(crate) struct ThreadStats {
    pub(crate) connections: Counter,
    pub(crate) on_cpu: Counter,
    pub(crate) unknown: Counter,
    pub(crate) active: Counter,
    pub(crate) handshakes_active: Counter,
    pub(crate) handshakes_waiting: Counter,
    pub(crate) handshakes_queued: Counter,
    /// Connections that were asked to end, as there was little room.
    pub(crate) asked_to_end: Counter,
    /// Connections closed at accept, as there was none.
    pub(crate) refused: Counter,
    pub(crate) accept_failures: Counter,
}

/// Counters of a service.
#[derive(Debug, Default)]
pub(crate) struct ServiceStats {
    pub(crate) connections: Counter,
    pub(crate) active: Counter,
    pub(crate) refused: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    /// TLS 1.2, TLS 1.3
    pub(crate) handshakes: [Counter; 2],
    pub(crate) sessions: ByReason<{ Session::NAMES.len() }>,
    pub(crate) groups: ByReason<{ Group::NAMES.len() }>,
    pub(crate) handshake_failures: ByReason<{ HandshakeFailure::NAMES.len() }>,
    pub(crate) handshakes_refused: ByReason<{ HandshakeRefused::NAMES.len() }>,
    pub(crate) client_certs: ByReason<{ ClientCert::NAMES.len() }>,
    pub(crate) handshake_seconds: HistogramCells,
    pub(crate) rejected: ByReason<{ Rejection::NAMES.len() }>,
    pub(crate) timeouts: ByReason<{ ClientTimeout::NAMES.len() }>,
    pub(crate) mirrored: ByReason<{ Mirrored::NAMES.len() }>,
    /// Values of headers that no header can have.
    pub(crate) invalid_headers: Counter,
    pub(crate) proxy_headers: ByReason<{ ProxyHeaders::NAMES.len() }>,
    pub(crate) limited: ByReason<{ Limit::NAMES.len() }>,
    pub(crate) http2_abuse: ByReason<{ Abuse::NAMES.len() }>,
    pub(crate) compression: CompressionStats,
}

/// Counters of compression, by [`Coding`].
#[derive(Debug, Default)]
pub(crate) struct CompressionStats {
    pub(crate) responses: [Counter; ALL_CODINGS.len()],
    pub(crate) bytes_in: [Counter; ALL_CODINGS.len()],
    pub(crate) bytes_out: [Counter; ALL_CODINGS.len()],
    pub(crate) busy: Counter,
}

impl CompressionStats {
    fn report(&self) -> Vec<CompressionReport> {
        let used = ALL_CODINGS.into_iter().filter(|coding| self.responses[*coding as usize].get() > 0);
        let row = |coding: Coding| CompressionReport {
            coding,
            responses: self.responses[coding as usize].get(),
            bytes_in: self.bytes_in[coding as usize].get(),
            bytes_out: self.bytes_out[coding as usize].get(),
        };
        used.map(row).collect()
    }
}

impl ServiceStats {
    fn report(&self, service: &str) -> ServiceReport {
        let versions = ["1.2", "1.3"].into_iter().zip(&self.handshakes);
        ServiceReport {
            service: service.to_owned(),
            connections: self.connections.get(),
            connections_active: self.active.get(),
            connections_refused: self.refused.get(),
            received_bytes: self.received.get(),
            sent_bytes: self.sent.get(),
            handshakes: versions.filter(|(_, n)| n.get() > 0).map(|(v, n)| (v.to_owned(), n.get())).collect(),
            sessions: self.sessions.read(Session::NAMES),
            groups: self.groups.read(Group::NAMES),
            handshake_failures: self.handshake_failures.read(HandshakeFailure::NAMES),
            handshakes_refused: self.handshakes_refused.read(HandshakeRefused::NAMES),
            client_certs: self.client_certs.read(ClientCert::NAMES),
            handshake_seconds: self.handshake_seconds.read(),
            rejected: self.rejected.read(Rejection::NAMES),
            timeouts: self.timeouts.read(ClientTimeout::NAMES),
            mirrored: self.mirrored.read(Mirrored::NAMES),
            invalid_headers: self.invalid_headers.get(),
            proxy_headers: self.proxy_headers.read(ProxyHeaders::NAMES),
            limited: self.limited.read(Limit::NAMES),
            limited_sources: 0,
            http2_abuse: self.http2_abuse.read_all(Abuse::NAMES),
            compression: self.compression.report(),
            compression_busy: self.compression.busy.get(),
        }
    }
}

/// Counters of an authorizer.
#[derive(Debug, Default)]
pub(crate) struct AuthorizerStats {
    pub(crate) outcomes: ByReason<{ AuthorizerOutcome::NAMES.len() }>,
    pub(crate) cache: ByReason<{ CacheUse::NAMES.len() }>,
    pub(crate) failures: ByReason<{ CalloutFailure::NAMES.len() }>,
    pub(crate) seconds: HistogramCells,
}

impl AuthorizerStats {
    fn report(&self, authorizer: &str) -> AuthorizerReport {
        AuthorizerReport {
            authorizer: authorizer.to_owned(),
            outcomes: self.outcomes.read(AuthorizerOutcome::NAMES),
            cache: self.cache.read(CacheUse::NAMES),
            failures: self.failures.read(CalloutFailure::NAMES),
            seconds: self.seconds.read(),
            kept: 0,
        }
    }
}

/// Counters of a backend of a pool.
#[derive(Debug, Default)]
pub(crate) struct BackendStats {
    pub(crate) active: Counter,
    /// Of these, tunnels.
    pub(crate) tunnels: Counter,
    /// Cut when its time was over.
    pub(crate) cut_requests: Counter,
    pub(crate) cut_tunnels: Counter,
    pub(crate) connections: Counter,
    pub(crate) open: Counter,
    pub(crate) failures: ByReason<{ BackendFailure::NAMES.len() }>,
    pub(crate) ejections: ByReason<{ Ejection::NAMES.len() }>,
}

/// Counters of an access log.
#[derive(Debug, Default)]
pub(crate) struct LogStats {
    pub(crate) lines: Counter,
    pub(crate) dropped: Counter,
}

/// Counters of a pool's persistence.
#[derive(Debug, Default)]
pub(crate) struct SessionStats {
    pub(crate) lookups: ByReason<{ SessionLookup::NAMES.len() }>,
}

/// What requests are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub(crate) service: Arc<str>,
    pub(crate) route: Arc<str>,
    pub(crate) pool: Arc<str>,
    pub(crate) backend: Option<SocketAddr>,
    pub(crate) code_class: u8,
}

/// One thread's counters of services and requests, by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    services: HashMap<Arc<str>, Arc<ServiceStats>>,
    requests: HashMap<RequestKey, Arc<HistogramCells>>,
    /// By service and route.
    turns: HashMap<(Arc<str>, Arc<str>), Rc<Turn>>,
    sessions: HashMap<Arc<str>, Arc<SessionStats>>,
    logs: HashMap<Arc<str>, Arc<LogStats>>,
    authorizers: HashMap<Arc<str>, Arc<AuthorizerStats>>,
}

impl Registry {
    pub(crate) fn service(&mut self, name: &Arc<str>) -> Arc<ServiceStats> {
        self.services.entry(name.clone()).or_default().clone()
    }

    pub(crate) fn authorizer(&mut self, name: &Arc<str>) -> Arc<AuthorizerStats> {
        if let Some(known) = self.authorizers.get(name) {
            return known.clone();
        }
        self.authorizers.entry(name.clone()).or_default().clone()
    }

    pub(crate) fn request(&mut self, key: RequestKey) -> Arc<HistogramCells> {
        self.requests.entry(key).or_default().clone()
    }

    /// What is kept of a route across generations.
    pub(crate) fn turn(&mut self, service: &Arc<str>, route: &Arc<str>) -> Rc<Turn> {
        self.turns.entry((service.clone(), route.clone())).or_default().clone()
    }

    pub(crate) fn log(&mut self, name: &Arc<str>) -> Arc<LogStats> {
        self.logs.entry(name.clone()).or_default().clone()
    }

    pub(crate) fn sessions(&mut self, pool: &Arc<str>) -> Arc<SessionStats> {
        self.sessions.entry(pool.clone()).or_default().clone()
    }

    /// Forget the counters that only the registry still holds, when they have become many.
    pub(crate) fn bound(&mut self) {
        bound(&mut self.services, |s| Arc::strong_count(s) == 1);
        bound(&mut self.requests, |r| Arc::strong_count(r) == 1);
        bound(&mut self.turns, |turn| Rc::strong_count(turn) == 1);
        bound(&mut self.sessions, |s| Arc::strong_count(s) == 1);
        bound(&mut self.logs, |l| Arc::strong_count(l) == 1);
        bound(&mut self.authorizers, |a| Arc::strong_count(a) == 1);
    }

    pub(crate) fn report(&self) -> Report {
        let session = |(pool, stats): (&Arc<str>, &Arc<SessionStats>)| SessionReport {
            pool: pool.to_string(),
            lookups: stats.lookups.read(SessionLookup::NAMES),
            ..SessionReport::default()
        };
        let log = |(name, stats): (&Arc<str>, &Arc<LogStats>)| AccessLogReport {
            log: name.to_string(),
            lines: stats.lines.get(),
            dropped: stats.dropped.get(),
        };
        Report {
            access_logs: self.logs.iter().map(log).collect(),
            sessions: self.sessions.iter().map(session).collect(),
            services: self.services.iter().map(|(name, stats)| stats.report(name)).collect(),
            authorizers: self.authorizers.iter().map(|(name, stats)| stats.report(name)).collect(),
            requests: self.requests.iter().map(|(key, seconds)| request_report(key, seconds)).collect(),
            ..Report::default()
        }
    }
}

/// Forget what `retired` says may be forgotten, once more than [`MAX_RETIRED`] of it are kept.
pub(crate) fn bound<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, retired: impl Fn(&V) -> bool) {
    if map.len() > MAX_RETIRED && map.values().filter(|v| retired(v)).count() > MAX_RETIRED {
        map.retain(|_, v| !retired(v));
    }
}

fn request_report(key: &RequestKey, seconds: &HistogramCells) -> RequestReport {
    RequestReport {
        service: key.service.to_string(),
        route: key.route.to_string(),
        pool: key.pool.to_string(),
        backend: key.backend,
        code_class: key.code_class,
        seconds: seconds.read(),
    }
}
