//! Conditions with a deadline: no test sleeps for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a step of a lab may take before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(20);

/// Ask until there is an answer. `what` continues "waited … for".
pub fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("waited {patience:?} for {what}");
        }
        std::thread::sleep(STEP);
    }
}

/// The same for a step that says why it is not done yet; the last reason is in the error.
pub fn wait_ok<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    wait_for(what, patience, || ask().map_err(|error| last = Some(error)).ok()).map_err(|error| match last {
        Some(reason) => reason.context(error.to_string()),
        None => error,
    })
}
