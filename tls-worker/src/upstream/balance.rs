//! Which backend is next. Both ways look only at what this thread has in hand.

use std::cell::Cell;

/// A backend that may be chosen.
pub(super) trait Candidate {
    /// 1 to 256.
    fn weight(&self) -> u16;
    /// Requests and tunnels in flight.
    fn active(&self) -> u64;
    /// Its credit in the turn of [`round_robin`].
    fn credit(&self) -> &Cell<i64>;
}

/// Smooth weighted round robin: each backend gains its weight, the richest is chosen and pays what all gained. Of
/// weights 5, 1, 1 it makes a a b a c a a, not a a a a a b c.
pub(super) fn round_robin<'a, C: Candidate>(candidates: impl Iterator<Item = &'a C>) -> Option<&'a C> {
    let mut total = 0;
    let mut best: Option<&C> = None;
    for c in candidates {
        let weight = i64::from(c.weight());
        total += weight;
        c.credit().set(c.credit().get() + weight);
        if best.is_none_or(|b| c.credit().get() > b.credit().get()) {
            best = Some(c);
        }
    }
    let best = best?;
    best.credit().set(best.credit().get() - total);
    Some(best)
}

/// Fewest in flight relative to weight, as if the new one were there already; among equals, in turn.
pub(super) fn least_connections<'a, C: Candidate>(candidates: impl Iterator<Item = &'a C> + Clone) -> Option<&'a C> {
    // a/w < b/v without dividing.
    let load = |c: &C| (c.active() + 1, u64::from(c.weight()));
    let cmp = |(a, w): (u64, u64), (b, v): (u64, u64)| (a * v).cmp(&(b * w));
    let least = candidates.clone().map(load).reduce(|a, b| if cmp(b, a).is_lt() { b } else { a })?;
    round_robin(candidates.filter(|c| cmp(load(c), least).is_eq()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default)]
    struct Fake {
        weight: u16,
        active: Cell<u64>,
        credit: Cell<i64>,
        chosen: Cell<u64>,
    }

    impl Candidate for Fake {
        fn weight(&self) -> u16 {
            self.weight
        }
        fn active(&self) -> u64 {
            self.active.get()
        }
        fn credit(&self) -> &Cell<i64> {
            &self.credit
        }
    }

    fn fakes(weights: &[u16]) -> Vec<Fake> {
        weights.iter().map(|w| Fake { weight: *w, ..Default::default() }).collect()
    }

    fn place(all: &[Fake], one: &Fake) -> usize {
        all.iter().position(|f| std::ptr::eq(f, one)).unwrap()
    }

    #[test]
    fn round_robin_is_smooth() {
        let all = fakes(&[5, 1, 1]);
        let turn: Vec<_> = (0..7).map(|_| place(&all, round_robin(all.iter()).unwrap())).collect();
        assert_eq!(turn, [0, 0, 1, 0, 2, 0, 0]);
        assert!(round_robin([].iter().map(|f: &Fake| f)).is_none());
    }

    #[test]
    fn least_connections_goes_round_among_equals_and_to_the_least_else() {
        let all = fakes(&[1, 1, 1]);
        let turn: Vec<_> = (0..6).map(|_| place(&all, least_connections(all.iter()).unwrap())).collect();
        assert_eq!(turn, [0, 1, 2, 0, 1, 2]);
        all[0].active.set(2);
        all[2].active.set(1);
        assert_eq!(place(&all, least_connections(all.iter()).unwrap()), 1);
    }

    proptest! {
        #[test]
        fn round_robin_gives_each_exactly_its_share(weights in proptest::collection::vec(1u16..=256, 1..12)) {
            let all = fakes(&weights);
            let total: u32 = weights.iter().map(|w| u32::from(*w)).sum();
            for _ in 0..2 * total {
                let one = round_robin(all.iter()).unwrap();
                one.chosen.set(one.chosen.get() + 1);
            }
            for f in &all {
                prop_assert_eq!(f.chosen.get(), 2 * u64::from(f.weight));
            }
        }

        #[test]
        fn least_connections_never_takes_a_more_loaded_one(
            given in proptest::collection::vec((1u16..=256, 0u64..1000), 1..12)
        ) {
            let all: Vec<_> = given.iter()
                .map(|(w, a)| Fake { weight: *w, active: Cell::new(*a), ..Default::default() }).collect();
            let one = least_connections(all.iter()).unwrap();
            for f in &all {
                prop_assert!((one.active() + 1) * u64::from(f.weight) <= (f.active() + 1) * u64::from(one.weight));
            }
        }
    }
}
