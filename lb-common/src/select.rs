//! Which backend a packet of a forwarded service goes to: one decision, made by `edge` for every packet, by the
//! control plane for an operator's question, and by the test that plays changes and flows against it.
//!
//! A slot of a ring holds two backends. Where they are one, the slot is settled and its flows need no memory. Where
//! they differ, the slot has moved: flows that begin now go to `current` and are remembered; an unknown packet is of a
//! flow that began before and goes to `settled`, and is remembered from then on. Once every flow that lives has had
//! time to be seen, the slot is watched: whom we remember goes on as before, everybody else goes to `current`. When
//! nobody is remembered any more, the slot is settled.

/// A backend's number: index in [`crate::abi::BACKENDS`]; 0 is none.
pub type Backend = u16;

/// Stands in place of a slot's settled backend when the slot is watched.
pub const WATCHED: Backend = u16::MAX;
/// No backend.
pub const NONE: Backend = 0;

/// One slot of a ring: one aligned word, so that it is read and written whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Slot {
    /// Where flows go that began before the slot moved, or [`WATCHED`].
    pub settled: Backend,
    /// Where flows go that begin.
    pub current: Backend,
}

impl Slot {
    /// A slot whose flows all go to one backend.
    #[inline(always)]
    pub const fn settled(backend: Backend) -> Self {
        Self { settled: backend, current: backend }
    }
    /// As it stands in a ring.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self { settled: (word >> 16) as u16, current: word as u16 }
    }
    /// As it stands in a ring.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        (self.settled as u32) << 16 | self.current as u32
    }
    /// Whether flows of this slot need no memory.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        self.settled == self.current
    }
}

/// What a packet says of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// The flow begins here (a TCP SYN).
    Begins,
    /// The flow began before (any other TCP packet, an ICMP error).
    Goes,
    /// The protocol does not say, and flows that began before the slot moved may not have been seen since (UDP).
    Unsaid,
    /// The protocol does not say, but every flow that began before and lives has been seen since (UDP).
    UnsaidButNew,
}

/// What is to become of the memory of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Nothing.
    Leave,
    /// The flow is seen again.
    Refresh,
    /// The flow goes to the chosen backend from now on.
    Remember,
    /// The flow needs no memory any more.
    Forget,
}

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The slot is settled.
    Settled,
    /// The slot has moved, and the flow begins or may be taken for a new one.
    Moved,
    /// The slot has moved, and the flow began before.
    Before,
    /// The flow is remembered.
    Remembered,
    /// The backend that the flow had is dead.
    Dead,
}

/// The decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// [`NONE`]: no backend may be chosen.
    pub backend: Backend,
    /// What to do with the flow's memory.
    pub memory: Memory,
    /// Why.
    pub reason: Reason,
}

/// Slot of a hash in a ring of so many slots; below `slots` where that is not 0.
#[inline(always)]
pub const fn slot_of(hash: u32, slots: u32) -> u32 {
    ((hash as u64 * slots as u64) >> 32) as u32
}

/// The decision for a packet in a slot that is not settled. `remembered` is the backend that the flow's memory names,
/// if it has one that has not run out; `alive` says whether a backend's flows may go on.
#[inline(always)]
pub fn unsettled(
    slot: Slot,
    remembered: Option<Backend>,
    opening: Opening,
    mut alive: impl FnMut(Backend) -> bool,
) -> Choice {
    let watched = slot.settled == WATCHED;
    let to_current = |memory, reason| Choice { backend: slot.current, memory, reason };
    // In a watched slot whoever is not remembered goes to `current`, so that memory of `current` is needless.
    let anew = match (watched, remembered.is_some()) {
        (false, _) => Memory::Remember,
        (true, true) => Memory::Forget,
        (true, false) => Memory::Leave,
    };
    if matches!(opening, Opening::Begins) {
        return to_current(anew, Reason::Moved);
    }
    if let Some(backend) = remembered {
        if alive(backend) {
            return Choice { backend, memory: Memory::Refresh, reason: Reason::Remembered };
        }
        return to_current(anew, Reason::Dead);
    }
    if watched || matches!(opening, Opening::UnsaidButNew) {
        return to_current(anew, Reason::Moved);
    }
    if alive(slot.settled) {
        return Choice { backend: slot.settled, memory: Memory::Remember, reason: Reason::Before };
    }
    to_current(anew, Reason::Dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVED: Slot = Slot { settled: 1, current: 2 };
    const WATCH: Slot = Slot { settled: WATCHED, current: 2 };

    fn all_alive(_: Backend) -> bool {
        true
    }

    #[test]
    fn a_word_holds_a_slot() {
        for slot in [MOVED, WATCH, Slot::settled(7)] {
            assert_eq!(Slot::from_word(slot.word()), slot);
        }
        assert!(Slot::settled(NONE).word() == 0);
    }

    #[test]
    fn a_hash_falls_into_the_ring() {
        for slots in [1, 3, 65_537] {
            assert_eq!(slot_of(0, slots), 0);
            assert_eq!(slot_of(u32::MAX, slots), slots - 1);
        }
    }

    #[test]
    fn what_begins_goes_to_the_current_backend() {
        let choice = unsettled(MOVED, Some(1), Opening::Begins, all_alive);
        assert_eq!(choice, Choice { backend: 2, memory: Memory::Remember, reason: Reason::Moved });
        // The same ports again, in a slot that is watched: the old flow's memory must not catch the new one.
        let choice = unsettled(WATCH, Some(1), Opening::Begins, all_alive);
        assert_eq!(choice, Choice { backend: 2, memory: Memory::Forget, reason: Reason::Moved });
    }

    #[test]
    fn what_began_before_stays_where_it_is() {
        let choice = unsettled(MOVED, None, Opening::Goes, all_alive);
        assert_eq!(choice, Choice { backend: 1, memory: Memory::Remember, reason: Reason::Before });
        let choice = unsettled(WATCH, Some(1), Opening::Goes, all_alive);
        assert_eq!(choice, Choice { backend: 1, memory: Memory::Refresh, reason: Reason::Remembered });
        assert_eq!(unsettled(MOVED, None, Opening::Unsaid, all_alive).backend, 1);
        assert_eq!(unsettled(MOVED, None, Opening::UnsaidButNew, all_alive).backend, 2);
    }

    #[test]
    fn a_dead_backend_keeps_no_flow() {
        let dead = |backend| backend != 1;
        assert_eq!(unsettled(MOVED, None, Opening::Goes, dead).reason, Reason::Dead);
        assert_eq!(unsettled(MOVED, Some(1), Opening::Goes, dead).backend, 2);
        assert_eq!(unsettled(WATCH, Some(1), Opening::Goes, dead).memory, Memory::Forget);
    }
}
