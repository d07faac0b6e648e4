//! ICMP errors: made here, passed on to a backend, translated for a client.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::Verdict::*;
use lb_tests::packet::*;

use super::services::*;
use super::{Forwarded, case};

const CLIENT_PORT: u16 = 40000;
/// Routers on the client's side and on the backends'.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

pub(super) fn cases() -> Vec<Forwarded> {
    [made(), to_backends(), to_clients()].into_iter().flatten().collect()
}

fn datagram(packet: Packet, from: u16, to: u16, bytes: usize) -> Packet {
    let header = [from.to_be_bytes(), to.to_be_bytes(), (8 + bytes as u16).to_be_bytes(), [0, 0]];
    packet.upper(UDP, &header.concat()).put(&vec![0x33; bytes])
}

fn word<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| frame[at + index])
}

/// What a router would answer to `frame`: back to its sender, with 28 or 48 bytes of it.
fn answer4(frame: &[u8], kind: u8, code: u8, mtu: u16) -> Vec<u8> {
    let frame = lb_tests::checksum::filled(frame.to_vec());
    let [source, destination] = [26, 30].map(|at| Ipv4Addr::from_bits(u32::from_be_bytes(word(&frame, at))));
    let [high, low] = mtu.to_be_bytes();
    let error = [kind, code, 0, 0, 0, 0, high, low];
    let answer = between4(destination, source).upper(ICMP, &error).put(&frame[14..42]).build();
    // Network control (RFC 1812, 4.3.2.5), no identification, may be fragmented.
    let answer = patched(patched(answer, 15, &[0xc0]), 18, &[0, 0, 0, 0]);
    patched(answer, 0, &[&frame[6..12], &frame[..6]].concat())
}

fn answer6(frame: &[u8], kind: u8, mtu: u32) -> Vec<u8> {
    let frame = lb_tests::checksum::filled(frame.to_vec());
    let [source, destination] = [22, 38].map(|at| Ipv6Addr::from(word::<16>(&frame, at)));
    let error = [&[kind, 0, 0, 0][..], &mtu.to_be_bytes()].concat();
    let answer = between6(destination, source).upper(ICMPV6, &error).put(&frame[14..62]).build();
    let answer = patched(answer, 14, &[0x60, 0, 0, 0]);
    patched(answer, 0, &[&frame[6..12], &frame[..6]].concat())
}

