//! A config in force, read again with the files of its certificates as they are now.

use super::{Config, Host, LoadError, Problems, Stale, read};
use std::sync::Arc;
use std::time::SystemTime;

/// A config with the files as they are, or were.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The model, of the same text.
    pub config: Config,
    /// Warnings only.
    pub warnings: Problems,
    /// What is bad on disk, and serves as it was.
    pub stale: Vec<Stale>,
}

/// Read the text in force again, over itself: certificates, authorities, revocation lists and ticket keys are those of
/// their files, or where a file is bad those that it held before. Everything else stays as it is, files of prefixes and
/// the host's own roots too. An error: what the files hold does not go together, and all of it must stay.
pub fn refresh(previous: &Config, now: SystemTime) -> Result<Refreshed, LoadError> {
    let host = Host {
        now,
        // What the host had when the config was taken; what it has lost since is no matter of certificates.
        interfaces: previous.edge.interfaces.clone(),
        cpus: previous.edge.cpus.clone(),
        open_files: previous.edge.open_files,
        user_exists: |_| true,
        group_exists: |_| true,
        state_directory: previous.edge.state.clone(),
    };
    let (loaded, stale) = read(&previous.origin, &host, Some(previous))?;
    let config = Config { prefixes: Arc::clone(&previous.prefixes), ..loaded.config };
    Ok(Refreshed { config, warnings: loaded.warnings, stale })
}
