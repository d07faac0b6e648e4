//! How the slots of a ring change: moved by a change of the pool, watched when flows that began before have had their
//! time, settled when nobody in them is remembered any more. Pure; what packets make of it is `lb_common::select`.

use lb_common::select::{Backend, Slot, WATCHED};

/// The slots after the pool has changed to `target`.
pub(super) fn moved(slots: &[Slot], target: &[Backend]) -> Vec<Slot> {
    slots.iter().zip(target).map(|(slot, to)| one_moved(*slot, *to)).collect()
}

fn one_moved(slot: Slot, to: Backend) -> Slot {
    if slot.current == to {
        return slot;
    }
    // Flows that began before this change and are not remembered: in a slot that was moving they are of the first
    // backend still, else of the one that was current.
    let before = match slot.settled {
        WATCHED => slot.current,
        settled => settled,
    };
    // Moved back before it had settled: whoever is not remembered belongs where the slot points again.
    if before == to { Slot { settled: WATCHED, current: to } } else { Slot { settled: before, current: to } }
}

/// The slots when every flow that began before has had its time.
pub(super) fn watched(slots: &[Slot]) -> Vec<Slot> {
    let watch = |slot: &Slot| if slot.is_settled() { *slot } else { Slot { settled: WATCHED, ..*slot } };
    slots.iter().map(watch).collect()
}

/// The slots when only in those that `remembered` names somebody is remembered who goes elsewhere than `current`.
pub(super) fn settled(slots: &[Slot], remembered: impl Fn(u32) -> bool) -> Vec<Slot> {
    let settle = |(index, slot): (u32, &Slot)| match slot.settled {
        WATCHED if !remembered(index) => Slot::settled(slot.current),
        _ => *slot,
    };
    (0..).zip(slots).map(settle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Backend = 1;
    const B: Backend = 2;
    const C: Backend = 3;

    fn slot(settled: Backend, current: Backend) -> Slot {
        Slot { settled, current }
    }

    #[test]
    fn a_slot_moves_once_and_remembers_its_first_backend() {
        assert_eq!(one_moved(slot(A, A), A), slot(A, A));
        assert_eq!(one_moved(slot(A, A), B), slot(A, B));
        assert_eq!(one_moved(slot(A, B), C), slot(A, C));
        assert_eq!(one_moved(slot(WATCHED, B), C), slot(B, C));
    }

    #[test]
    fn a_slot_that_moves_back_is_watched() {
        assert_eq!(one_moved(slot(A, B), A), slot(WATCHED, A));
    }

    #[test]
    fn only_slots_without_memory_settle() {
        let slots = [slot(A, A), slot(A, B), slot(A, C)];
        let slots = watched(&slots);
        assert_eq!(slots, [slot(A, A), slot(WATCHED, B), slot(WATCHED, C)]);
        assert_eq!(settled(&slots, |index| index == 1), [slot(A, A), slot(WATCHED, B), slot(C, C)]);
    }
}
