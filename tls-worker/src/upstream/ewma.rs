//! How long a backend takes to answer: an average that follows a peak at once and forgets it slowly (Finagle's peak
//! EWMA). Pure: times come in.

use crate::clock::Millis;
use std::cell::Cell;
use std::time::Duration;

/// After so long an answer counts for a third of what it did.
const DECAY: f64 = 10_000.0;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    /// Milliseconds; 0: nothing is known.
    cost: Cell<f64>,
    at: Cell<Millis>,
}

impl PeakEwma {
    /// An answer came, or a try failed, after so long.
    pub(super) fn observe(&self, took: Duration, now: Millis) {
        let took = took.as_secs_f64() * 1000.0;
        let old = self.cost.get();
        let keep = self.kept(now);
        let cost = if took > old { took } else { old * keep + took * (1.0 - keep) };
        self.cost.set(cost.max(f64::MIN_POSITIVE));
        self.at.set(now);
    }

    /// What it is now; a backend that is not asked becomes more likely to be asked again.
    pub(super) fn cost(&self, now: Millis) -> Option<f64> {
        (self.cost.get() > 0.0).then(|| self.cost.get() * self.kept(now))
    }

    fn kept(&self, now: Millis) -> f64 {
        (-(now.saturating_sub(self.at.get()) as f64) / DECAY).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_followed_at_once_and_forgotten_slowly() {
        let ms = Duration::from_millis;
        let e = PeakEwma::default();
        assert_eq!(e.cost(5), None);
        e.observe(ms(10), 1000);
        assert_eq!(e.cost(1000), Some(10.0));
        e.observe(ms(200), 1001);
        assert_eq!(e.cost(1001), Some(200.0));
        e.observe(ms(10), 1101);
        let after = e.cost(1101).unwrap();
        assert!((190.0..200.0).contains(&after), "{after}");
        assert!(e.cost(1101 + 30_000).unwrap() < 0.06 * after);
    }
}
