//! Which worker stands behind which slot of the flow hash. Pure.

use lb_common::abi::NO_WORKER;

/// Slots for `workers`, from the `previous` ones: every worker gets an equal share, within one slot, and a slot moves
/// only when its worker is gone or has more than its share. Without workers every slot is [`NO_WORKER`].
pub(super) fn assign(previous: &[u32], workers: &[u32]) -> Vec<u32> {
    if workers.is_empty() {
        return vec![NO_WORKER; previous.len()];
    }
    let mut have = vec![0usize; workers.len()];
    let place = |worker: &u32| workers.iter().position(|w| w == worker);
    for index in previous.iter().filter_map(place) {
        have[index] += 1;
    }
    let mut room = shares(previous.len(), &have);
    let mut slots = previous.to_vec();
    let mut moving = Vec::new();
    for (slot, worker) in slots.iter().enumerate() {
        match place(worker) {
            Some(index) if room[index] > 0 => room[index] -= 1,
            _ => moving.push(slot),
        }
    }
    // In turn, so that neighbouring slots of a new table go to different workers.
    let mut turn = (0..workers.len()).cycle();
    for slot in moving {
        // `shares` sums to the number of slots, so for each slot that moves there is room somewhere.
        if let Some(index) = turn.by_ref().take(workers.len()).find(|index| room[*index] > 0) {
            room[index] -= 1;
            slots[slot] = workers[index];
        }
    }
    slots
}

/// Share of each worker. Those that hold the most get the slots that do not divide evenly.
fn shares(slots: usize, have: &[usize]) -> Vec<usize> {
    let mut shares = vec![slots / have.len(); have.len()];
    let mut order: Vec<usize> = (0..have.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(have[*index]));
    for index in order.into_iter().take(slots % have.len()) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::abi::WORKER_SLOT_COUNT;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    const SLOTS: usize = WORKER_SLOT_COUNT as usize;

    fn empty() -> Vec<u32> {
        vec![NO_WORKER; SLOTS]
    }

    fn count(slots: &[u32], worker: u32) -> usize {
        slots.iter().filter(|w| **w == worker).count()
    }

    #[test]
    fn two_workers_alternate() {
        let slots = assign(&empty(), &[0, 1]);
        assert!(slots.iter().enumerate().all(|(i, w)| *w as usize == i % 2));
    }

    #[test]
    fn without_workers_no_slot_has_one() {
        assert_eq!(assign(&assign(&empty(), &[3, 4]), &[]), empty());
    }

    proptest! {
        #[test]
        fn shares_are_equal_within_one(workers in btree_set(0u32..256, 1..64)) {
            let workers: Vec<u32> = workers.into_iter().collect();
            let slots = assign(&empty(), &workers);
            for worker in &workers {
                let count = count(&slots, *worker);
                prop_assert!(count == SLOTS / workers.len() || count == SLOTS.div_ceil(workers.len()));
            }
        }

        #[test]
        fn only_what_must_move_moves(before in btree_set(0u32..40, 1..20), after in btree_set(0u32..40, 1..20)) {
            let before: Vec<u32> = before.into_iter().collect();
            let after: Vec<u32> = after.into_iter().collect();
            let old = assign(&empty(), &before);
            let new = assign(&old, &after);
            for worker in &after {
                let count = count(&new, *worker);
                prop_assert!(count == SLOTS / after.len() || count == SLOTS.div_ceil(after.len()));
            }
            // What a gone worker had must move, and what is over the share of one that stays; nothing else.
            let ceil = SLOTS.div_ceil(after.len());
            let floor = SLOTS / after.len();
            let moved = old.iter().zip(&new).filter(|(a, b)| a != b).count();
            let kept_at_most: usize = after.iter().map(|w| count(&old, *w).min(ceil)).sum();
            let kept_at_least: usize = after.iter().map(|w| count(&old, *w).min(floor)).sum();
            prop_assert!((SLOTS - kept_at_most..=SLOTS - kept_at_least).contains(&moved));
        }

        #[test]
        fn the_same_workers_move_nothing(workers in btree_set(0u32..256, 1..64)) {
            let workers: Vec<u32> = workers.into_iter().collect();
            let slots = assign(&empty(), &workers);
            prop_assert_eq!(assign(&slots, &workers), slots);
        }
    }
}
