//! Each mode there and, for `nat`, back; fragments; what cannot be forwarded.

use lb_common::Verdict::{self, *};
use lb_common::abi::HASH_FLOW;
use lb_common::flow;
use lb_tests::packet::*;

use super::services::*;
use super::{Forwarded, case};

pub(super) const CLIENT_PORT: u16 = 40000;
const IPV4_IN: u8 = 4;
pub(super) const IPV6_IN: u8 = 41;
/// Offsets in untagged frames without options.
const TCP4: usize = 34;
const TCP6: usize = 54;

pub(super) fn cases() -> Vec<Forwarded> {
    [nat(), ipip(), l2(), refused()].into_iter().flatten().collect()
}

/// An ACK with data, so that nothing begins.
pub(super) fn tcp(packet: Packet, from: u16, to: u16) -> Vec<u8> {
    let frame = packet.tcp(from, to, &[]).put(b"hello").build();
    let flags = if frame[12] == 0x08 { TCP4 + 13 } else { TCP6 + 13 };
    patched(frame, flags, &[0x10])
}

fn syn(packet: Packet, from: u16, to: u16) -> Vec<u8> {
    packet.tcp(from, to, &[2, 4, 5, 0xb4]).build()
}

pub(super) fn udp(packet: Packet, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let header = [from.to_be_bytes(), to.to_be_bytes(), (8 + data.len() as u16).to_be_bytes(), [0, 0]];
    packet.upper(UDP, &header.concat()).put(data).build()
}

/// What left as it came, but for MAC addresses and a hop.
pub(super) fn on4(frame: Vec<u8>) -> Option<Vec<u8>> {
    Some(addressed(hops4(frame, 63)))
}

pub(super) fn on6(frame: Vec<u8>) -> Option<Vec<u8>> {
    Some(addressed(hops6(frame, 63)))
}

fn nat() -> Vec<Forwarded> {
    let (vip, vip_6, back, back_6) = (vip4(NAT), vip6(NAT), backend4(NAT), backend6(NAT));
    let (all, all_6, all_back, all_back_6) = (vip4(NAT_ALL), vip6(NAT_ALL), backend4(NAT_ALL), backend6(NAT_ALL));
    let (c, p, b) = (CLIENT_PORT, PORT, BACKEND_PORT);
    let nat = |name, frame, out| case(name, frame, NAT, ForwardNat, out);
    let options = || Packet::ethernet().ipv4(CLIENT4, vip, &[1; 8]);
    let options_out = || Packet::ethernet().ipv4(CLIENT4, back, &[1; 8]);
    let extended = |to| to6(to).extension(DESTINATION, 1);
    vec![
        nat("nat: a SYN, IPv4", syn(to4(vip), c, p), on4(syn(to4(back), c, b))),
        nat("nat: a SYN, IPv6", syn(to6(vip_6), c, p), on6(syn(to6(back_6), c, b))),
        nat("nat: data, IPv4", tcp(to4(vip), c, p), on4(tcp(to4(back), c, b))),
        nat("nat: data, IPv6", tcp(to6(vip_6), c, p), on6(tcp(to6(back_6), c, b))),
        nat("nat: UDP, IPv4", udp(to4(vip), c, p, b"query"), on4(udp(to4(back), c, b, b"query"))),
        nat("nat: UDP, IPv6", udp(to6(vip_6), c, p, b"query"), on6(udp(to6(back_6), c, b, b"query"))),
        nat("nat: UDP without data", udp(to4(vip), c, p, b""), on4(udp(to4(back), c, b, b""))),
        nat("nat: IPv4 options", syn_of(options(), c, p), on4(syn_of(options_out(), c, b))),
        nat("nat: an extension header", tcp_of(extended(vip_6), c, p), on6(tcp_of(extended(back_6), c, b))),
        nat("nat: padding stays", pad(syn(to4(vip), c, p)), on4(pad(syn(to4(back), c, b)))),
        nat("nat: two hops left", hops4(tcp(to4(vip), c, p), 2), Some(addressed(hops4(tcp(to4(back), c, b), 1)))),
        nat(
            "nat: 255 hops left",
            hops6(tcp(to6(vip_6), c, p), 255),
            Some(addressed(hops6(tcp(to6(back_6), c, b), 254))),
        ),
        nat("nat: a full-size packet", big4(vip, p, 1500), on4(big4(back, b, 1500))),
        case(
            "nat: every port keeps its port, IPv4",
            tcp(to4(all), c, 9),
            NAT_ALL,
            ForwardNat,
            on4(tcp(to4(all_back), c, 9)),
        ),
        case(
            "nat: every port keeps its port, IPv6",
            tcp(to6(all_6), c, 9),
            NAT_ALL,
            ForwardNat,
            on6(tcp(to6(all_back_6), c, 9)),
        ),
        case(
            "nat: every port, UDP",
            udp(to4(all), c, 53, b"x"),
            NAT_ALL,
            ForwardNat,
            on4(udp(to4(all_back), c, 53, b"x")),
        ),
        case(
            "nat: the first of a range",
            tcp(to4(vip4(NAT_RANGE)), c, 1000),
            NAT_RANGE,
            ForwardNat,
            on4(tcp(to4(backend4(NAT_RANGE)), c, 1000)),
        ),
        case(
            "nat: the last of a range",
            tcp(to4(vip4(NAT_RANGE)), c, 1010),
            NAT_RANGE,
            ForwardNat,
            on4(tcp(to4(backend4(NAT_RANGE)), c, 1010)),
        ),
        case("nat: before a range", tcp(to4(vip4(NAT_RANGE)), c, 999), 0, NoService, None),
        case("nat: behind a range", tcp(to4(vip4(NAT_RANGE)), c, 1011), 0, NoService, None),
    ]
}

