//! The flow hash. `edge` computes it from a packet, `steer` from a socket lookup, the control plane from an
//! operator's question; the three must agree to the bit, so it stands here once.
//!
//! A keyed multiply–xor over 64-bit words with MurmurHash3's `fmix64` at the end (Appleby, public domain): BPF has a
//! 64-bit multiply and no 128-bit one. The key keeps outsiders from aiming flows at one worker; it is no MAC.

use crate::abi::{CLIENT_HOP_COUNT, HASH_SOURCE, HASH_SOURCE_DESTINATION, WORKER_SLOT_COUNT};

/// Hash of an IPv4 flow. Addresses and ports are in host order; `source` is the client's side.
#[inline(always)]
pub const fn hash_v4(
    seed: u64,
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
) -> u32 {
    let h = mix(seed, ((source as u64) << 32) | destination as u64);
    finish(mix(h, ports(source_port, destination_port, protocol)))
}

/// Hash of an IPv6 flow. Addresses are four words each, host order, most significant first.
#[inline(always)]
pub const fn hash_v6(
    seed: u64,
    source: [u32; 4],
    destination: [u32; 4],
    source_port: u16,
    destination_port: u16,
    protocol: u8,
) -> u32 {
    let h = mix(seed, ((source[0] as u64) << 32) | source[1] as u64);
    let h = mix(h, ((source[2] as u64) << 32) | source[3] as u64);
    let h = mix(h, ((destination[0] as u64) << 32) | destination[1] as u64);
    let h = mix(h, ((destination[2] as u64) << 32) | destination[3] as u64);
    finish(mix(h, ports(source_port, destination_port, protocol)))
}

/// Hash that chooses the backend of an IPv4 flow of a forwarded service: of all, or of what `policy`
/// ([`crate::abi::ServiceValue::hash`]) names.
#[inline(always)]
pub const fn forward_v4(seed: u64, policy: u8, source: u32, destination: u32, ports: (u16, u16), protocol: u8) -> u32 {
    match policy {
        HASH_SOURCE => hash_v4(seed, source, 0, 0, 0, 0),
        HASH_SOURCE_DESTINATION => hash_v4(seed, source, destination, 0, 0, 0),
        _ => hash_v4(seed, source, destination, ports.0, ports.1, protocol),
    }
}

/// The same for an IPv6 flow.
#[inline(always)]
pub const fn forward_v6(
    seed: u64,
    policy: u8,
    source: [u32; 4],
    destination: [u32; 4],
    ports: (u16, u16),
    protocol: u8,
) -> u32 {
    match policy {
        HASH_SOURCE => hash_v6(seed, source, [0; 4], 0, 0, 0),
        HASH_SOURCE_DESTINATION => hash_v6(seed, source, destination, 0, 0, 0),
        _ => hash_v6(seed, source, destination, ports.0, ports.1, protocol),
    }
}

/// Bit of an address in [`crate::abi::VipFilter`]; its words as they stand in a packet.
#[inline(always)]
pub const fn filter_bit(address: &[u32; 4]) -> u32 {
    hop_index(address) << 2 | (address[3] >> 24) & 3
}

/// Where the next hop towards an address is kept; its words as they stand in a packet.
#[inline(always)]
pub const fn hop_index(address: &[u32; 4]) -> u32 {
    let low = ((address[2] as u64) << 32) | address[3] as u64;
    let high = ((address[0] as u64) << 32) | address[1] as u64;
    (mix(mix(0, high), low) >> 32) as u32 & (CLIENT_HOP_COUNT - 1)
}

/// Slot of a hash, below [`WORKER_SLOT_COUNT`].
#[inline(always)]
pub const fn slot(hash: u32) -> u32 {
    hash & (WORKER_SLOT_COUNT - 1)
}

#[inline(always)]
const fn ports(source: u16, destination: u16, protocol: u8) -> u64 {
    ((source as u64) << 24) | ((destination as u64) << 8) | protocol as u64
}

#[inline(always)]
const fn mix(h: u64, word: u64) -> u64 {
    let h = (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ (h >> 32)
}

#[inline(always)]
const fn finish(mut h: u64) -> u32 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^= h >> 33;
    h as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Within so much of the mean must every slot's neighbourhood of 64 slots be; 64 * 64 draws have a deviation of 1.6 %.
    const TOLERANCE: f64 = 0.08;

    fn spread(hashes: impl Iterator<Item = u32>) {
        let mut buckets = [0u32; 64];
        let mut total = 0;
        for hash in hashes {
            buckets[(slot(hash) / 64) as usize] += 1;
            total += 1;
        }
        let mean = f64::from(total) / 64.0;
        for count in buckets {
            assert!((f64::from(count) - mean).abs() < mean * TOLERANCE, "{count} in a bucket, mean {mean}");
        }
    }

    #[test]
    fn ports_of_one_client_spread_over_the_slots() {
        for seed in [0, 1, 0xdead_beef_0123_4567] {
            let ports = (0..4u32).flat_map(|c| (0..=u16::MAX).map(move |p| (c, p)));
            spread(ports.clone().map(|(c, p)| hash_v4(seed, 0x0a00_0001 + c, 0x0a63_0001, p, 443, 6)));
            spread(ports.map(|(c, p)| hash_v6(seed, [0xfd00_0000, 0, 0, c], [0xfd63_0000, 0, 0, 1], p, 443, 6)));
        }
    }

    #[test]
    fn neighbouring_clients_spread_over_the_slots() {
        spread((0..1u32 << 18).map(|i| hash_v4(7, 0x0a00_0000 + i, 0x0a63_0001, 40000, 443, 6)));
    }

    #[test]
    fn a_policy_looks_at_what_it_names() {
        let of = |policy, destination, port| forward_v4(5, policy, 1, destination, (port, 443), 6);
        assert_eq!(of(HASH_SOURCE, 2, 7), of(HASH_SOURCE, 3, 8));
        assert_eq!(of(HASH_SOURCE_DESTINATION, 2, 7), of(HASH_SOURCE_DESTINATION, 2, 8));
        assert_ne!(of(HASH_SOURCE_DESTINATION, 2, 7), of(HASH_SOURCE_DESTINATION, 3, 7));
        assert_ne!(of(crate::abi::HASH_FLOW, 2, 7), of(crate::abi::HASH_FLOW, 2, 8));
    }

    proptest! {
        #[test]
        fn every_field_matters(seed: u64, a: u32, b: u32, p: u16, q: u16) {
            let hash = hash_v4(seed, a, b, p, q, 6);
            prop_assert_ne!(hash, hash_v4(seed ^ 1, a, b, p, q, 6));
            prop_assert_ne!(hash, hash_v4(seed, a ^ 1, b, p, q, 6));
            prop_assert_ne!(hash, hash_v4(seed, a, b ^ 1, p, q, 6));
            prop_assert_ne!(hash, hash_v4(seed, a, b, p ^ 1, q, 6));
            prop_assert_ne!(hash, hash_v4(seed, a, b, p, q ^ 1, 6));
            prop_assert_ne!(hash, hash_v4(seed, a, b, p, q, 17));
        }

        #[test]
        fn a_slot_is_within_the_table(hash: u32) {
            prop_assert!(slot(hash) < WORKER_SLOT_COUNT);
        }
    }
}