fn made() -> Vec<Forwarded> {
    let big4 = |id, bytes: usize| datagram(to4(vip4(id)), CLIENT_PORT, PORT, bytes - 28).build();
    let big6 = |id, bytes: usize| datagram(to6(vip6(id)), CLIENT_PORT, PORT, bytes - 48).build();
    let syn4 = |id, hops| hops4(to4(vip4(id)).tcp(CLIENT_PORT, PORT, &[]).build(), hops);
    let syn6 = |id, hops| hops6(to6(vip6(id)).tcp(CLIENT_PORT, PORT, &[]).build(), hops);
    let back4 =
        |bytes: usize| datagram(between4(backend4(NAT), CLIENT4), BACKEND_PORT, CLIENT_PORT, bytes - 28).build();
    let options = |hops| {
        let packet = Packet::ethernet().ipv4(CLIENT4, vip4(NAT), &[1; 4]);
        hops4(packet.tcp(CLIENT_PORT, PORT, &[]).build(), hops)
    };
    let fragment = || to4(vip4(L2_ALL)).fragment4(false, 9).upper(UDP, &[9; 40]).build();
    let about = from_network4((vip4(NAT), PORT), vip4(NAT));
    let too_big4 = |frame: Vec<u8>, mtu| Some(answer4(&frame, 3, 4, mtu));
    let too_big6 = |frame: Vec<u8>, mtu| Some(answer6(&frame, 2, mtu));
    vec![
        case("too big for the way, nat", big4(NAT, 1501), NAT, TooBig, too_big4(big4(NAT, 1501), 1500)),
        case("too big for the way, nat, IPv6", big6(NAT, 1501), NAT, TooBig, too_big6(big6(NAT, 1501), 1500)),
        case("too big for the way, l2", big4(L2, 1600), L2, TooBig, too_big4(big4(L2, 1600), 1500)),
        case("too big for IPv4 in IPv4", big4(IPIP4, 1481), IPIP4, TooBig, too_big4(big4(IPIP4, 1481), 1480)),
        case("too big for IPv4 in IPv6", big4(IPIP6, 1461), IPIP6, TooBig, too_big4(big4(IPIP6, 1461), 1460)),
        case("too big for IPv6 in IPv6", big6(IPIP6, 1461), IPIP6, TooBig, too_big6(big6(IPIP6, 1461), 1460)),
        case(
            "too big for the configured outer MTU",
            big4(OUTER_MTU, 1361),
            OUTER_MTU,
            TooBig,
            too_big4(big4(OUTER_MTU, 1361), 1360),
        ),
        case(
            "too big for the configured outer MTU, IPv6",
            big6(OUTER_MTU, 1361),
            OUTER_MTU,
            TooBig,
            too_big6(big6(OUTER_MTU, 1361), 1360),
        ),
        case("a reply too big for the way to the client", back4(1501), NAT, TooBig, too_big4(back4(1501), 1500)),
        case("no hop left, IPv4", syn4(NAT, 1), NAT, TtlExpired, Some(answer4(&syn4(NAT, 1), 11, 0, 0))),
        case("no hop left, IPv6", syn6(NAT, 1), NAT, TtlExpired, Some(answer6(&syn6(NAT, 1), 3, 0))),
        case("no hop left, zero of them", syn4(L2, 0), L2, TtlExpired, Some(answer4(&syn4(L2, 0), 11, 0, 0))),
        case("no hop left, ipip", syn6(IPIP6, 1), IPIP6, TtlExpired, Some(answer6(&syn6(IPIP6, 1), 3, 0))),
        case("no hop left, a later fragment", hops4(fragment(), 1), L2_ALL, TtlExpiredSilent, None),
        case("no hop left, an error about a flow", hops4(about, 1), NAT, TtlExpiredSilent, None),
        case("no hop left, IPv4 options", options(1), NAT, TtlExpiredSilent, None),
        case(
            "too big with a device that is not ours",
            big4(NO_DEVICE, 1501),
            NO_DEVICE,
            TooBig,
            too_big4(big4(NO_DEVICE, 1501), 1500),
        ),
    ]
}

/// A router's error, to the service, about a packet that it sent to the client.
fn from_network4(sent_from: (Ipv4Addr, u16), outer_to: Ipv4Addr) -> Vec<u8> {
    let quote = Packet::quote().ipv4(sent_from.0, CLIENT4, &[]).tcp(sent_from.1, CLIENT_PORT, &[]).build();
    between4(ROUTER4, outer_to).icmp(ICMP, 3, 4).put(&quote).build()
}

fn from_network6(sent_from: (Ipv6Addr, u16), outer_to: Ipv6Addr) -> Vec<u8> {
    let quote = Packet::quote().ipv6(sent_from.0, CLIENT6).tcp(sent_from.1, CLIENT_PORT, &[]).build();
    between6(ROUTER6, outer_to).icmp(ICMPV6, 2, 0).put(&quote).build()
}

