//! A cheap clock for deadlines: the kernel's coarse monotonic time, a few nanoseconds a read, one tick (1 to 10 ms)
//! behind. Durations that are reported are measured with [`std::time::Instant`] instead.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Milliseconds on the coarse monotonic clock; 0 stands for "not set" wherever a time is stored.
pub(crate) type Millis = u64;

/// Now.
pub(crate) fn now() -> Millis {
    let t = clock_gettime(ClockId::MonotonicCoarse);
    (t.tv_sec as u64) * 1000 + (t.tv_nsec as u64) / 1_000_000
}

/// A duration in milliseconds, at least 1 so that no deadline is immediate by rounding.
pub(crate) fn millis(d: Duration) -> Millis {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX / 4).clamp(1, u64::MAX / 4)
}
