//! Which backend is next. Every way looks only at what this thread has in hand.

use super::maglev::Maglev;
use crate::clock::Millis;
use std::cell::Cell;

/// A backend that may be chosen.
pub(super) trait Candidate {
    /// Above zero; only its relation to the others' counts.
    fn weight(&self) -> u32;
    /// Requests and tunnels in flight.
    fn active(&self) -> u64;
    /// Its credit in the turn of [`round_robin`].
    fn credit(&self) -> &Cell<i64>;
    /// Time to answer, as [`super::ewma`] has it; none: not known yet.
    fn cost(&self, now: Millis) -> Option<f64>;
    /// Its place in its pool.
    fn place(&self) -> usize;
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

/// By chance, by weight. `chance` gives a number below its argument.
pub(super) fn random<'a, C: Candidate>(
    candidates: impl Iterator<Item = &'a C> + Clone,
    mut chance: impl FnMut(u64) -> u64,
) -> Option<&'a C> {
    let total: u64 = candidates.clone().map(|c| u64::from(c.weight())).sum();
    if total == 0 {
        return None;
    }
    let mut at = chance(total);
    for c in candidates {
        let weight = u64::from(c.weight());
        if at < weight {
            return Some(c);
        }
        at -= weight;
    }
    None
}

/// Of two by chance the one with fewer in flight relative to weight. At rest each gets its share, as the first of equals
/// is taken.
pub(super) fn least_requests<'a, C: Candidate>(
    candidates: impl Iterator<Item = &'a C> + Clone,
    mut chance: impl FnMut(u64) -> u64,
) -> Option<&'a C> {
    let first = random(candidates.clone(), &mut chance)?;
    let second = random(candidates.filter(|c| c.place() != first.place()), chance).unwrap_or(first);
    let lighter = second.active() * u64::from(first.weight()) < first.active() * u64::from(second.weight());
    Some(if lighter { second } else { first })
}

/// Of two by chance the one whose time to answer, times what is in flight, is less. One that is not known yet is tried,
/// but with one request at a time.
pub(super) fn peak_ewma<'a, C: Candidate>(
    candidates: impl Iterator<Item = &'a C> + Clone,
    now: Millis,
    mut chance: impl FnMut(u64) -> u64,
) -> Option<&'a C> {
    let first = random(candidates.clone(), &mut chance)?;
    let second = random(candidates.filter(|c| c.place() != first.place()), chance).unwrap_or(first);
    let load = |c: &C| match c.cost(now) {
        Some(cost) => cost * (c.active() + 1) as f64,
        None if c.active() == 0 => 0.0,
        None => f64::MAX,
    };
    Some(if load(second) < load(first) { second } else { first })
}

/// By the hash of a key: the backend that the table has, or the next one in it that is a candidate and, with `bound`
/// percent, has not more than that of its share in flight.
pub(super) fn hash<'a, C: Candidate>(
    candidates: impl Iterator<Item = &'a C> + Clone,
    table: &Maglev,
    key: u64,
    bound: Option<u16>,
) -> Option<&'a C> {
    let all = || candidates.clone();
    let total: (u64, u64) = all().fold((0, 0), |(a, w), c| (a + c.active(), w + u64::from(c.weight())));
    // ceil(percent * (all in flight, this one included) * share), without a fraction in between.
    let may = |c: &C| {
        bound.is_none_or(|percent| {
            let most = u128::from(percent) * u128::from(total.0 + 1) * u128::from(c.weight());
            let most = most.div_ceil(100 * u128::from(total.1));
            u128::from(c.active()) < most
        })
    };
    let by_table = table.from(key).find_map(|place| all().find(|c| c.place() == place && may(c)));
    // Where nearly all of the table's backends are no candidates: by what each makes of the key.
    by_table.or_else(|| {
        let mixed = |c: &&C| super::maglev::mix(key ^ super::maglev::mix(c.place() as u64 + 1));
        all().filter(|c| may(c)).max_by_key(mixed).or_else(|| all().max_by_key(mixed))
    })
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
