//! `[service.NAME]` with mode `l4`: what is sent on without a look inside.

use super::model::{DatapathKind, Forward};
use super::net;
use super::problem::{Problem, Problems};
use super::refs::Refs;
use super::scalar::Wrong;
use super::section::{At, Section, string};
use crate::datapath::{ForwardHash, ForwardMode, Protocol, ServiceAddress};
use lb_common::abi::RING_SLOTS;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// Slots of a ring: a hundred for each of 655 backends keep shares within one percent.
const TABLE_SIZE: u32 = 65_537;
const AGES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// The least that holds an IPv4 packet of 576 bytes; [`super::forwarding`] knows what the addresses need.
const OUTER_MTU: RangeInclusive<u32> = 596..=65_535;

/// Keys of this mode alone.
const OWN: [&str; 7] = ["protocols", "forward", "hash", "table_size", "drain", "udp_idle", "outer_mtu"];
/// Keys of the other modes alone.
const OTHERS: [&str; 16] = [
    "certificates",
    "tls_policy",
    "min_tls",
    "unknown_sni",
    "hsts",
    "http2",
    "alpn",
    "client_cert",
    "client_cert_headers",
    "sni",
    "redirect_https",
    "routes",
    "served_by_header",
    "max_connections",
    "timeouts",
    "http",
];

/// A forwarded service, and where its words stand.
pub(super) struct Parsed {
    pub(super) forward: Forward,
    pub(super) places: Vec<At<ServiceAddress>>,
    pub(super) pool: Range<usize>,
    pub(super) outer_mtu: Range<usize>,
}

/// A service of another mode has none of the keys of this one.
pub(super) fn refuse_own(section: &mut Section<'_>, p: &mut Problems) {
    for key in OWN {
        if section.value(key).is_some() {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` belongs to mode \"l4\""))
                    .help(format!("this service ends in a worker: set mode = \"l4\", or remove `{key}`")),
            );
        }
    }
}

/// The service; the caller reads `mode` and `shield` and finishes the section.
pub(super) fn forward(
    name: &At<String>,
    section: &mut Section<'_>,
    p: &mut Problems,
    datapath: DatapathKind,
    pools: &mut Refs,
) -> Option<Parsed> {
    if datapath == DatapathKind::Sockets {
        p.push(
            Problem::error(section.span_of("mode"), "mode \"l4\" needs XDP")
                .help("set datapath = \"native\" or \"generic\" under [edge]"),
        );
    }
    let places = addresses(section, p);
    let protocols = protocols(section, p);
    let pool_span = section.span_of("pool");
    let pool = section.string(p, "pool").and_then(|at| pools.resolve(&at, p));
    if !section.has("pool") {
        section.missing("pool", "write pool = \"NAME\"");
    }
    let modes = [("nat", ForwardMode::Nat), ("ipip", ForwardMode::Ipip), ("l2", ForwardMode::L2)];
    let mode = section.choice(p, "forward", &modes);
    if !section.has("forward") {
        section.missing("forward", "write forward = \"nat\", \"ipip\" or \"l2\": how packets reach a backend");
    }
    let words = [
        ("flow", ForwardHash::Flow),
        ("source", ForwardHash::Source),
        ("source_destination", ForwardHash::SourceDestination),
    ];
    let hash = section.choice(p, "hash", &words).unwrap_or(ForwardHash::Flow);
    let slots = table_size(section, p);
    let drain = section.duration(p, "drain", AGES).unwrap_or(Duration::from_secs(900));
    let udp_idle = section.duration(p, "udp_idle", AGES).unwrap_or(Duration::from_secs(120));
    let outer_mtu = section.integer(p, "outer_mtu", OUTER_MTU);
    let outer_mtu_span = section.span_of("outer_mtu");
    if mode.is_some_and(|mode| mode != ForwardMode::Ipip) && section.has("outer_mtu") {
        p.push(
            Problem::error(outer_mtu_span.clone(), "`outer_mtu` belongs to forward = \"ipip\"")
                .help("nothing is put around packets here: remove it"),
        );
    }
    for key in OTHERS {
        if section.value(key).is_some() {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` belongs to modes that end in a worker"))
                    .help(format!("packets of an \"l4\" service are sent on without a look inside: remove `{key}`")),
            );
        }
    }
    let forward = Forward {
        name: name.value.clone(),
        addresses: places.iter().map(|at| at.value).collect(),
        protocols,
        pool: pool?,
        mode: mode?,
        hash,
        slots,
        drain,
        udp_idle,
        outer_mtu,
    };
    Some(Parsed { forward, places, pool: pool_span, outer_mtu: outer_mtu_span })
}

fn addresses(section: &mut Section<'_>, p: &mut Problems) -> Vec<At<ServiceAddress>> {
    const HELP: &str = "write addresses = [\"192.0.2.1:53\"]; ports may be \"1000-2000\" or \"*\"";
    let list = section.parsed_list(p, "addresses", net::service_address).unwrap_or_default();
    if !section.has("addresses") {
        section.missing("addresses", HELP);
    } else if section.is_empty_list("addresses") {
        let span = section.span_of("addresses");
        p.push(Problem::error(span, format!("{} has no address", section.title)).help(HELP));
    }
    for at in list.iter().filter(|at| at.value.address.is_unspecified()) {
        p.push(
            Problem::error(at.span.clone(), "the unspecified address cannot be forwarded")
                .help("write the address that clients send to"),
        );
    }
    list
}

fn protocols(section: &mut Section<'_>, p: &mut Problems) -> Vec<Protocol> {
    let Some(list) = section.list(p, "protocols") else { return vec![Protocol::Tcp] };
    let mut found = Vec::new();
    for value in list {
        let Some(at) = string(p, value, "protocols") else { continue };
        let protocol = match at.value {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => {
                p.push(Problem::error(at.span, format!("{other:?} is no protocol")).help("write \"tcp\" or \"udp\""));
                continue;
            }
        };
        if found.contains(&protocol) {
            p.push(Problem::error(at.span, format!("{protocol} stands here twice")).help("name it once"));
        } else {
            found.push(protocol);
        }
    }
    if list.is_empty() {
        p.push(
            Problem::error(section.span_of("protocols"), "at least one protocol is needed")
                .help("write [\"tcp\"], [\"udp\"] or both, or leave it out for TCP"),
        );
    }
    found.sort();
    found
}

fn table_size(section: &mut Section<'_>, p: &mut Problems) -> u32 {
    let Some(slots) = section.integer(p, "table_size", RING_SLOTS) else { return TABLE_SIZE };
    match prime_from(slots) {
        prime if prime == slots => slots,
        prime => {
            let wrong = Wrong::new(
                format!("{slots} is no prime"),
                format!("write {prime}: a ring of that many slots is shared out evenly"),
            );
            p.push(wrong.at(section.span_of("table_size")));
            TABLE_SIZE
        }
    }
}

/// The lowest prime that is not below, within [`RING_SLOTS`], whose end is one.
fn prime_from(from: u32) -> u32 {
    let prime = |n: &u32| *n >= 2 && (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (from..=*RING_SLOTS.end()).find(prime).unwrap_or(*RING_SLOTS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_prime_is_found() {
        for (from, prime) in [(3, 3), (4, 5), (65_536, 65_537), (65_537, 65_537), (1_048_573, 1_048_573)] {
            assert_eq!(prime_from(from), prime);
        }
    }
}
