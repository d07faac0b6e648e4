//! What keeps a worker that was taken over from the rest of the host.

use serde::{Deserialize, Serialize};

/// What a worker says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Layers that are not in force, and why, as sentences for people. Empty: it is confined as it is meant to be.
    pub missing: Vec<String>,
}
