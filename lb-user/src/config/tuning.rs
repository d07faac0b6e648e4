//! The keys of `[edge]` that size forwarding and the shield.

use super::problem::{Problem, Problems};
use super::scalar::Wrong;
use super::section::Section;
use crate::datapath::Tuning;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_common::abi;
use std::ops::RangeInclusive;

const ENTRIES: RangeInclusive<u32> = 1024..=16_777_216;
const A_SECOND: RangeInclusive<u32> = 0..=100_000;
/// A hash seed is at most so long, bytes.
const MAX_SEED: usize = 1024;

pub(super) fn tuning(section: &mut Section<'_>, p: &mut Problems, edge: &str) -> Tuning {
    let default = Tuning::default();
    Tuning {
        max_backends: section.integer(p, "max_backends", 1..=abi::MAX_BACKENDS).unwrap_or(default.max_backends),
        max_flows: section.integer(p, "max_flows", ENTRIES).unwrap_or(default.max_flows),
        max_sources: section.integer(p, "max_sources", ENTRIES).unwrap_or(default.max_sources),
        max_prefixes: section.integer(p, "max_prefixes", 1..=*ENTRIES.end()).unwrap_or(default.max_prefixes),
        hash_seed: section.parsed(p, "hash_seed", seed).map_or_else(|| hash(edge), |at| at.value),
        outer_v4: section.parsed(p, "ipip_source_v4", outer_v4).map_or(default.outer_v4, |at| at.value),
        outer_v6: section.parsed(p, "ipip_source_v6", outer_v6).map_or(default.outer_v6, |at| at.value),
        events_per_second: section.integer(p, "events_per_second", A_SECOND).unwrap_or(default.events_per_second),
        icmp_per_second: section.integer(p, "icmp_per_second", A_SECOND).unwrap_or(default.icmp_per_second),
    }
}

fn seed(text: &str) -> Result<u64, Wrong> {
    if text.is_empty() || text.len() > MAX_SEED {
        return Err(Wrong::new(
            format!("a seed of {} bytes", text.len()),
            format!("write any text of 1 to {MAX_SEED} bytes, the same on every edge that is to choose alike"),
        ));
    }
    Ok(hash(text))
}

/// FNV-1a of 64 bits, and its bits mixed (the end of MurmurHash3). Written out, because it may never change: with
/// another number every flow would move at an upgrade.
fn hash(text: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

fn outer_v4(text: &str) -> Result<Ipv4Net, Wrong> {
    match text.parse() {
        Ok(IpNet::V4(net)) if (8..=32).contains(&net.prefix_len()) => Ok(net.trunc()),
        _ => Err(Wrong::new(
            format!("{text:?} is no IPv4 network of /8 to /32"),
            "write the network that outer sources are taken from, such as \"198.18.0.0/16\"",
        )),
    }
}

fn outer_v6(text: &str) -> Result<Ipv6Net, Wrong> {
    match text.parse() {
        Ok(IpNet::V6(net)) if (32..=96).contains(&net.prefix_len()) => Ok(net.trunc()),
        _ => Err(Wrong::new(
            format!("{text:?} is no IPv6 network of /32 to /96"),
            "write the network that outer sources are taken from, such as \"100::/64\"",
        )),
    }
}

/// Told with `datapath = "sockets"`, where nothing is forwarded.
pub(super) fn unused(section: &Section<'_>, p: &mut Problems) {
    const KEYS: [&str; 9] = [
        "max_backends",
        "max_flows",
        "max_sources",
        "max_prefixes",
        "hash_seed",
        "ipip_source_v4",
        "ipip_source_v6",
        "events_per_second",
        "icmp_per_second",
    ];
    for key in KEYS.into_iter().filter(|key| section.has(key)) {
        p.push(
            Problem::warning(section.span_of(key), format!("`{key}` is not used with datapath = \"sockets\""))
                .help("leave it out"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed apart from this code: whoever changes them moves every flow of every edge.
    #[test]
    fn the_seed_of_a_name_never_changes() {
        assert_eq!(hash(""), 0xefd0_1f60_ba99_2926);
        assert_eq!(hash("edge"), 0x15cb_45cb_a673_8c35);
        assert_ne!(hash("edge"), hash("edgf"));
    }

    #[test]
    fn outer_networks_are_bounded() {
        assert_eq!(outer_v4("198.18.3.4/16").unwrap().to_string(), "198.18.0.0/16");
        assert_eq!(outer_v6("100::7/64").unwrap().to_string(), "100::/64");
        for bad in ["198.18.0.0/7", "198.18.0.0/33", "198.18.0.0", "100::/64", "x"] {
            assert!(outer_v4(bad).is_err(), "{bad}");
        }
        for bad in ["100::/31", "100::/97", "10.0.0.0/8", ""] {
            assert!(outer_v6(bad).is_err(), "{bad}");
        }
    }
}
