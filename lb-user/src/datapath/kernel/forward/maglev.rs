//! Maglev hashing (Eisenbud et al., NSDI 2016, 3.4): which backend takes new flows in which slot. Each backend has its
//! own order of the slots, and in turn takes the next free one; a backend of twice the weight has twice the turns. So
//! shares follow the weights, and a backend that goes moves few slots but its own. Pure.

use std::net::{IpAddr, SocketAddr};

use lb_common::flow;
use lb_common::select::{Backend, NONE};

/// Keys of the two hashes that make a backend's order. The same in every edge, so that edges agree on the ring.
const OFFSET_KEY: u64 = 0x6261_696c_6579_0001;
const SKIP_KEY: u64 = 0x6261_696c_6579_0002;

/// A backend that takes new flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// What stands in the ring.
    pub(super) number: Backend,
    /// Makes its order of the slots.
    pub(super) address: SocketAddr,
    /// 1 or above.
    pub(super) weight: u16,
}

/// The backend of each of `slots` slots, a prime number of them; [`NONE`] everywhere without candidates.
pub(super) fn ring(candidates: &[Candidate], slots: u32) -> Vec<Backend> {
    let mut ring = vec![NONE; slots as usize];
    let mut turns: Vec<Turn> = candidates.iter().map(|candidate| Turn::of(candidate, slots)).collect();
    // The ring is the same whatever the order they were named in.
    turns.sort_by_key(|turn| turn.address);
    let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(0);
    let mut free = if turns.is_empty() { 0 } else { ring.len() };
    let mut round = 0;
    while free > 0 {
        round += 1;
        for turn in &mut turns {
            if round * turn.weight < turn.owed {
                continue;
            }
            turn.owed += heaviest;
            let slot = turn.next_free(&ring);
            ring[slot] = turn.number;
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    ring
}

struct Turn {
    number: Backend,
    address: SocketAddr,
    weight: u64,
    /// Weight that must have come together before its next turn.
    owed: u64,
    slots: u64,
    at: u64,
    skip: u64,
}

impl Turn {
    fn of(candidate: &Candidate, slots: u32) -> Self {
        let slots = u64::from(slots);
        let weight = u64::from(candidate.weight.max(1));
        let at = hash(OFFSET_KEY, candidate.address) % slots;
        let skip = hash(SKIP_KEY, candidate.address) % (slots - 1) + 1;
        Self { number: candidate.number, address: candidate.address, weight, owed: 0, slots, at, skip }
    }

    /// Its order visits every slot, as the number of slots is prime; so while one is free it is found.
    fn next_free(&mut self, ring: &[Backend]) -> usize {
        loop {
            let slot = self.at as usize;
            self.at = (self.at + self.skip) % self.slots;
            if ring[slot] == NONE {
                return slot;
            }
        }
    }
}

fn hash(key: u64, address: SocketAddr) -> u64 {
    let bits = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let words = [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32];
    let half = |side| flow::hash_v6(key, words, [side; 4], address.port(), 0, 0);
    u64::from(half(0)) << 32 | u64::from(half(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOTS: u32 = 65_537;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        (1..)
            .zip(weights)
            .map(|(number, weight)| Candidate {
                number,
                address: SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 80)),
                weight: *weight,
            })
            .collect()
    }

    fn shares(ring: &[Backend], count: usize) -> Vec<usize> {
        let mut shares = vec![0; count + 1];
        for backend in ring {
            shares[usize::from(*backend)] += 1;
        }
        shares
    }

    #[test]
    fn without_candidates_no_slot_has_one() {
        assert!(ring(&[], 7).iter().all(|backend| *backend == NONE));
    }

    #[test]
    fn the_ring_is_the_same_in_every_release() {
        assert_eq!(ring(&candidates(&[1, 2, 3]), 13), [3, 2, 1, 3, 2, 3, 2, 1, 2, 3, 2, 3, 1]);
    }

    #[test]
    fn the_order_of_naming_does_not_matter() {
        let mut list = candidates(&[5, 1, 9, 2]);
        let one = ring(&list, 251);
        list.reverse();
        assert_eq!(one, ring(&list, 251));
    }

    #[test]
    fn four_thousand_backends_have_a_slot_each() {
        let shares = shares(&ring(&candidates(&[1; 4096]), SLOTS), 4096);
        assert!(shares[1..].iter().all(|share| (16..=17).contains(share)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(1u16..=256, 1..80)) {
            let shares = shares(&ring(&candidates(&weights), SLOTS), weights.len());
            let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            prop_assert_eq!(shares[0], 0);
            for (weight, share) in weights.iter().zip(&shares[1..]) {
                let wanted = f64::from(SLOTS) * f64::from(*weight) / sum;
                // Two per cent, and the last round, which not every backend has a turn in.
                prop_assert!((*share as f64 - wanted).abs() <= wanted * 0.02 + 1.0, "{share} of {wanted}");
            }
        }

        #[test]
        fn one_that_goes_moves_little_but_its_own(count in 2usize..60, gone in any::<prop::sample::Index>()) {
            let all = candidates(&vec![1; count]);
            let gone = gone.index(count);
            let mut rest = all.clone();
            rest.remove(gone);
            let (before, after) = (ring(&all, SLOTS), ring(&rest, SLOTS));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let bound = f64::from(SLOTS) * (1.0 / count as f64 + 0.02);
            prop_assert!(moved as f64 <= bound, "{moved} moved, {bound} at the most");
        }
    }
}
