//! TCP, UDP, ICMP: ports and services, and errors about flows.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::Verdict::*;
use lb_tests::packet::*;

use crate::setup::*;
use crate::{Case, Ends};

/// Offsets in untagged frames without options.
const TCP4: usize = 34;
const TCP6: usize = 54;
const ICMP4: usize = 34;
const QUOTE4: usize = ICMP4 + 8;
const QUOTE6: usize = 54 + 8;
/// A router on the way.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

pub(crate) fn cases() -> Vec<Case> {
    [services(), malformed(), messages(), errors4(), errors6()].into_iter().flatten().collect()
}

fn case(name: &'static str, frame: Vec<u8>, ends: Ends) -> Case {
    Case { name, frame, ends }
}

fn to4(address: Ipv4Addr) -> Packet {
    Packet::ethernet().ipv4(CLIENT4, address, &[])
}

fn to6(address: Ipv6Addr) -> Packet {
    Packet::ethernet().ipv6(CLIENT6, address)
}

fn services() -> Vec<Case> {
    let tcp4 = |address, port| to4(address).tcp(40000, port, &[]).build();
    let tcp6 = |address, port| to6(address).tcp(40000, port, &[]).build();
    vec![
        case("TCP with options, IPv4", to4(VIP4).tcp(1, HTTPS, &[1; 40]).build(), Ends::Flow(1)),
        case("TCP with data, IPv6", to6(VIP6).tcp(1, HTTPS, &[]).put(&[7; 900]).build(), Ends::Flow(1)),
        case("a port of no service, IPv4", tcp4(VIP4, 80), Ends::As(NoService)),
        case("a port of no service, IPv6", tcp6(VIP6, 80), Ends::As(NoService)),
        case("port 0 is not the entry of all ports", tcp4(VIP4, 0), Ends::As(NoService)),
        case("every port, IPv4", tcp4(ALL4, 31337), Ends::Flow(2)),
        case("every port, IPv6", tcp6(ALL6, 1), Ends::Flow(2)),
        case("every port is also port 0", tcp4(ALL4, 0), Ends::Flow(2)),
        case("an exact port before every port, IPv4", tcp4(ALL4, EXACT), Ends::Flow(3)),
        case("an exact port before every port, IPv6", tcp6(ALL6, EXACT), Ends::Flow(3)),
        case("the IPv4-mapped form on the wire is IPv6", tcp6(VIP4.to_ipv6_mapped(), HTTPS), Ends::Flow(1)),
        case("UDP to a service's port, IPv4", to4(VIP4).udp(40000, HTTPS).build(), Ends::As(NoService)),
        case("UDP to a service's port, IPv6", to6(VIP6).udp(40000, HTTPS).build(), Ends::As(NoService)),
        case("UDP to an address of every port", to4(ALL4).udp(40000, 53).build(), Ends::As(NoService)),
        case("UDP to no service's address", to4(PLAIN4).udp(40000, 53).build(), Ends::As(NotVip)),
        case("SCTP to a service's address", to4(VIP4).upper(132, &[0; 12]).build(), Ends::As(NoService)),
        case("ICMPv6 over IPv4", to4(VIP4).icmp(ICMPV6, 128, 0).build(), Ends::As(NoService)),
        case("ICMP over IPv6", to6(VIP6).icmp(ICMP, 8, 0).build(), Ends::As(NoService)),
    ]
}

