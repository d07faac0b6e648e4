//! Token buckets as GCRA (ITU-T I.371): one number, the theoretical arrival time, stands for a bucket's content.

use crate::abi::Limit;

/// Nanoseconds that two CPUs' clocks may be apart.
const CLOCK_SLACK: u64 = 1_000_000;

/// Take one event from the bucket `arrival` at the time `now`. Gives the bucket's new content, or none when it is
/// empty; then nothing has been taken. A bucket of zero is full.
#[inline(always)]
pub fn take(limit: &Limit, arrival: u64, now: u64) -> Option<u64> {
    if limit.interval == 0 {
        return Some(arrival);
    }
    let latest = now.saturating_add(limit.burst);
    // No event of this limit leads so far ahead of the clock: the limit was another when it was written.
    let foreign = arrival > latest.saturating_add(limit.interval).saturating_add(CLOCK_SLACK);
    let begin = if foreign || arrival < now { now } else { arrival };
    let next = begin.saturating_add(limit.interval);
    (next <= latest).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_no_more_at_once() {
        let limit = Limit { interval: 10, burst: 30 };
        let mut arrival = 0;
        for _ in 0..3 {
            arrival = take(&limit, arrival, 1000).unwrap();
        }
        assert_eq!(take(&limit, arrival, 1000), None);
        assert_eq!(take(&limit, arrival, 1009), None);
        assert_eq!(take(&limit, arrival, 1010), Some(1040));
    }

    #[test]
    fn no_interval_is_no_limit() {
        assert_eq!(take(&Limit::default(), 7, 1), Some(7));
    }

    #[test]
    fn what_a_wider_limit_left_does_not_block_a_narrower_one() {
        let limit = Limit { interval: 10, burst: 30 };
        let hours = 3_600_000_000_000;
        assert_eq!(take(&limit, hours, 1000), Some(1010));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_in_any_window(
            interval in 1u64..2_000,
            burst in 1u64..50,
            steps in vec(0u64..3_000, 1..300),
        ) {
            let limit = Limit { interval, burst: burst * interval };
            let (mut now, mut arrival) = (1u64, 0);
            let mut taken = Vec::new();
            for step in steps {
                now += step;
                if let Some(next) = take(&limit, arrival, now) {
                    arrival = next;
                    taken.push(now);
                }
            }
            for (first, begin) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u64;
                    prop_assert!(count <= burst + (end - begin) / interval, "{count} from {begin} to {end}");
                }
            }
        }

        #[test]
        fn whoever_keeps_to_the_rate_is_never_refused(
            interval in 1u64..2_000,
            burst in 1u64..50,
            gaps in vec(0u64..3_000, 1..300),
        ) {
            let limit = Limit { interval, burst: burst * interval };
            let (mut now, mut arrival) = (1u64, 0);
            for gap in gaps {
                now += interval + gap;
                let next = take(&limit, arrival, now);
                prop_assert!(next.is_some());
                arrival = next.unwrap_or(0);
            }
        }

        #[test]
        fn nothing_overflows(interval: u64, burst: u64, arrival: u64, now: u64) {
            let limit = Limit { interval, burst };
            if let Some(next) = take(&limit, arrival, now) {
                prop_assert!(interval == 0 || next <= now.saturating_add(burst));
            }
        }
    }
}
