//! Rates of sources and services. Buckets are read and written without a lock: two CPUs that meet in one may let one
//! packet more through than the rate, never one fewer.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use lb_common::abi::{ShieldValue, SourceValue};
use lb_common::rate;

use super::maps::{BUCKETS, SHIELD, SOURCES, SourceKeyWords};
use crate::family::Family;
use crate::maps::{self, AddressWords};

/// Answers of [`within`]: which rate a packet is over.
pub(super) const WITHIN: u32 = 0;
pub(super) const SOURCE_PACKETS: u32 = 1;
pub(super) const SOURCE_CONNECTIONS: u32 = 2;
pub(super) const SERVICE_PACKETS: u32 = 3;
pub(super) const SERVICE_CONNECTIONS: u32 = 4;

/// Whether a packet of `source` is within the rates of its service; then it is counted in all of them.
#[inline(never)]
pub(super) fn within<F: Family>(service: u32, source: &AddressWords, opening: bool) -> u32 {
    let Some(limits) = SHIELD.get(service) else { return WITHIN };
    let of_source = limits.source_packets.interval | limits.source_connections.interval != 0;
    let of_service = limits.packets.interval | limits.connections.interval != 0;
    if !of_source && !of_service {
        return WITHIN;
    }
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };

    let key = source_key::<F>(limits, service, source);
    let mut known = None;
    let mut taken_of_source = SourceValue::default();
    if of_source {
        known = SOURCES.get_ptr_mut(key);
        let before = match known {
            // SAFETY: the entry may be given to another source meanwhile, and is a valid value all the same.
            Some(value) => unsafe { *value },
            None => SourceValue::default(),
        };
        let Some(packets) = rate::take(&limits.source_packets, before.packets, now) else { return SOURCE_PACKETS };
        taken_of_source.packets = packets;
        taken_of_source.connections = before.connections;
        if opening {
            let Some(connections) = rate::take(&limits.source_connections, before.connections, now) else {
                return SOURCE_CONNECTIONS;
            };
            taken_of_source.connections = connections;
        }
    }
    if of_service && let Some(bucket) = BUCKETS.get_ptr_mut(service) {
        // SAFETY: the row always exists; other CPUs write whole words of it.
        let (packets, connections) = unsafe { ((*bucket).packets, (*bucket).connections) };
        let Some(packets) = rate::take(&limits.packets, packets, now) else { return SERVICE_PACKETS };
        let mut opened = connections;
        if opening {
            let Some(connections) = rate::take(&limits.connections, connections, now) else {
                return SERVICE_CONNECTIONS;
            };
            opened = connections;
        }
        // SAFETY: as above.
        unsafe {
            if limits.packets.interval != 0 {
                (*bucket).packets = packets;
            }
            if opening {
                (*bucket).connections = opened;
            }
        }
    }
    if of_source {
        match known {
            // SAFETY: as above; whoever has the entry now gets a bucket that is a little emptier.
            Some(value) => unsafe { *value = taken_of_source },
            // Full of sources that are all in use: this one is not limited now.
            None => drop(SOURCES.insert(key, taken_of_source, 0)),
        }
    }
    WITHIN
}

#[inline(always)]
fn source_key<F: Family>(limits: &ShieldValue, service: u32, source: &AddressWords) -> SourceKeyWords {
    let [a, b, c, d] = if F::V6 {
        // SAFETY: both are 16 plain bytes; the field is at a multiple of eight in an element that is at one.
        let mask = unsafe { *(&raw const limits.mask_v6).cast::<AddressWords>() };
        [source[0] & mask[0], source[1] & mask[1], source[2] & mask[2], source[3] & mask[3]]
    } else {
        maps::mapped(source[3] & limits.mask_v4.to_be())
    };
    [a, b, c, d, service]
}
