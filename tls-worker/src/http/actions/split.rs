//! Which of a route's pools takes a request, and which requests go to its mirror: exact shares on each thread, kept when a
//! new generation says the same.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// What a thread keeps of one route.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Pools and their weights that the credits are for.
    shares: RefCell<Vec<(Arc<str>, u16)>>,
    credits: RefCell<Vec<i64>>,
    mirrored: Cell<u32>,
    /// Mirrored requests under way.
    pub(crate) in_flight: Cell<u32>,
}

impl Turn {
    /// From here on these are the shares.
    pub(crate) fn set(&self, shares: &[(Arc<str>, u16)]) {
        if *self.shares.borrow() != shares {
            *self.shares.borrow_mut() = shares.to_vec();
            *self.credits.borrow_mut() = vec![0; shares.len()];
        }
    }

    /// The place of the next request's pool: smooth weighted round robin, as backends are chosen.
    pub(crate) fn next(&self) -> Option<usize> {
        let shares = self.shares.borrow();
        if let [(_, 1..)] = shares[..] {
            return Some(0);
        }
        let mut credits = self.credits.borrow_mut();
        let (mut best, mut total) = (None, 0);
        for (place, (_, weight)) in shares.iter().enumerate().filter(|(_, (_, weight))| *weight > 0) {
            total += i64::from(*weight);
            credits[place] += i64::from(*weight);
            if best.is_none_or(|best: usize| credits[place] > credits[best]) {
                best = Some(place);
            }
        }
        credits[best?] -= total;
        best
    }

    /// Whether the next request is one of these percent.
    pub(crate) fn mirrors(&self, percent: u8) -> bool {
        let credit = self.mirrored.get() + u32::from(percent);
        self.mirrored.set(credit % 100);
        credit >= 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(weights: &[u16]) -> Turn {
        let turn = Turn::default();
        let shares: Vec<_> = weights.iter().enumerate().map(|(i, w)| (Arc::from(i.to_string()), *w)).collect();
        turn.set(&shares);
        turn
    }

    #[test]
    fn a_new_generation_goes_on_where_the_last_one_was() {
        let one = turn(&[3, 1]);
        let again = one.shares.borrow().clone();
        let places: Vec<_> = (0..8)
            .map(|_| {
                one.set(&again);
                one.next().unwrap()
            })
            .collect();
        assert_eq!(places, [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(turn(&[0, 0]).next(), None);
        assert_eq!(turn(&[]).next(), None);
    }

    proptest! {
        #[test]
        fn each_pool_gets_exactly_its_share(weights in proptest::collection::vec(0u16..200, 1..8)) {
            let total: u32 = weights.iter().map(|w| u32::from(*w)).sum();
            prop_assume!(total > 0);
            let turn = turn(&weights);
            let mut got = vec![0u32; weights.len()];
            for _ in 0..3 * total {
                got[turn.next().unwrap()] += 1;
            }
            for (got, weight) in got.iter().zip(&weights) {
                prop_assert_eq!(*got, 3 * u32::from(*weight));
            }
        }

        #[test]
        fn of_a_hundred_requests_as_many_are_mirrored(percent in 1u8..=100) {
            let turn = Turn::default();
            let mirrored = (0..300).filter(|_| turn.mirrors(percent)).count();
            prop_assert_eq!(mirrored, 3 * usize::from(percent));
        }
    }
}
