//! Maglev's table (Eisenbud et al., NSDI 2016, 3.4): each backend has an order of its own of all slots, and in turns, by
//! weight, takes the first that is still free. It is made of all backends of a pool, whatever their state: when one
//! falls out, its keys alone go elsewhere, and come back to it.

use std::net::SocketAddr;

/// Primes about twice as large as the one before.
const SIZES: [u32; 9] = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521];
/// Slots for each backend, so that shares are within some percent.
const SLOTS_EACH: usize = 100;
/// Slots that are looked at for a candidate.
const STEPS: usize = 64;

/// A table; immutable, shared by all threads.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Maglev {
    /// Places in the pool by slot; empty without a backend.
    slots: Vec<u16>,
}

impl Maglev {
    /// A table of these backends and weights, in the order of the pool.
    pub(crate) fn new(backends: &[(SocketAddr, u16)]) -> Self {
        let lightest = backends.iter().map(|(_, weight)| usize::from(*weight)).min().unwrap_or(1).max(1);
        let total: usize = backends.iter().map(|(_, weight)| usize::from(*weight)).sum();
        // Of the lightest backend a few slots are to be seen even beside heavy ones.
        let wanted = (SLOTS_EACH * backends.len()).max(16 * total / lightest);
        let size = SIZES.into_iter().find(|size| *size as usize >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        Maglev { slots: fill(backends, u64::from(size)) }
    }

    /// Places of backends from a key's slot on, each slot once, a bounded number of them.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let size = self.slots.len().max(1);
        let first = (key % size as u64) as usize;
        let after = self.slots.iter().skip(first).chain(self.slots.iter().take(first));
        after.take(STEPS).map(|place| usize::from(*place))
    }
}

fn fill(backends: &[(SocketAddr, u16)], size: u64) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let Some(heaviest) = backends.iter().map(|(_, weight)| u32::from(*weight)).max() else { return Vec::new() };
    // Where each stands in its own order: (next slot, step), and its weight not yet spent.
    let mut orders: Vec<(u64, u64, u32)> = backends
        .iter()
        .map(|(address, _)| {
            let hash = of_address(*address);
            (hash % size, mix(hash) % (size - 1) + 1, 0)
        })
        .collect();
    let mut slots = vec![FREE; size as usize];
    let mut left = size;
    while left > 0 {
        for (place, (slot, step, spare)) in orders.iter_mut().enumerate() {
            *spare += u32::from(backends[place].1);
            if *spare < heaviest || left == 0 {
                continue;
            }
            *spare -= heaviest;
            while slots[*slot as usize] != FREE {
                *slot = (*slot + *step) % size;
            }
            slots[*slot as usize] = place as u16;
            left -= 1;
        }
    }
    slots
}

fn of_address(address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    of_bytes(&bytes)
}

/// Hash of a key: FNV-1a, then mixed, as its low bits alone are poor. The same on every thread, edge and day.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finalizer of SplitMix64: every bit of the input changes half of the output's.
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backends(weights: &[u16]) -> Vec<(SocketAddr, u16)> {
        let address = |i: usize| SocketAddr::from(([10, 0, (i >> 8) as u8, i as u8], 80));
        weights.iter().enumerate().map(|(i, weight)| (address(i), *weight)).collect()
    }

    #[test]
    fn without_a_backend_there_is_no_slot() {
        assert_eq!(Maglev::new(&[]).from(7).count(), 0);
        assert_eq!(Maglev::new(&backends(&[1; 1024])).slots.len(), 65_521);
    }

    #[test]
    fn the_table_is_the_same_everywhere() {
        // A change of these moves every key of every edge.
        assert_eq!(of_bytes(b"192.0.2.1"), of_bytes(b"192.0.2.1"));
        assert_eq!(&Maglev::new(&backends(&[1, 1, 1])).slots[..8], &FIRST[..]);
    }
    const FIRST: [u16; 8] = [1, 1, 1, 1, 1, 2, 2, 2];

    proptest! {
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(1u16..=16, 1..20)) {
            let table = Maglev::new(&backends(&weights));
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            for (place, weight) in weights.iter().enumerate() {
                let has = table.slots.iter().filter(|slot| usize::from(**slot) == place).count() as f64;
                let fair = table.slots.len() as f64 * f64::from(*weight) / total;
                // Only what is lost to rounding, a slot of each backend at the most, is shared out once more.
                let rounding = weights.len() as f64 * f64::from(*weight) / total;
                prop_assert!((has - fair).abs() <= rounding + 2.0, "{has} for {fair}");
            }
        }

        #[test]
        fn one_backend_less_moves_few_other_keys(n in 2usize..20, gone in 0usize..20, keys in prop::collection::vec(any::<u64>(), 2000)) {
            let gone = gone % n;
            let before = backends(&vec![1; n]);
            let mut after = before.clone();
            after.remove(gone);
            let (old, new) = (Maglev::new(&before), Maglev::new(&after));
            prop_assume!(old.slots.len() == new.slots.len());
            let moved = keys.iter().filter(|key| {
                let was = before[old.from(**key).next().unwrap()].0;
                was != before[gone].0 && was != after[new.from(**key).next().unwrap()].0
            }).count();
            prop_assert!(moved <= keys.len() / 4, "{moved} of {}", keys.len());
        }
    }
}
