//! Whether a backend is up, from its checks. Pure: time comes in as an argument.

use crate::config::HealthCheck;
use std::time::Duration;
use tokio::time::Instant;

/// The checks of one backend.
#[derive(Debug, Clone)]
pub struct Machine {
    interval: Duration,
    down_interval: Duration,
    /// Of an interval, either way.
    jitter: f64,
    rise: u32,
    fall: u32,
    /// None before the first check.
    up: Option<bool>,
    /// Results in a row that speak against `up`.
    against: u32,
    begun: Option<Instant>,
    due: Instant,
}

/// A result changed the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state from now on.
    pub up: bool,
    /// Results in a row that it took.
    pub streak: u32,
    /// How many it takes.
    pub needed: u32,
}

impl Machine {
    /// Unknown, and due at `first`.
    pub fn new(check: &HealthCheck, first: Instant) -> Self {
        Self {
            interval: check.interval,
            down_interval: check.down_interval.unwrap_or(check.interval),
            jitter: f64::from(check.jitter) / 100.0,
            rise: check.rise,
            fall: check.fall,
            up: None,
            against: 0,
            begun: None,
            due: first,
        }
    }

    /// The same for one of which something is known: it takes as many as ever to change that.
    pub fn knowing(mut self, up: Option<bool>) -> Self {
        self.up = up;
        self
    }

    /// When the next check begins.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// What the checks say; none before the first.
    pub fn up(&self) -> Option<bool> {
        self.up
    }

    /// Results in a row that speak against the state, and do not change it yet.
    pub fn against(&self) -> u32 {
        self.against
    }

    /// A check begins now.
    pub fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    /// A check is done: the next one is due an interval after it began. `jitter` is -1 to 1, from one end of the leeway to the
    /// other, and keeps the checks of many backends apart.
    pub fn end(&mut self, now: Instant, jitter: f64) {
        let interval = if self.up == Some(false) { self.down_interval } else { self.interval };
        let begun = self.begun.take().unwrap_or(now);
        self.due = begun + interval.mul_f64(1.0 + jitter.clamp(-1.0, 1.0) * self.jitter);
    }

    /// What a check found. The first one decides alone; after that `rise` or `fall` in a row do.
    pub fn record(&mut self, good: bool) -> Option<Change> {
        let needed = match (self.up, good) {
            (None, _) => 1,
            (Some(_), true) => self.rise,
            (Some(_), false) => self.fall,
        };
        if self.up == Some(good) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < needed {
            return None;
        }
        let streak = std::mem::take(&mut self.against);
        self.up = Some(good);
        Some(Change { up: good, streak, needed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Probe;
    use proptest::prelude::*;

    fn check(rise: u32, fall: u32) -> HealthCheck {
        HealthCheck { interval: Duration::from_secs(10), rise, fall, ..HealthCheck::new(Probe::Tcp) }
    }

    #[test]
    fn the_first_check_decides_and_then_rise_and_fall_do() {
        let mut machine = Machine::new(&check(2, 3), Instant::now());
        assert_eq!(machine.up(), None);
        assert_eq!(machine.record(false), Some(Change { up: false, streak: 1, needed: 1 }));
        assert_eq!(machine.record(true), None);
        assert_eq!(machine.record(true), Some(Change { up: true, streak: 2, needed: 2 }));
        assert_eq!([machine.record(false), machine.record(false), machine.record(true)], [None; 3]);
        assert_eq!([machine.record(false), machine.record(false)], [None; 2]);
        assert_eq!(machine.record(false), Some(Change { up: false, streak: 3, needed: 3 }));
    }

    #[test]
    fn a_backend_that_is_down_is_asked_at_its_own_interval() {
        let down_interval = Some(Duration::from_secs(1));
        let now = Instant::now();
        let mut machine = Machine::new(&HealthCheck { down_interval, ..check(1, 1) }, now);
        for (good, seconds) in [(true, 10), (false, 1), (false, 1), (true, 10)] {
            machine.begin(now);
            machine.record(good);
            machine.end(now + Duration::from_millis(300), 0.0);
            assert_eq!(machine.due() - now, Duration::from_secs(seconds), "{good}");
        }
    }

    proptest! {
        #[test]
        fn a_state_changes_only_after_so_many_in_a_row(rise in 1u32..5, fall in 1u32..5, results in prop::collection::vec(any::<bool>(), 1..60)) {
            let mut machine = Machine::new(&check(rise, fall), Instant::now());
            for (i, good) in results.iter().enumerate() {
                let before = machine.up();
                let change = machine.record(*good);
                let run = results[..=i].iter().rev().take_while(|r| *r == good).count() as u32;
                let needed = if *good { rise } else { fall };
                let expected = match before {
                    None => Some(*good),
                    Some(up) if up != *good && run >= needed => Some(*good),
                    other => other,
                };
                prop_assert_eq!(machine.up(), expected);
                prop_assert_eq!(change.is_some(), before != expected);
            }
        }

        #[test]
        fn the_next_check_is_an_interval_away(percent in 0u8..=50, jitter in -3.0f64..3.0) {
            let now = Instant::now();
            let mut machine = Machine::new(&HealthCheck { jitter: percent, ..check(1, 1) }, now);
            machine.begin(now);
            machine.end(now, jitter);
            let wait = (machine.due() - now).as_secs_f64();
            let leeway = f64::from(percent) / 10.0 + 1e-6;
            prop_assert!((wait - 10.0).abs() <= leeway, "{}", wait);
        }
    }
}
