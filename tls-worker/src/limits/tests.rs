//! Limits alone and by many threads at once.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;

const SECOND: u64 = 1_000_000_000;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn limits(change: impl FnOnce(&mut ClientLimits)) -> Limits {
    let mut rules = ClientLimits::default();
    change(&mut rules);
    Limits::new(&rules, None).unwrap()
}

fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    Some(Rate { per_second, burst })
}

#[test]
fn a_source_has_its_burst_then_its_rate_and_others_have_theirs() {
    let limits = limits(|rules| rules.source_requests = rate(10, 3));
    let stats = ServiceStats::default();
    let ask = |who: &str, at: u64| limits.request(address(who), SECOND + at, &stats);
    assert!((0..3).all(|_| ask("192.0.2.1", 0).is_ok()));
    assert_eq!(ask("192.0.2.1", 0), Err(Duration::from_millis(100)));
    assert_eq!(ask("::ffff:192.0.2.1", 50_000_000), Err(Duration::from_millis(50)));
    assert!(ask("192.0.2.2", 0).is_ok());
    assert!(ask("192.0.2.1", 100_000_000).is_ok() && ask("192.0.2.1", 100_000_000).is_err());
    assert!(ask("2001:db8::1", 0).is_ok() && ask("2001:db8::2", 0).is_ok());
    // IPv6 by the network that one customer has.
    assert_eq!(limits.sources(), 3);
    limits.sweep(SECOND + 150_000_000);
    assert_eq!(limits.sources(), 2);
    limits.sweep(2 * SECOND);
    assert_eq!(limits.sources(), 0);
    assert_eq!(stats.limited.read(Limit::NAMES), [("source_requests".to_owned(), 3)]);
}

#[test]
fn a_source_over_its_rate_costs_the_service_nothing() {
    let limits = limits(|rules| (rules.source_requests, rules.requests) = (rate(1, 1), rate(1, 2)));
    let stats = ServiceStats::default();
    let ask = |who: &str| limits.request(address(who), SECOND, &stats).is_ok();
    assert!(ask("192.0.2.1") && !ask("192.0.2.1") && !ask("192.0.2.1"));
    assert!(ask("192.0.2.2") && !ask("192.0.2.3"));
}

#[test]
fn a_full_table_lets_pass_and_counts() {
    let limits = limits(|rules| (rules.source_requests, rules.max_sources) = (rate(1, 1), 1));
    let stats = ServiceStats::default();
    let ask = |who: &str| limits.request(address(who), SECOND, &stats).is_ok();
    assert!(ask("192.0.2.1") && ask("192.0.2.2") && ask("192.0.2.2") && !ask("192.0.2.1"));
    let counted = stats.limited.read(Limit::NAMES);
    assert_eq!(counted, [("source_requests".to_owned(), 1), ("source_untracked".to_owned(), 2)]);
}

#[test]
fn connections_are_counted_while_they_are_open_and_across_snapshots() {
    let first = limits(|rules| (rules.connections, rules.source_connections) = (Some(3), Some(2)));
    let stats = ServiceStats::default();
    let [a, b] = ["192.0.2.1", "192.0.2.2"].map(address);
    let one = first.connect(a, &stats).unwrap();
    let limits = Limits::new(&first.rules, Some(&first)).unwrap();
    let two = limits.connect(a, &stats).unwrap();
    assert!(limits.connect(a, &stats).is_none());
    let _three = limits.connect(b, &stats).unwrap();
    assert!(limits.connect(b, &stats).is_none());
    drop(one);
    let _again = limits.connect(a, &stats).unwrap();
    drop(two);
    assert_eq!(limits.state.connections.load(Relaxed), 2);
    drop((_three, _again));
    assert_eq!((limits.sources(), limits.state.connections.load(Relaxed)), (0, 0));
    assert!(Limits::new(&ClientLimits::default(), Some(&limits)).is_none());
}

#[test]
fn a_source_is_as_wide_as_the_prefix_says() {
    let by = |v4, v6| limits(|r| (r.connections, r.source_prefix_v4, r.source_prefix_v6) = (Some(1), v4, v6));
    let same = |limits: &Limits, a: &str, b: &str| limits.source(address(a)) == limits.source(address(b));
    assert!(same(&by(24, 48), "192.0.2.1", "192.0.2.200") && !same(&by(24, 48), "192.0.2.1", "192.0.3.1"));
    assert!(same(&by(24, 48), "2001:db8:1::1", "2001:db8:1:2::") && !same(&by(24, 48), "2001:db8:1::", "2001:db8:2::"));
    assert!(!same(&by(32, 128), "2001:db8::1", "2001:db8::2") && same(&by(0, 0), "192.0.2.1", "10.0.0.1"));
}

/// Threads ask and sweep at once; what passes is what one thread alone would let pass.
#[test]
fn threads_agree_to_the_last_request() {
    let limits = limits(|rules| rules.source_requests = rate(1000, 50));
    let (clock, passed) = (AtomicU64::new(SECOND), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (limits, clock, passed) = (&limits, &clock, &passed);
            scope.spawn(move || {
                let stats = ServiceStats::default();
                for turn in 0..20_000u64 {
                    let now = clock.load(Relaxed);
                    if limits.request(address("192.0.2.1"), now, &stats).is_ok() {
                        passed.fetch_add(1, Relaxed);
                    }
                    if thread == 0 && turn % 200 == 0 {
                        limits.sweep(now);
                        clock.fetch_add(SECOND / 100, Relaxed);
                    }
                }
            });
        }
    });
    // A hundred steps of 10 ms, ten requests each.
    assert!((50..=1050).contains(&passed.load(Relaxed)), "{}", passed.load(Relaxed));
}

#[test]
fn threads_agree_to_the_last_connection() {
    let limits = limits(|rules| (rules.connections, rules.source_connections) = (Some(1000), Some(3)));
    let open = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let stats = ServiceStats::default();
                for _ in 0..20_000 {
                    if let Some(hold) = limits.connect(address("192.0.2.1"), &stats) {
                        assert!(open.fetch_add(1, Relaxed) < 3);
                        open.fetch_sub(1, Relaxed);
                        drop(hold);
                    }
                }
            });
        }
    });
    assert_eq!((limits.sources(), limits.state.connections.load(Relaxed)), (0, 0));
}

proptest! {
    /// In any window, no more than the burst and what the rate brings.
    #[test]
    fn no_window_has_more_than_burst_and_rate(
        per_second in 1u32..2000,
        burst in 1u32..100,
        pauses in prop::collection::vec(0u64..20_000_000, 1..200),
    ) {
        let bucket = Bucket::default();
        let rate = Rate { per_second, burst };
        let mut now = SECOND;
        let mut taken: Vec<u64> = Vec::new();
        for pause in pauses {
            now += pause;
            match bucket.take(rate, now) {
                Taken::Yes => taken.push(now),
                Taken::TooMany(wait) => prop_assert_eq!(
                    bucket.take(rate, now + wait.as_nanos() as u64 - 1) == Taken::Yes,
                    false
                ),
                Taken::Retired => unreachable!("nobody retires it"),
            }
        }
        for (i, from) in taken.iter().enumerate() {
            for (n, to) in taken[i..].iter().enumerate() {
                let most = u64::from(burst) + (to - from) / (SECOND / u64::from(per_second));
                prop_assert!((n as u64) < most, "{} in {} ns", n + 1, to - from);
            }
        }
    }
}