fn malformed() -> Vec<Case> {
    let tcp4 = || to4(VIP4).tcp(40000, HTTPS, &[]).build();
    let tcp6 = || to6(VIP6).tcp(40000, HTTPS, &[]).build();
    let plain = || to4(PLAIN4).tcp(40000, HTTPS, &[]).build();
    vec![
        case("TCP data offset 4 words, IPv4", patched(tcp4(), TCP4 + 12, &[0x40]), Ends::As(BadTcp)),
        case("TCP data offset 0, IPv6", patched(tcp6(), TCP6 + 12, &[0]), Ends::As(BadTcp)),
        case("TCP data offset beyond the packet, IPv4", patched(tcp4(), TCP4 + 12, &[0x60]), Ends::As(BadTcp)),
        case("TCP data offset beyond the packet, IPv6", patched(tcp6(), TCP6 + 12, &[0xf0]), Ends::As(BadTcp)),
        case("TCP data offset 0, not to a service", patched(plain(), TCP4 + 12, &[0]), Ends::As(NotVip)),
        case("no byte of TCP, IPv4", to4(VIP4).upper(TCP, &[]).build(), Ends::As(TruncatedL4)),
        case("no byte of TCP, IPv6", to6(VIP6).upper(TCP, &[]).build(), Ends::As(TruncatedL4)),
        case("19 bytes of TCP, IPv4", to4(VIP4).upper(TCP, &[0; 19]).build(), Ends::As(TruncatedL4)),
        case(
            "19 bytes of TCP and padding, IPv4",
            to4(VIP4).upper(TCP, &[0; 19]).build_padded(60),
            Ends::As(TruncatedL4),
        ),
        case("19 bytes of TCP, IPv6", to6(VIP6).upper(TCP, &[0; 19]).build(), Ends::As(TruncatedL4)),
        case("7 bytes of UDP, IPv4", to4(VIP4).upper(UDP, &[0; 7]).build(), Ends::As(TruncatedL4)),
        case("7 bytes of UDP, IPv6", to6(VIP6).upper(UDP, &[0; 7]).build(), Ends::As(TruncatedL4)),
        case("7 bytes of ICMP", to4(VIP4).upper(ICMP, &[8; 7]).build_padded(60), Ends::As(TruncatedL4)),
        case("7 bytes of ICMPv6", to6(VIP6).upper(ICMPV6, &[128; 7]).build_padded(72), Ends::As(TruncatedL4)),
        case("2 bytes of TCP, not to a service", to4(PLAIN4).upper(TCP, &[0; 2]).build(), Ends::As(NotVip)),
    ]
}

fn messages() -> Vec<Case> {
    let icmp4 = |kind, code| to4(VIP4).icmp(ICMP, kind, code).put(&[0; 56]).build();
    let icmp6 = |kind, code| to6(VIP6).icmp(ICMPV6, kind, code).put(&[0; 56]).build();
    vec![
        case("echo request, IPv4", icmp4(8, 0), Ends::As(Icmp)),
        case("echo reply, IPv4", icmp4(0, 0), Ends::As(Icmp)),
        case("redirect, IPv4", icmp4(5, 1), Ends::As(Icmp)),
        case("timestamp, IPv4", icmp4(13, 0), Ends::As(Icmp)),
        case("echo request, IPv6", icmp6(128, 0), Ends::As(Icmp)),
        case("neighbour solicitation", icmp6(135, 0), Ends::As(Icmp)),
        case("redirect, IPv6", icmp6(137, 0), Ends::As(Icmp)),
        case("echo request to no service", to4(PLAIN4).icmp(ICMP, 8, 0).build(), Ends::As(NotVip)),
        case("echo request to an address of every port", to4(ALL4).icmp(ICMP, 8, 0).build(), Ends::As(Icmp)),
    ]
}

/// An error of a router about what `quote` says.
fn error4(to: Ipv4Addr, kind: u8, code: u8, quote: Packet) -> Vec<u8> {
    Packet::ethernet().ipv4(ROUTER4, to, &[]).icmp(ICMP, kind, code).put(&quote.build()).build()
}

fn error6(to: Ipv6Addr, kind: u8, quote: Packet) -> Vec<u8> {
    Packet::ethernet().ipv6(ROUTER6, to).icmp(ICMPV6, kind, 0).put(&quote.build()).build()
}