/// TCP behind IPv4 options or an extension header, where flags stand elsewhere.
fn syn_of(packet: Packet, from: u16, to: u16) -> Vec<u8> {
    packet.tcp(from, to, &[]).build()
}

fn tcp_of(packet: Packet, from: u16, to: u16) -> Vec<u8> {
    packet.tcp(from, to, &[]).put(b"data").build()
}

fn pad(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend([0; 9]);
    frame
}

/// A datagram of so many bytes.
fn big4(to: std::net::Ipv4Addr, port: u16, bytes: usize) -> Vec<u8> {
    udp(to4(to), CLIENT_PORT, port, &vec![0x33; bytes - 28])
}

fn big6(to: std::net::Ipv6Addr, port: u16, bytes: usize) -> Vec<u8> {
    udp(to6(to), CLIENT_PORT, port, &vec![0x33; bytes - 48])
}

/// The flow's hash, which the outer source carries.
fn entropy4(id: u32, protocol: u8) -> [u8; 4] {
    let (source, destination) = (CLIENT4.to_bits(), vip4(id).to_bits());
    flow::forward_v4(0, HASH_FLOW, source, destination, (CLIENT_PORT, PORT), protocol).to_be_bytes()
}

pub(super) fn entropy6(id: u32, ports: (u16, u16), protocol: u8) -> [u8; 4] {
    let words = |bits: u128| [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32];
    let (source, destination) = (words(CLIENT6.to_bits()), words(vip6(id).to_bits()));
    // The last word of an address is as it stands in memory.
    flow::forward_v6(0, HASH_FLOW, source, destination, ports, protocol).to_ne_bytes()
}

fn ipip() -> Vec<Forwarded> {
    let (c, p) = (CLIENT_PORT, PORT);
    let low = |word: [u8; 4]| [word[2], word[3]];
    let back = |word: [u8; 4]| {
        let [a, b, c, d] = word;
        [d, c, b, a]
    };
    let v4 = |frame: Vec<u8>, protocol, tos| {
        Some(in_ipv4(&hops4(frame, 63), backend4(IPIP4), low(entropy4(IPIP4, protocol)), tos))
    };
    let v4_in_v6 = |frame: Vec<u8>, protocol, class| {
        let word = back(entropy4(IPIP6, protocol));
        Some(in_ipv6(&hops4(frame, 63), backend6(IPIP6), word, IPV4_IN, class))
    };
    let v6 = |frame: Vec<u8>, protocol, class| {
        let word = entropy6(IPIP6, (c, p), protocol);
        Some(in_ipv6(&hops6(frame, 63), backend6(IPIP6), word, IPV6_IN, class))
    };
    let tos = |frame: Vec<u8>| patched(frame, 15, &[0xb9]);
    let class = |frame: Vec<u8>| patched(frame, 14, &[0x6b, 0x91]);
    let unpadded = syn(to4(vip4(IPIP4)), c, p);
    vec![
        case(
            "ipip: TCP in IPv4",
            tcp(to4(vip4(IPIP4)), c, p),
            IPIP4,
            ForwardIpip,
            v4(tcp(to4(vip4(IPIP4)), c, p), TCP, 0),
        ),
        case(
            "ipip: UDP in IPv4",
            udp(to4(vip4(IPIP4)), c, p, b"q"),
            IPIP4,
            ForwardIpip,
            v4(udp(to4(vip4(IPIP4)), c, p, b"q"), UDP, 0),
        ),
        case("ipip: a SYN in IPv4", unpadded.clone(), IPIP4, ForwardIpip, v4(unpadded, TCP, 0)),
        case(
            "ipip: the class of service goes outside",
            tos(tcp(to4(vip4(IPIP4)), c, p)),
            IPIP4,
            ForwardIpip,
            v4(tos(tcp(to4(vip4(IPIP4)), c, p)), TCP, 0xb9),
        ),
        case(
            "ipip: IPv4 in IPv6",
            tcp(to4(vip4(IPIP6)), c, p),
            IPIP6,
            ForwardIpip,
            v4_in_v6(tcp(to4(vip4(IPIP6)), c, p), TCP, 0),
        ),
        case(
            "ipip: IPv4 in IPv6, class",
            tos(tcp(to4(vip4(IPIP6)), c, p)),
            IPIP6,
            ForwardIpip,
            v4_in_v6(tos(tcp(to4(vip4(IPIP6)), c, p)), TCP, 0xb9),
        ),
        case(
            "ipip: TCP of IPv6 in IPv6",
            tcp(to6(vip6(IPIP6)), c, p),
            IPIP6,
            ForwardIpip,
            v6(tcp(to6(vip6(IPIP6)), c, p), TCP, 0),
        ),
        case(
            "ipip: UDP of IPv6 in IPv6",
            udp(to6(vip6(IPIP6)), c, p, b"q"),
            IPIP6,
            ForwardIpip,
            v6(udp(to6(vip6(IPIP6)), c, p, b"q"), UDP, 0),
        ),
        case(
            "ipip: class of IPv6 in IPv6",
            class(tcp(to6(vip6(IPIP6)), c, p)),
            IPIP6,
            ForwardIpip,
            v6(class(tcp(to6(vip6(IPIP6)), c, p)), TCP, 0xb9),
        ),
        case("ipip: IPv6 and only IPv4 backends", tcp(to6(vip6(IPIP4)), c, p), IPIP4, NoBackend, None),
        case(
            "ipip: the largest that fits, IPv4",
            big4(vip4(IPIP4), p, 1480),
            IPIP4,
            ForwardIpip,
            v4(big4(vip4(IPIP4), p, 1480), UDP, 0),
        ),
        case(
            "ipip: the largest that fits, IPv6",
            big6(vip6(IPIP6), p, 1460),
            IPIP6,
            ForwardIpip,
            v6(big6(vip6(IPIP6), p, 1460), UDP, 0),
        ),
    ]
}

