//! JSON of persistence.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
pub use tls_worker::api::ClearSessions;

/// Entries of a list, where no limit is asked for.
pub const SESSIONS_LISTED: usize = 1_000;
/// Most that are listed at once.
pub const MAX_SESSIONS_LISTED: usize = 10_000;

/// Some of the clients that a pool knows, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionList {
    /// Pool.
    pub pool: String,
    /// All that there are.
    pub total: usize,
    /// The first of them, or those after a key.
    pub sessions: Vec<SessionRow>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// What it is known by; `#` and a digest, where that may be a credential, is long, or cannot be printed.
    pub key: String,
    /// Where it goes.
    pub backend: SocketAddr,
    /// Since its last request, at the most.
    pub idle_seconds: u64,
}

/// Entries were forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsCleared {
    /// How many.
    pub cleared: u64,
}
