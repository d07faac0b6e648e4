//! [`Report`]: what a worker counted since it began, summed over its threads by whoever needs the sum.
//!
//! Counters are keyed by name, so that they outlive a snapshot that renumbers.

use super::compression::Coding;
use super::confinement::Confinement;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Upper bounds of histogram buckets, seconds; one more bucket stands above the last.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Durations by bucket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// Observations by bucket of [`DURATION_BUCKETS`], not cumulative; the last stands for +Inf.
    pub buckets: [u64; DURATION_BUCKETS.len() + 1],
    /// Sum of all, seconds.
    pub sum: f64,
}

impl Histogram {
    /// Count one duration, seconds.
    pub fn observe(&mut self, seconds: f64) {
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATION_BUCKETS.len());
        self.buckets[bucket] += 1;
        self.sum += seconds;
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Add another one's observations.
    pub fn merge(&mut self, other: &Histogram) {
        for (a, b) in self.buckets.iter_mut().zip(other.buckets) {
            *a += b;
        }
        self.sum += other.sum;
    }
}

/// Counters of one worker process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// What keeps the process from the rest of the host; one of an older release does not say.
    #[serde(default)]
    pub confinement: Option<Confinement>,
    /// One entry for each thread that answered in time.
    pub threads: Vec<ThreadReport>,
    /// By service, summed over threads.
    pub services: Vec<ServiceReport>,
    /// By service, route, pool, backend and class of code, summed over threads.
    pub requests: Vec<RequestReport>,
    /// By pool and backend, summed over threads.
    pub backends: Vec<BackendReport>,
    /// By pool, summed over threads.
    #[serde(default)]
    pub pools: Vec<PoolReport>,
    /// By pool that has persistence, summed over threads.
    #[serde(default)]
    pub sessions: Vec<SessionReport>,
    /// By access log, summed over threads.
    #[serde(default)]
    pub access_logs: Vec<AccessLogReport>,
    /// By authorizer, summed over threads.
    #[serde(default)]
    pub authorizers: Vec<AuthorizerReport>,
}

/// One authorizer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AuthorizerReport {
    /// Its name.
    pub authorizer: String,
    /// Requests, by what came of them ("allowed", "denied", "failed_open", "failed_closed", "loop").
    pub outcomes: Vec<(String, u64)>,
    /// Uses of kept answers ("hit", "miss", "joined").
    pub cache: Vec<(String, u64)>,
    /// Callouts without an answer ("timeout", "no_backend", "broken", "question").
    pub failures: Vec<(String, u64)>,
    /// Time of callouts.
    pub seconds: Histogram,
    /// Answers that are kept now.
    pub kept: u64,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ThreadReport {
    /// [`super::ThreadInfo::index`].
    pub index: u32,
    /// CPU that it is pinned to.
    pub cpu: Option<u32>,
    /// Generation that it serves by.
    pub generation: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Of these, delivered by the kernel on this thread's own CPU (SO_INCOMING_CPU).
    pub connections_on_cpu: u64,
    /// Connections to an address of no service in the snapshot, closed at once.
    pub connections_unknown: u64,
    /// Connections open now.
    pub connections_active: u64,
    /// Handshakes under way now.
    #[serde(default)]
    pub handshakes_active: u64,
    /// Of these, waiting for their turn to compute.
    #[serde(default)]
    pub handshakes_waiting: u64,
    /// Handshakes that had to wait for their turn.
    #[serde(default)]
    pub handshakes_queued: u64,
    /// Connections that were asked to end, as there were nearly as many as may be.
    #[serde(default)]
    pub connections_asked: u64,
    /// Connections closed at accept, as there were as many as may be.
    #[serde(default)]
    pub connections_refused: u64,
    /// Connections that could not be accepted, as descriptors or memory were missing.
    #[serde(default)]
    pub accept_failures: u64,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Name.
    pub service: String,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_active: u64,
    /// Connections closed at accept because of the bound.
    pub connections_refused: u64,
    /// Bytes from clients, as TCP carries them.
    pub received_bytes: u64,
    /// Bytes to clients, as TCP carries them.
    pub sent_bytes: u64,
    /// Handshakes done, by version ("1.2", "1.3").
    pub handshakes: Vec<(String, u64)>,
    /// Handshakes done, by how ("full", "resumed", "retried": full, after a HelloRetryRequest).
    #[serde(default)]
    pub sessions: Vec<(String, u64)>,
    /// Full handshakes done, by key exchange group (IANA name).
    #[serde(default)]
    pub groups: Vec<(String, u64)>,
    /// Handshakes failed, by reason.
    pub handshake_failures: Vec<(String, u64)>,
    /// Connections closed at accept because of a bound of handshakes ("at_once", "per_source").
    #[serde(default)]
    pub handshakes_refused: Vec<(String, u64)>,
    /// Client certificates that were asked for, by what came of it ("none", "verified", "unknown_ca", "expired",
    /// "revoked", …).
    #[serde(default)]
    pub client_certs: Vec<(String, u64)>,
    /// Time of handshakes done, from accept.
    pub handshake_seconds: Histogram,
    /// Requests that got an answer from the edge itself before any route was chosen, and connections without HTTP that
    /// found no way, by reason.
    pub rejected: Vec<(String, u64)>,
    /// Connections that the edge ended at a deadline, by which ("handshake", "header", "idle", "send", "age").
    pub timeouts: Vec<(String, u64)>,
    /// Mirrored requests, by what became of them ("answered", "failed", "timeout", "busy", "too_long",
    /// "incomplete").
    #[serde(default)]
    pub mirrored: Vec<(String, u64)>,
    /// Values of headers, made of variables, that no header can have.
    #[serde(default)]
    pub invalid_headers: u64,
    /// Connections that begin, or may begin, with a PROXY header, by what came of it.
    #[serde(default)]
    pub proxy_headers: Vec<(String, u64)>,
    /// Connections and requests over a limit of the service or of a source, by which.
    #[serde(default)]
    pub limited: Vec<(String, u64)>,
    /// Sources that limits remember now. One thread tells it for all.
    #[serde(default)]
    pub limited_sources: u64,
    /// HTTP/2 connections that were ended for what the client did too much of ("reset", "ping", …), and streams
    /// ("stall").
    #[serde(default)]
    pub http2_abuse: Vec<(String, u64)>,
    /// Compressed answers, by coding.
    #[serde(default)]
    pub compression: Vec<CompressionReport>,
    /// Answers that would have been compressed, had the thread not been busy with others.
    #[serde(default)]
    pub compression_busy: u64,
}

