//! Which check begins next, and how many may run. Pure: time comes in as an argument.

use std::collections::BTreeSet;
use tokio::time::Instant;

/// Number of a backend that is checked.
pub type Id = u64;

/// Scripts at one time: each is a process.
const MAX_SCRIPTS: usize = 32;

/// What checks compete for places with. None may keep the others from theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Of backends that are up or unknown.
    Living,
    /// Of backends that are down. They have half of the places at the most: many that hang must not keep those that serve
    /// from being looked after.
    Down,
    /// Scripts, whatever they say.
    Script,
}

const CLASSES: [Class; 3] = [Class::Living, Class::Down, Class::Script];

/// Whose turn it is. What it costs depends on how many checks begin, not on how many backends there are.
#[derive(Debug, Default)]
pub struct Schedule {
    most: usize,
    queues: [Queue; 3],
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
    pub fn add(&mut self, due: Instant, id: Id, class: Class) {
        self.queue(class).due.insert((due, id));
    }

    /// It is not to begin any more.
    pub fn remove(&mut self, due: Instant, id: Id, class: Class) {
        self.queue(class).due.remove(&(due, id));
    }

    /// A check that is due, if there is room for it: who has waited longest. It runs from now on; [`Self::done`] ends that.
    pub fn next(&mut self, now: Instant) -> Option<(Instant, Id, Class)> {
        let (due, id, class) = self.first().filter(|(due, ..)| *due <= now)?;
        let queue = self.queue(class);
        queue.due.remove(&(due, id));
        queue.running += 1;
        Some((due, id, class))
    }

    /// A check that ran has ended. `class`: as [`Self::next`] said.
    pub fn done(&mut self, class: Class) {
        let queue = self.queue(class);
        queue.running = queue.running.saturating_sub(1);
    }

    /// When [`Self::next`] is to be asked again, if nothing else happens.
    pub fn wake(&self) -> Option<Instant> {
        self.first().map(|(due, ..)| due)
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.queues.iter().map(|queue| queue.running).sum()
    }

    /// Of those that there is room for, who is due first.
    fn first(&self) -> Option<(Instant, Id, Class)> {
        if self.running() >= self.most {
            return None;
        }
        let with_room =
            CLASSES.into_iter().zip(&self.queues).filter(|(class, queue)| queue.running < self.places(*class));
        let firsts = with_room.filter_map(|(class, queue)| queue.due.first().map(|(due, id)| (*due, *id, class)));
        firsts.min_by_key(|(due, id, _)| (*due, *id))
    }

    fn places(&self, class: Class) -> usize {
        match class {
            Class::Living => self.most,
            Class::Down => self.most.div_ceil(2),
            Class::Script => self.most.div_ceil(2).min(MAX_SCRIPTS),
        }
    }

    fn queue(&mut self, class: Class) -> &mut Queue {
        &mut self.queues[class as usize]
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
            checks in prop::collection::vec((0u64..50, prop::sample::select(CLASSES.to_vec())), 0..40),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let mut schedule = Schedule::default();
            schedule.set_most(most);
            for (id, (due, class)) in checks.iter().enumerate() {
                schedule.add(at(*due), id as Id, *class);
            }
            let (mut running, mut begun): (Vec<Class>, Vec<(Instant, Id, Class)>) = Default::default();
            for (now, end) in ends.iter().enumerate() {
                while let Some((due, id, class)) = schedule.next(at(now as u64)) {
                    prop_assert!(due <= at(now as u64) && checks[id as usize].1 == class);
                    // Of its class nobody waited longer.
                    let ours: Vec<_> = begun.iter().filter(|(_, _, other)| *other == class).collect();
                    prop_assert!(ours.iter().all(|(before, _, _)| *before <= due));
                    running.push(class);
                    begun.push((due, id, class));
                }
                let of = |class| running.iter().filter(|other| **other == class).count();
                let half = most.div_ceil(2);
                prop_assert!(running.len() <= most && of(Class::Down) <= half && of(Class::Script) <= half);
                prop_assert_eq!(schedule.running(), running.len());
                // Who is not begun is not due, or has no room.
                prop_assert!(schedule.wake().is_none_or(|wake| wake > at(now as u64)));
                if !running.is_empty() {
                    let class = running.swap_remove(end.index(running.len()));
                    schedule.done(class);
                }
            }
            let mut ids: Vec<Id> = begun.iter().map(|(_, id, _)| *id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), begun.len(), "one began twice");
        }
    }

    #[test]
    fn what_hangs_takes_no_places_of_what_serves() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.set_most(100);
        for id in 0..1000 {
            schedule.add(now, id, Class::Down);
            schedule.add(now, 1000 + id, Class::Script);
        }
        while schedule.next(now).is_some() {}
        assert_eq!(schedule.running(), 50 + MAX_SCRIPTS);
        schedule.add(now, 2000, Class::Living);
        assert_eq!(schedule.next(now), Some((now, 2000, Class::Living)));
    }
}