fn to_backends() -> Vec<Forwarded> {
    let error = |name, frame, service, out| case(name, frame, service, IcmpErrorForward, out);
    let nat4 = from_network4((vip4(NAT), PORT), vip4(NAT));
    let nat4_out = from_network4((backend4(NAT), BACKEND_PORT), backend4(NAT));
    let nat6 = from_network6((vip6(NAT), PORT), vip6(NAT));
    let nat6_out = from_network6((backend6(NAT), BACKEND_PORT), backend6(NAT));
    let all = from_network4((vip4(NAT_ALL), 9), vip4(NAT_ALL));
    let all_out = from_network4((backend4(NAT_ALL), 9), backend4(NAT_ALL));
    let l2 = from_network4((vip4(L2), PORT), vip4(L2));
    let udp = |from: Ipv4Addr, port, to: Ipv4Addr| {
        let quote = datagram(Packet::quote().ipv4(from, CLIENT4, &[]), port, CLIENT_PORT, 4).build();
        between4(ROUTER4, to).icmp(ICMP, 3, 3).put(&quote).build()
    };
    let short = |from: Ipv4Addr, port: u16, to: Ipv4Addr| {
        // Eight bytes of TCP (RFC 792): no checksum among them. The quoted length is the whole packet's.
        let quote = Packet::quote().ipv4(from, CLIENT4, &[]).tcp(port, CLIENT_PORT, &[]).build();
        between4(ROUTER4, to).icmp(ICMP, 11, 0).put(&quote[..28]).build()
    };
    vec![
        error("an error for a nat backend, IPv4", nat4, NAT, Some(addressed(hops4(nat4_out, 63)))),
        error("an error for a nat backend, IPv6", nat6, NAT, Some(addressed(hops6(nat6_out, 63)))),
        error("an error for a nat backend of every port", all, NAT_ALL, Some(addressed(hops4(all_out, 63)))),
        error(
            "an error about UDP for a nat backend",
            udp(vip4(NAT), PORT, vip4(NAT)),
            NAT,
            Some(addressed(hops4(udp(backend4(NAT), BACKEND_PORT, backend4(NAT)), 63))),
        ),
        error(
            "an error that quotes eight bytes, for a nat backend",
            short(vip4(NAT), PORT, vip4(NAT)),
            NAT,
            Some(addressed(hops4(short(backend4(NAT), BACKEND_PORT, backend4(NAT)), 63))),
        ),
        error("an error for an l2 backend", l2.clone(), L2, Some(addressed(hops4(l2, 63)))),
        case(
            "an error about a port of no service, forwarded address",
            from_network4((vip4(NAT), 81), vip4(NAT)),
            0,
            IcmpErrorOther,
            None,
        ),
        case("an error without a backend", from_network4((vip4(EMPTY), PORT), vip4(EMPTY)), EMPTY, NoBackend, None),
    ]
}

fn to_clients() -> Vec<Forwarded> {
    let error = |name, frame, out| case(name, frame, NAT, IcmpErrorReply, out);
    // About a packet of the client to the backend, as the backend's side saw it.
    let v4 = |from: Ipv4Addr, about: (Ipv4Addr, u16)| {
        let quote = datagram(Packet::quote().ipv4(CLIENT4, about.0, &[]), CLIENT_PORT, about.1, 4).build();
        between4(from, CLIENT4).icmp(ICMP, 3, 3).put(&quote).build()
    };
    let v6 = |from: Ipv6Addr, about: (Ipv6Addr, u16)| {
        let quote = Packet::quote().ipv6(CLIENT6, about.0).tcp(CLIENT_PORT, about.1, &[]).build();
        between6(from, CLIENT6).icmp(ICMPV6, 1, 4).put(&quote).build()
    };
    let on4 = |frame| Some(addressed(hops4(frame, 63)));
    let on6 = |frame| Some(addressed(hops6(frame, 63)));
    let other = {
        let quote = datagram(Packet::quote().ipv4(ROUTER4, backend4(NAT), &[]), CLIENT_PORT, BACKEND_PORT, 4).build();
        between4(backend4(NAT), CLIENT4).icmp(ICMP, 3, 3).put(&quote).build()
    };
    vec![
        error(
            "a backend's error to the client, IPv4",
            v4(backend4(NAT), (backend4(NAT), BACKEND_PORT)),
            on4(v4(vip4(NAT), (vip4(NAT), PORT))),
        ),
        error(
            "a backend's error to the client, IPv6",
            v6(backend6(NAT), (backend6(NAT), BACKEND_PORT)),
            on6(v6(vip6(NAT), (vip6(NAT), PORT))),
        ),
        error(
            "a router's error to the client, IPv4",
            v4(ROUTER4, (backend4(NAT), BACKEND_PORT)),
            on4(v4(ROUTER4, (vip4(NAT), PORT))),
        ),
        error(
            "a router's error to the client, IPv6",
            v6(ROUTER6, (backend6(NAT), BACKEND_PORT)),
            on6(v6(ROUTER6, (vip6(NAT), PORT))),
        ),
        case("a backend's error about another port", v4(backend4(NAT), (backend4(NAT), 22)), 0, NotVip, None),
        case("a backend's error about somebody else's packet", other, 0, NotVip, None),
        case("a backend's echo", between4(backend4(NAT), CLIENT4).icmp(ICMP, 8, 0).build(), 0, NotVip, None),
    ]
}
