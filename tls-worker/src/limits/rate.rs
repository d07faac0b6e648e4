//! A rate with a burst as one number, the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371): threads
//! that meet exchange it, so that never more is admitted than by one thread alone.

use crate::api::Rate;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// A bucket that is no more in its table.
const RETIRED: u64 = u64::MAX;

/// Nanoseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    (t.tv_sec as u64) * SECOND + t.tv_nsec as u64
}

/// When the next one would come if all came evenly, nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

/// What came of taking from a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There was one.
    Yes,
    /// There was none; there will be after so long.
    TooMany(Duration),
    /// The bucket is in its table no more.
    Retired,
}

impl Bucket {
    pub(super) fn take(&self, rate: Rate, now: u64) -> Taken {
        let each = SECOND / u64::from(rate.per_second.max(1));
        let room = each * u64::from(rate.burst.max(1) - 1);
        let next = |arrival: u64| {
            let due = arrival.max(now);
            (arrival != RETIRED && due - now <= room).then_some(due + each)
        };
        match self.0.fetch_update(Relaxed, Relaxed, next) {
            Ok(_) => Taken::Yes,
            Err(RETIRED) => Taken::Retired,
            Err(arrival) => Taken::TooMany(Duration::from_nanos(arrival - now - room)),
        }
    }

    /// Whether it was full, and may go from its table: nobody takes from it any more.
    pub(super) fn retire(&self, now: u64) -> bool {
        let full = |arrival: u64| (arrival <= now || arrival == RETIRED).then_some(RETIRED);
        self.0.fetch_update(Relaxed, Relaxed, full).is_ok()
    }

    pub(super) fn is_retired(&self) -> bool {
        self.0.load(Relaxed) == RETIRED
    }
}