/// Compressed answers of one coding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressionReport {
    /// The coding.
    pub coding: Coding,
    /// Answers.
    pub responses: u64,
    /// Bytes of their bodies before.
    pub bytes_in: u64,
    /// The same after.
    pub bytes_out: u64,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RequestReport {
    /// Service.
    pub service: String,
    /// Route, empty when none matched.
    pub route: String,
    /// Pool, empty when none was reached.
    pub pool: String,
    /// Backend, none when none was reached.
    pub backend: Option<SocketAddr>,
    /// First digit of the status code, 1 to 5.
    pub code_class: u8,
    /// Time from header read to response header sent; its count is the number of requests.
    pub seconds: Histogram,
}

/// One backend of one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendReport {
    /// Pool.
    pub pool: String,
    /// Backend.
    pub backend: SocketAddr,
    /// Requests and tunnels in flight now.
    pub active: u64,
    /// Of these, tunnels: upgraded connections, and connections without HTTP.
    #[serde(default)]
    pub tunnels: u64,
    /// Requests that were cut because the time of a drain was over.
    #[serde(default)]
    pub cut_requests: u64,
    /// The same of tunnels.
    #[serde(default)]
    pub cut_tunnels: u64,
    /// Until what is in flight is cut, milliseconds, on the thread that has longest; 0: it does not drain, or has drained.
    #[serde(default)]
    pub drain_left_ms: u64,
    /// Connections opened.
    pub connections: u64,
    /// Connections open now, idle ones included.
    pub connections_open: u64,
    /// Failures by kind ("connect", "connect_timeout", "tls", "tls_verify", "tls_pin", "response_timeout", "reset",
    /// "idle_timeout").
    pub failures: Vec<(String, u64)>,
    /// Threads that leave it out now because of how it answered.
    #[serde(default)]
    pub ejected: u64,
    /// How often a thread began to, by cause ("errors", "gateway_errors", "connect_failures", "success_rate").
    #[serde(default)]
    pub ejections: Vec<(String, u64)>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolReport {
    /// Pool.
    pub pool: String,
    /// Requests in flight now.
    pub active: u64,
    /// Requests that wait for a backend now.
    pub waiting: u64,
    /// Requests that had to wait.
    pub waits: u64,
    /// Requests that found the queue full.
    pub overflows: u64,
    /// Requests that waited for too long.
    pub timeouts: u64,
    /// How long requests waited.
    pub wait_seconds: Histogram,
    /// Requests tried again, by reason ("connect", "refused", "reused", "reset", "timeout", "code", "drained").
    pub retries: Vec<(String, u64)>,
    /// Retries and hedges that the budget did not allow.
    pub denied: u64,
    /// Second tries beside the first ("sent", "won").
    pub hedges: Vec<(String, u64)>,
    /// Requests that met a bound ("connections", "requests", "pending").
    pub circuit: Vec<(String, u64)>,
    /// Threads that take all backends now, as too few may be chosen.
    pub panic: u64,
}

/// Persistence of one pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SessionReport {
    /// Pool.
    pub pool: String,
    /// Entries in its table now.
    pub entries: u64,
    /// Requests and connections by what was found ("hit", "miss", "moved", "bad_cookie", "full", "none").
    pub lookups: Vec<(String, u64)>,
    /// Entries taken out by cause ("expired", "full", "cleared").
    pub removed: Vec<(String, u64)>,
    /// Changes that were not told to the control plane at once, because it was behind.
    pub untold: u64,
}

/// One access log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AccessLogReport {
    /// Its name.
    pub log: String,
    /// Lines that were given to the control plane.
    pub lines: u64,
    /// Lines that were dropped, because too many waited.
    pub dropped: u64,
}
