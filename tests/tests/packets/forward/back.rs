//! Replies of `nat` backends, and fragments both ways.

use lb_common::Verdict::*;
use lb_tests::packet::*;

use super::cases::*;
use super::services::*;
use super::{Forwarded, case};

pub(super) fn cases() -> Vec<Forwarded> {
    [replies(), fragments()].into_iter().flatten().collect()
}

fn replies() -> Vec<Forwarded> {
    let (c, p, b) = (CLIENT_PORT, PORT, BACKEND_PORT);
    let back4 = |id| between4(backend4(id), CLIENT4);
    let back6 = |id| between6(backend6(id), CLIENT6);
    let as4 = |id| between4(vip4(id), CLIENT4);
    let as6 = |id| between6(vip6(id), CLIENT6);
    let reply = |name, frame, out| case(name, frame, NAT, ReplyNat, out);
    vec![
        reply("nat reply: TCP, IPv4", tcp(back4(NAT), b, c), on4(tcp(as4(NAT), p, c))),
        reply("nat reply: TCP, IPv6", tcp(back6(NAT), b, c), on6(tcp(as6(NAT), p, c))),
        reply("nat reply: UDP, IPv4", udp(back4(NAT), b, c, b"answer"), on4(udp(as4(NAT), p, c, b"answer"))),
        reply("nat reply: UDP, IPv6", udp(back6(NAT), b, c, b"answer"), on6(udp(as6(NAT), p, c, b"answer"))),
        case("nat reply: every port", tcp(back4(NAT_ALL), 9, c), NAT_ALL, ReplyNat, on4(tcp(as4(NAT_ALL), 9, c))),
        case(
            "nat reply: a range, IPv6",
            tcp(back6(NAT_RANGE), 1005, c),
            NAT_RANGE,
            ReplyNat,
            on6(tcp(as6(NAT_RANGE), 1005, c)),
        ),
        case("nat reply: not of the range", tcp(back4(NAT_RANGE), 1011, c), 0, NotVip, None),
        case("nat reply: another port of the backend", tcp(back4(NAT), 22, c), 0, NotVip, None),
        case("nat reply: not a backend", tcp(between4(backend4(99), CLIENT4), b, c), 0, NotVip, None),
        case(
            "nat reply: to no known client",
            tcp(between4(backend4(NAT), CLIENT4.to_bits().wrapping_add(1).into()), b, c),
            NAT,
            NoRoute,
            None,
        ),
        case("nat reply: SCTP of a backend", back4(NAT_ALL).upper(132, &[0; 12]).build(), 0, NotVip, None),
        case(
            "nat reply: cut within TCP",
            back4(NAT).upper(TCP, &[0x1f, 0x90, 0x9c, 0x40, 0, 0]).build(),
            NAT,
            TruncatedL4,
            None,
        ),
        case("nat reply: cut within the ports", back4(NAT).upper(TCP, &[0x1f]).build(), 0, NotVip, None),
        case("an ipip backend's own packet", tcp(back4(IPIP4), b, c), 0, NotVip, None),
    ]
}

fn fragments() -> Vec<Forwarded> {
    let (c, p) = (CLIENT_PORT, PORT);
    let first = |packet: Packet, to| packet.fragment4(true, 0).upper(UDP, &head(c, to)).put(&[7; 64]).build();
    let later = |packet: Packet| packet.fragment4(false, 9).upper(UDP, &[9; 40]).build();
    let first6 = |packet: Packet, to| packet.fragment6(true, 0).upper(UDP, &head(c, to)).put(&[7; 64]).build();
    let later6 = |packet: Packet| packet.fragment6(false, 9).upper(UDP, &[9; 40]).build();
    let whole_in = |frame: Vec<u8>| {
        // Fragments have no ports, so that the flow's hash is of addresses.
        let word = entropy6(IPIP_ALL, (0, 0), UDP);
        Some(in_ipv6(&hops6(frame, 63), backend6(IPIP_ALL), word, IPV6_IN, 0))
    };
    let refused = |name, frame, service, verdict| case(name, frame, service, verdict, None);
    let sent = |name, frame, service, out| case(name, frame, service, ForwardFragment, out);
    vec![
        refused("a first fragment of a service of one port", first(to4(vip4(NAT)), p), 0, FragmentForward),
        refused("a later fragment of a service of one port", later(to4(vip4(NAT))), 0, FragmentForward),
        refused("a first fragment of a service of one port, IPv6", first6(to6(vip6(NAT)), p), 0, FragmentForward),
        refused("a later fragment of a service of one port, IPv6", later6(to6(vip6(NAT))), 0, FragmentForward),
        refused("a fragment where a terminated service is too", later(to4(vip4(MIXED))), 0, Fragment),
        refused(
            "a fragment of SCTP to every port",
            to4(vip4(NAT_ALL)).fragment4(true, 0).upper(132, &[0; 40]).build(),
            0,
            FragmentForward,
        ),
        sent("a later fragment by nat", later(to4(vip4(NAT_ALL))), NAT_ALL, on4(later(to4(backend4(NAT_ALL))))),
        sent("a later fragment by nat, IPv6", later6(to6(vip6(NAT_ALL))), NAT_ALL, on6(later6(to6(backend6(NAT_ALL))))),
        sent(
            "a first fragment by ipip",
            first6(to6(vip6(IPIP_ALL)), p),
            IPIP_ALL,
            whole_in(first6(to6(vip6(IPIP_ALL)), p)),
        ),
        sent("a later fragment by ipip", later6(to6(vip6(IPIP_ALL))), IPIP_ALL, whole_in(later6(to6(vip6(IPIP_ALL))))),
        sent("a first fragment by l2", first(to4(vip4(L2_ALL)), p), L2_ALL, on4(first(to4(vip4(L2_ALL)), p))),
        sent("a later fragment by l2", later(to4(vip4(L2_ALL))), L2_ALL, on4(later(to4(vip4(L2_ALL))))),
        case(
            "a reply's later fragment, every port",
            later(between4(backend4(NAT_ALL), CLIENT4)),
            NAT_ALL,
            ReplyNat,
            on4(later(between4(vip4(NAT_ALL), CLIENT4))),
        ),
        refused(
            "a reply's first fragment, one port",
            between4(backend4(NAT), CLIENT4)
                .fragment4(true, 0)
                .upper(UDP, &head(BACKEND_PORT, c))
                .put(&[7; 64])
                .build(),
            NAT,
            FragmentForward,
        ),
        refused("a reply's later fragment, one port", later(between4(backend4(NAT), CLIENT4)), 0, NotVip),
    ]
}

/// A UDP header without a checksum, of a datagram that is longer than its first fragment.
fn head(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes(), 2000u16.to_be_bytes(), [0, 0]].concat()
}
