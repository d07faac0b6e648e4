//! JSON of the admin socket: what is known of a backend's health.

use serde::{Deserialize, Serialize};

/// Checks, answers and operators put together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StandingView {
    /// Whether it takes requests: `yes`, `no (checks)`, `on 1 of 2 threads (answers)` and the like.
    pub takes_part: String,
    /// Worker threads that leave it out for its answers.
    pub ejected: u64,
    /// Checks in a row that speak against its state, and do not change it yet.
    pub against: u32,
    /// Why it cannot be checked.
    pub trouble: Option<String>,
    /// What the checks said before, the newest first.
    pub history: Vec<PastView>,
}

/// A state that a backend was in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastView {
    /// Up or down.
    pub up: bool,
    /// What the check that decided found.
    pub cause: String,
    /// How long ago it began.
    pub ago_seconds: u64,
}
