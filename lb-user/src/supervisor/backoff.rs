//! How long to wait before another start. Pure.

use std::time::Duration;

/// A worker that lived so long did not die of its start. What kills it now and then, however often, is no reason to
/// have nobody serve meanwhile: two starts a second are no burden.
pub(super) const STEADY: Duration = Duration::from_millis(500);
/// Longest wait before another start.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Short lives in a row.
    short: u32,
}

impl Backoff {
    /// 0, 100 ms, 200 ms, 400 ms... while lives are short.
    pub(super) fn next(&mut self, lived: Duration) -> Duration {
        if lived >= STEADY {
            self.short = 0;
        }
        let wait = match self.short {
            0 => Duration::ZERO,
            n => Duration::from_millis(100 << (n - 1).min(10)).min(MAX_BACKOFF),
        };
        self.short += 1;
        wait
    }
}