fn l2() -> Vec<Forwarded> {
    let (c, p) = (CLIENT_PORT, PORT);
    let l2 = |name, frame: Vec<u8>, out| case(name, frame, L2, ForwardL2, out);
    let (v4, v6) = (|| tcp(to4(vip4(L2)), c, p), || tcp(to6(vip6(L2)), c, p));
    let dgram = || udp(to4(vip4(L2)), c, p, b"q");
    vec![
        l2("l2: TCP, IPv4", v4(), on4(v4())),
        l2("l2: TCP, IPv6, by an IPv4 neighbour", v6(), on6(v6())),
        l2("l2: UDP", dgram(), on4(dgram())),
        l2("l2: a full-size packet", big4(vip4(L2), p, 1500), on4(big4(vip4(L2), p, 1500))),
        l2("l2: UDP of IPv6", udp(to6(vip6(L2)), c, p, b"q"), on6(udp(to6(vip6(L2)), c, p, b"q"))),
        case(
            "l2: beside a terminated service",
            tcp(to4(vip4(MIXED)), c, p),
            MIXED,
            ForwardL2,
            on4(tcp(to4(vip4(MIXED)), c, p)),
        ),
        case("terminated, beside a forwarded service", tcp(to4(vip4(MIXED)), c, 443), TERMINATED, NoWorker, None),
        case("echo request to a forwarded service", to4(vip4(L2)).icmp(ICMP, 8, 0).build(), 0, Icmp, None),
    ]
}

fn refused() -> Vec<Forwarded> {
    let (c, p) = (CLIENT_PORT, PORT);
    let refused = |name, frame, service, verdict: Verdict| case(name, frame, service, verdict, None);
    vec![
        refused("no backend, IPv4", tcp(to4(vip4(EMPTY)), c, p), EMPTY, NoBackend),
        refused("no backend, IPv6", tcp(to6(vip6(EMPTY)), c, p), EMPTY, NoBackend),
        refused("no backend of the other family", udp(to6(vip6(IPIP4)), c, p, b"q"), IPIP4, NoBackend),
        refused("no route to the backend", tcp(to4(vip4(NO_ROUTE)), c, p), NO_ROUTE, NoRoute),
        refused("no device on the way", tcp(to4(vip4(NO_DEVICE)), c, p), NO_DEVICE, NoDevice),
        refused(
            "a VLAN tag before a forwarded packet",
            Packet::ethernet().tag(VLAN, 7).ipv4(CLIENT4, vip4(NAT), &[]).tcp(c, p, &[]).build(),
            NAT,
            TaggedForward,
        ),
        refused(
            "a VLAN tag before a fragment",
            Packet::ethernet()
                .tag(VLAN, 7)
                .ipv4(CLIENT4, vip4(L2_ALL), &[])
                .fragment4(false, 9)
                .upper(UDP, &[0; 40])
                .build(),
            L2_ALL,
            TaggedForward,
        ),
        refused(
            "a VLAN tag before a reply",
            Packet::ethernet().tag(VLAN, 7).ipv4(backend4(NAT), CLIENT4, &[]).tcp(BACKEND_PORT, c, &[]).build(),
            0,
            NotVip,
        ),
        refused("UDP longer than its packet", patched(udp(to4(vip4(NAT)), c, p, b"q"), 38, &[0, 40]), NAT, BadUdp),
        refused("UDP shorter than its header", patched(udp(to6(vip6(NAT)), c, p, b"q"), 58, &[0, 7]), NAT, BadUdp),
    ]
}
