//! How a pool's requests are spread: words of [`super::Pool`] and [`super::Backend`]. Numbers that bound something hold
//! for the edge: each worker thread has an equal share of them, one at the least.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, by weight (smooth).
    #[default]
    RoundRobin,
    /// Fewest requests in flight on this thread, relative to weight.
    LeastConnections,
    /// Of two by chance, by weight, the one with fewer requests in flight on this thread.
    LeastRequests,
    /// Of two by chance the one that answers sooner: time to answer, recent peaks first, times requests in flight.
    PeakEwma,
    /// By chance, by weight.
    Random,
    /// By a key: the same key goes to the same backend (Maglev).
    Hash,
}

/// What else decides about the choice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Balancing {
    /// For [`Balance::Hash`]: a text with variables. None: the client's address.
    pub hash_key: Option<String>,
    /// For [`Balance::Hash`]: most that a backend has in flight on a thread, percent of its share of all that the thread
    /// has in flight; above it the next one is taken. None: no bound.
    pub bounded_load: Option<u16>,
    /// So long a backend that came up, or was added, grows to its weight. Zero: at once.
    pub slow_start: Duration,
    /// When fewer percent of the backends may be chosen, all are that no operator took out. Zero: never.
    pub panic_percent: u8,
    /// The next priority is taken along when fewer than this many of those before may be chosen. Zero counts as one.
    pub min_up: u32,
}

/// What a backend is to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendRole {
    /// Takes part only when no other may be chosen.
    pub backup: bool,
    /// Lower ones go first.
    pub priority: u8,
    /// Most connections open to it; requests that find none wait. None: no bound.
    pub max_connections: Option<u32>,
    /// Most requests in flight on it; others wait. None: no bound.
    pub max_requests: Option<u32>,
}

/// Bounds of a pool, and the queue of requests that find every backend at its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolLimits {
    /// Most connections open to all backends.
    pub max_connections: Option<u32>,
    /// Most requests in flight.
    pub max_requests: Option<u32>,
    /// Most requests that wait for a connection, queued or connecting.
    pub max_pending: Option<u32>,
    /// Most requests in the queue.
    pub queue: u32,
    /// Longest that a request is in it.
    pub queue_timeout: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        PoolLimits {
            max_connections: None,
            max_requests: None,
            max_pending: None,
            queue: 1024,
            queue_timeout: Duration::from_secs(10),
        }
    }
}

/// HTTP/2 towards backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Multiplex {
    /// Clear-text backends are spoken to in HTTP/2, with prior knowledge.
    pub h2c: bool,
    /// Requests at once on one connection, where the backend does not allow fewer.
    pub max_streams: u32,
}

impl Default for Multiplex {
    fn default() -> Self {
        Multiplex { h2c: false, max_streams: 100 }
    }
}
