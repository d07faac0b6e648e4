//! How many retries there may be: tokens that requests bring and retries take. Pure: times come in.

use crate::api::RetryBudget;
use crate::clock::Millis;
use std::cell::Cell;

/// Hundredths of a token that a retry takes.
const PRICE: u64 = 100;
/// Requests whose tokens are kept for later.
const KEPT_REQUESTS: u64 = 100;

/// One pool's on one thread.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Hundredths of a token.
    tokens: Cell<u64>,
    /// When the tokens that time brings were last given; 0: never.
    given: Cell<Millis>,
}

impl Budget {
    /// A request came.
    pub(super) fn deposit(&self, rules: &RetryBudget, threads: u32) {
        self.add(u64::from(rules.percent), rules, threads);
    }

    /// Whether there may be a retry; it is paid for.
    pub(super) fn withdraw(&self, rules: &RetryBudget, threads: u32, now: Millis) -> bool {
        let since = match self.given.get() {
            0 => 1000,
            at => now.saturating_sub(at).min(1000),
        };
        // Hundredths a second of the thread's share, over a thousand: what a millisecond brings is below one.
        let brought = u64::from(rules.per_second) * PRICE * since / (1000 * u64::from(threads.max(1)));
        if brought > 0 || self.given.get() == 0 {
            self.given.set(now.max(1));
            self.add(brought, rules, threads);
        }
        let left = self.tokens.get().checked_sub(PRICE);
        left.inspect(|left| self.tokens.set(*left)).is_some()
    }

    fn add(&self, tokens: u64, rules: &RetryBudget, threads: u32) {
        let second = (u64::from(rules.per_second) * PRICE).div_ceil(u64::from(threads.max(1)));
        let most = second.max(if rules.per_second > 0 { PRICE } else { 0 }) + u64::from(rules.percent) * KEPT_REQUESTS;
        self.tokens.set((self.tokens.get() + tokens).min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retries_stop_when_every_request_fails() {
        let budget = Budget::default();
        let rules = RetryBudget { percent: 20, per_second: 0 };
        let retried = (0..1000u64).filter(|n| {
            budget.deposit(&rules, 1);
            budget.withdraw(&rules, 1, 5000 + n)
        });
        assert_eq!(retried.count(), 200);
        let still = RetryBudget { percent: 0, per_second: 2 };
        let budget = Budget::default();
        assert_eq!((0..3000u64).filter(|n| budget.withdraw(&still, 1, 5000 + n)).count(), 2 + 5);
    }

    proptest! {
        #[test]
        fn no_more_than_the_share_and_a_burst(
            percent in 0u8..=100,
            per_second in 0u32..50,
            threads in 1u32..8,
            steps in prop::collection::vec((0u64..50, 0u64..4, 0u64..4), 1..300),
        ) {
            let rules = RetryBudget { percent, per_second };
            let budget = Budget::default();
            let (mut now, mut requests, mut retries) = (1, 0, 0);
            for (pass, more, tries) in steps {
                now += pass;
                (0..more).for_each(|_| budget.deposit(&rules, threads));
                requests += more;
                retries += (0..tries).filter(|_| budget.withdraw(&rules, threads, now)).count() as u64;
            }
            let a_second = f64::from(per_second) / f64::from(threads);
            let most = requests as f64 * f64::from(percent) / 100.0 + a_second * (1.0 + now as f64 / 1000.0) + 1.0;
            prop_assert!(retries as f64 <= most, "{retries} over {most}");
        }
    }
}
