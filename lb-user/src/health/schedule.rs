//! Which check begins next, and how many may run. Pure: time comes in as an argument.

use std::collections::BTreeSet;
use tokio::time::Instant;

/// Number of a backend that is checked.
pub type Id = u64;

/// Whose turn it is. What it costs depends on how many checks begin, not on how many backends there are.
#[derive(Debug, Default)]
pub struct Schedule {
    most: usize,
    /// Up or unknown.
    living: Queue,
    down: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    due: BTreeSet<(Instant, Id)>,
    running: usize,
}

impl Schedule {
    /// Run so many at one time.
    pub fn set_most(&mut self, most: usize) {
        self.most = most.max(1);
    }

    /// A check is to begin then.
    pub fn add(&mut self, due: Instant, id: Id, down: bool) {
        self.queue(down).due.insert((due, id));
    }

    /// It is not to begin any more.
    pub fn remove(&mut self, due: Instant, id: Id, down: bool) {
        self.queue(down).due.remove(&(due, id));
    }

    /// A check that is due, if there is room for it: who has waited longest. It runs from now on; [`Self::done`] ends that.
    /// Backends that are down have half of the room at the most: many that hang must not keep those that serve from
    /// being looked after.
    pub fn next(&mut self, now: Instant) -> Option<(Instant, Id, bool)> {
        if self.living.running + self.down.running >= self.most {
            return None;
        }
        let first = |queue: &Queue| queue.due.first().copied().filter(|(due, _)| *due <= now);
        let down = first(&self.down).filter(|_| self.down.running < self.most.div_ceil(2));
        let (turn, down) = match (first(&self.living), down) {
            (Some(living), Some(down)) => (living.min(down), down < living),
            (Some(living), None) => (living, false),
            (None, Some(down)) => (down, true),
            (None, None) => return None,
        };
        let queue = self.queue(down);
        queue.due.remove(&turn);
        queue.running += 1;
        Some((turn.0, turn.1, down))
    }

    /// A check that ran has ended. `down`: as [`Self::next`] said.
    pub fn done(&mut self, down: bool) {
        let queue = self.queue(down);
        queue.running = queue.running.saturating_sub(1);
    }

    /// When [`Self::next`] is to be asked again, if nothing else happens.
    pub fn wake(&self) -> Option<Instant> {
        if self.living.running + self.down.running >= self.most {
            return None;
        }
        let first = |queue: &Queue| queue.due.first().map(|(due, _)| *due);
        let down = first(&self.down).filter(|_| self.down.running < self.most.div_ceil(2));
        first(&self.living).into_iter().chain(down).min()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.living.running + self.down.running
    }

    fn queue(&mut self, down: bool) -> &mut Queue {
        if down { &mut self.down } else { &mut self.living }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn turns_come_in_order_within_their_bounds(
            most in 1usize..8,
            checks in prop::collection::vec((0u64..50, any::<bool>()), 0..40),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let mut schedule = Schedule::default();
            schedule.set_most(most);
            for (id, (due, down)) in checks.iter().enumerate() {
                schedule.add(at(*due), id as Id, *down);
            }
            let (mut running, mut begun): (Vec<bool>, Vec<(Instant, Id, bool)>) = Default::default();
            for (now, end) in ends.iter().enumerate() {
                while let Some((due, id, down)) = schedule.next(at(now as u64)) {
                    prop_assert!(due <= at(now as u64) && checks[id as usize].1 == down);
                    // Of its kind nobody waited longer.
                    let kind: Vec<_> = begun.iter().filter(|(_, _, other)| *other == down).collect();
                    prop_assert!(kind.iter().all(|(before, _, _)| *before <= due));
                    running.push(down);
                    begun.push((due, id, down));
                }
                let downs = running.iter().filter(|down| **down).count();
                prop_assert!(running.len() <= most && downs <= most.div_ceil(2));
                prop_assert_eq!(schedule.running(), running.len());
                // Who is not begun is not due, or has no room.
                prop_assert!(schedule.wake().is_none_or(|wake| wake > at(now as u64)));
                if !running.is_empty() {
                    let down = running.swap_remove(end.index(running.len()));
                    schedule.done(down);
                }
            }
            let mut ids: Vec<Id> = begun.iter().map(|(_, id, _)| *id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), begun.len(), "one began twice");
        }
    }
}