fn errors4() -> Vec<Case> {
    let sent = |from, port| Packet::quote().ipv4(from, CLIENT4, &[]).tcp(port, 40000, &[]);
    let ours = || error4(VIP4, 3, 4, sent(VIP4, HTTPS));
    let options = Packet::quote().ipv4(VIP4, CLIENT4, &[1; 12]).tcp(HTTPS, 40000, &[]);
    let udp = Packet::quote().ipv4(VIP4, CLIENT4, &[]).udp(HTTPS, 40000);
    let later = sent(VIP4, HTTPS).fragment4(false, 100);
    let other = Ends::As(IcmpErrorOther);
    vec![
        case("fragmentation needed, IPv4", ours(), Ends::ErrorAbout(1)),
        case("port unreachable, IPv4", error4(VIP4, 3, 3, sent(VIP4, HTTPS)), Ends::ErrorAbout(1)),
        case("time exceeded, IPv4", error4(VIP4, 11, 0, sent(VIP4, HTTPS)), Ends::ErrorAbout(1)),
        case("parameter problem, IPv4", error4(VIP4, 12, 0, sent(VIP4, HTTPS)), Ends::ErrorAbout(1)),
        case("error about every port, IPv4", error4(ALL4, 3, 4, sent(ALL4, 5)), Ends::ErrorAbout(2)),
        case("error about an exact port, IPv4", error4(ALL4, 3, 4, sent(ALL4, EXACT)), Ends::ErrorAbout(3)),
        case("error that quotes options, IPv4", error4(VIP4, 3, 4, options), Ends::ErrorAbout(1)),
        case("error that quotes only the ports, IPv4", quoting(ours(), 24), Ends::ErrorAbout(1)),
        case("error cut within the quoted ports, IPv4", quoting(ours(), 23), other),
        case("error cut behind the quoted header, IPv4", quoting(ours(), 20), other),
        case("error cut within the quoted header, IPv4", quoting(ours(), 19), other),
        case("error that quotes nothing, IPv4", quoting(ours(), 0), other),
        case("error about a port of no service, IPv4", error4(VIP4, 3, 4, sent(VIP4, 80)), other),
        case("error about another source, IPv4", error4(VIP4, 3, 4, sent(PLAIN4, HTTPS)), other),
        case("error about UDP, IPv4", error4(VIP4, 3, 3, udp), other),
        case("error about a later fragment, IPv4", error4(VIP4, 11, 1, later), other),
        case("error that quotes version 6, IPv4", patched(ours(), QUOTE4, &[0x65]), other),
        case("error that quotes a bad header length, IPv4", patched(ours(), QUOTE4, &[0x43]), other),
        case("error to no service's address, IPv4", error4(PLAIN4, 3, 4, sent(PLAIN4, HTTPS)), Ends::As(NotVip)),
    ]
}

fn errors6() -> Vec<Case> {
    let sent = |from, port| Packet::quote().ipv6(from, CLIENT6).tcp(port, 40000, &[]);
    let ours = || error6(VIP6, 2, sent(VIP6, HTTPS));
    let behind = Packet::quote().ipv6(VIP6, CLIENT6).extension(DESTINATION, 1).tcp(HTTPS, 40000, &[]);
    let piece = Packet::quote().ipv6(VIP6, CLIENT6).fragment6(true, 8).tcp(HTTPS, 40000, &[]);
    let udp = Packet::quote().ipv6(VIP6, CLIENT6).udp(HTTPS, 40000);
    let other = Ends::As(IcmpErrorOther);
    vec![
        case("packet too big, IPv6", ours(), Ends::ErrorAbout(1)),
        case("destination unreachable, IPv6", error6(VIP6, 1, sent(VIP6, HTTPS)), Ends::ErrorAbout(1)),
        case("time exceeded, IPv6", error6(VIP6, 3, sent(VIP6, HTTPS)), Ends::ErrorAbout(1)),
        case("parameter problem, IPv6", error6(VIP6, 4, sent(VIP6, HTTPS)), Ends::ErrorAbout(1)),
        case("error about every port, IPv6", error6(ALL6, 2, sent(ALL6, 9)), Ends::ErrorAbout(2)),
        case("error about an exact port, IPv6", error6(ALL6, 2, sent(ALL6, EXACT)), Ends::ErrorAbout(3)),
        case("error that quotes an extension header", error6(VIP6, 2, behind), Ends::ErrorAbout(1)),
        case("error cut within the quoted ports, IPv6", quoting6(ours(), 43), other),
        case("error cut within the quoted header, IPv6", quoting6(ours(), 39), other),
        case("error that quotes nothing, IPv6", quoting6(ours(), 0), other),
        case("error about a port of no service, IPv6", error6(VIP6, 2, sent(VIP6, 80)), other),
        case("error about another source, IPv6", error6(VIP6, 2, sent(PLAIN6, HTTPS)), other),
        case("error about a fragment, IPv6", error6(VIP6, 2, piece), other),
        case("error about UDP, IPv6", error6(VIP6, 1, udp), other),
        case("error that quotes version 4, IPv6", patched(ours(), QUOTE6, &[0x45]), other),
        case("error to no service's address, IPv6", error6(PLAIN6, 2, sent(PLAIN6, HTTPS)), Ends::As(NotVip)),
    ]
}

/// The error quotes only `len` bytes; the outer datagram says so.
fn quoting(frame: Vec<u8>, len: usize) -> Vec<u8> {
    let total = (QUOTE4 - 14 + len) as u16;
    cut(resummed(patched(frame, 16, &total.to_be_bytes())), QUOTE4 + len)
}

fn quoting6(frame: Vec<u8>, len: usize) -> Vec<u8> {
    let payload = (8 + len) as u16;
    cut(patched(frame, 18, &payload.to_be_bytes()), QUOTE6 + len)
}
