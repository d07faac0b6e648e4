//! IPv4 and its options, IPv6 and its extension headers, fragments, lengths that lie, and every place to be cut at.

use lb_common::Verdict::*;
use lb_tests::packet::*;

use crate::setup::*;
use crate::{Case, Ends};

/// Offset of the IP header in an untagged frame.
const IP: usize = 14;

pub(crate) fn cases() -> Vec<Case> {
    [v4(), v6(), extensions()].into_iter().flatten().collect()
}

fn case(name: &'static str, frame: Vec<u8>, ends: Ends) -> Case {
    Case { name, frame, ends }
}

fn v4() -> Vec<Case> {
    let to = |address| Packet::ethernet().ipv4(CLIENT4, address, &[]);
    let syn = || to(VIP4).tcp(40000, HTTPS, &[]).build();
    let options = |bytes: usize| Packet::ethernet().ipv4(CLIENT4, VIP4, &vec![1; bytes]);
    let data = || to(VIP4).upper(TCP, &[0x5a; 64]);
    vec![
        case("IPv4 to no service's address", to(PLAIN4).tcp(40000, HTTPS, &[]).build(), Ends::As(NotVip)),
        case("IPv4 with 4 bytes of options", options(4).tcp(40000, HTTPS, &[]).build(), Ends::Flow(1)),
        case("IPv4 with 40 bytes of options", options(40).tcp(40000, HTTPS, &[]).build(), Ends::Flow(1)),
        case("IPv4 header length 4 words", patched(syn(), IP, &[0x44]), Ends::As(BadIp)),
        case("IPv4 header length 0", patched(syn(), IP, &[0x40]), Ends::As(BadIp)),
        case("IPv4 header longer than the datagram", patched(syn(), IP, &[0x4f]), Ends::As(BadIp)),
        case("IPv4 named, version 6", patched(syn(), IP, &[0x65]), Ends::As(BadIp)),
        case("IPv4 named, version 0", patched(syn(), IP, &[0x05]), Ends::As(BadIp)),
        case("IPv4 total length 0", patched(syn(), IP + 2, &[0, 0]), Ends::As(BadIp)),
        case("IPv4 total length below the header", patched(syn(), IP + 2, &[0, 19]), Ends::As(BadIp)),
        case("IPv4 total length beyond the frame", patched(syn(), IP + 2, &[0, 41]), Ends::As(TruncatedL3)),
        case("IPv4 total length 65535", patched(syn(), IP + 2, &[0xff, 0xff]), Ends::As(TruncatedL3)),
        case("IPv4 total length ends at the header", resummed(patched(syn(), IP + 2, &[0, 20])), Ends::As(TruncatedL4)),
        case("IPv4 total length ends within TCP", resummed(patched(syn(), IP + 2, &[0, 39])), Ends::As(TruncatedL4)),
        case("IPv4 cut within the header", cut(syn(), IP + 19), Ends::As(TruncatedL3)),
        case("IPv4 cut behind the header", cut(syn(), IP + 20), Ends::As(TruncatedL3)),
        case(
            "IPv4 cut within the options",
            cut(options(40).tcp(1, HTTPS, &[]).build(), IP + 30),
            Ends::As(TruncatedL3),
        ),
        case("IPv4 cut within TCP", cut(syn(), IP + 30), Ends::As(TruncatedL3)),
        case("IPv4 first fragment", data().fragment4(true, 0).build(), Ends::As(Fragment)),
        case("IPv4 middle fragment", data().fragment4(true, 8).build(), Ends::As(Fragment)),
        case("IPv4 last fragment", data().fragment4(false, 16).build(), Ends::As(Fragment)),
        case("IPv4 fragment to no service's address", to(PLAIN4).fragment4(true, 0).build(), Ends::As(NotVip)),
        case("IPv4 fragment of ICMP", to(VIP4).icmp(ICMP, 8, 0).fragment4(true, 0).build(), Ends::As(Fragment)),
    ]
}

fn v6() -> Vec<Case> {
    let to = |address| Packet::ethernet().ipv6(CLIENT6, address);
    let syn = || to(VIP6).tcp(40000, HTTPS, &[]).build();
    vec![
        case("IPv6 to no service's address", to(PLAIN6).tcp(40000, HTTPS, &[]).build(), Ends::As(NotVip)),
        case("IPv6 named, version 4", patched(syn(), IP, &[0x40]), Ends::As(BadIp)),
        case("IPv6 payload length 0 before TCP", patched(syn(), IP + 4, &[0, 0]), Ends::As(TruncatedL4)),
        case("IPv6 jumbogram", patched(to(VIP6).extension(HOP_BY_HOP, 0).build(), IP + 4, &[0, 0]), Ends::As(BadIp)),
        case("IPv6 payload length beyond the frame", patched(syn(), IP + 4, &[0, 21]), Ends::As(TruncatedL3)),
        case("IPv6 payload length ends within TCP", patched(syn(), IP + 4, &[0, 19]), Ends::As(TruncatedL4)),
        case("IPv6 cut within the header", cut(syn(), IP + 39), Ends::As(TruncatedL3)),
        case("IPv6 cut behind the header", cut(syn(), IP + 40), Ends::As(TruncatedL3)),
        case("IPv6 cut within TCP", cut(syn(), IP + 50), Ends::As(TruncatedL3)),
        case("IPv6 no next header", to(VIP6).upper(59, &[]).build(), Ends::As(NoService)),
        case("IPv6 authentication header", to(VIP6).upper(51, &[6, 4, 0, 0, 0, 0, 0, 0]).build(), Ends::As(NoService)),
    ]
}

fn extensions() -> Vec<Case> {
    let to = || Packet::ethernet().ipv6(CLIENT6, VIP6);
    let tcp = |packet: Packet| packet.tcp(40000, HTTPS, &[]).build();
    let all = || to().extension(HOP_BY_HOP, 0).extension(DESTINATION, 1).extension(ROUTING, 2).fragment6(false, 0);
    let many = |count| (0..count).fold(to(), |packet, _| packet.extension(DESTINATION, 0));
    let hops = || tcp(to().extension(HOP_BY_HOP, 1));
    let segments = patched(tcp(to().extension(ROUTING, 2)), IP + 43, &[1]);
    let long = to().extension(DESTINATION, 255);
    vec![
        case("IPv6 hop-by-hop options", hops(), Ends::Flow(1)),
        case("IPv6 destination options", tcp(to().extension(DESTINATION, 3)), Ends::Flow(1)),
        case("IPv6 routing header at its end", tcp(to().extension(ROUTING, 2)), Ends::Flow(1)),
        case("IPv6 routing header with segments left", segments, Ends::As(SegmentsLeft)),
        case("IPv6 atomic fragment", tcp(to().fragment6(false, 0)), Ends::Flow(1)),
        case("IPv6 four kinds of extension headers", tcp(all()), Ends::Flow(1)),
        case("IPv6 2 KiB of destination options", tcp(long.clone()), Ends::Flow(1)),
        case("IPv6 six extension headers", tcp(many(6)), Ends::Flow(1)),
        case("IPv6 seven extension headers", tcp(many(7)), Ends::As(TooManyHeaders)),
        case("IPv6 first fragment", tcp(to().fragment6(true, 0)), Ends::As(Fragment)),
        case("IPv6 middle fragment", to().fragment6(true, 9).upper(TCP, &[0; 64]).build(), Ends::As(Fragment)),
        case("IPv6 last fragment", to().fragment6(false, 9).upper(TCP, &[0; 64]).build(), Ends::As(Fragment)),
        case(
            "IPv6 fragment behind hop-by-hop",
            tcp(to().extension(HOP_BY_HOP, 0).fragment6(true, 0)),
            Ends::As(Fragment),
        ),
        case("IPv6 cut before hop-by-hop looks like a jumbogram", ended(hops(), 0), Ends::As(BadIp)),
        case("IPv6 cut before destination options", ended(tcp(many(1)), 0), Ends::As(TruncatedL3)),
        case("IPv6 cut within hop-by-hop's first bytes", ended(hops(), 7), Ends::As(TruncatedL3)),
        case("IPv6 cut within hop-by-hop's options", ended(hops(), 8), Ends::As(TruncatedL3)),
        case("IPv6 cut behind hop-by-hop", ended(hops(), 16), Ends::As(TruncatedL4)),
        case("IPv6 cut within a fragment header", ended(tcp(to().fragment6(false, 0)), 4), Ends::As(TruncatedL3)),
        case("IPv6 cut within a routing header", ended(tcp(to().extension(ROUTING, 2)), 12), Ends::As(TruncatedL3)),
        case("IPv6 options longer than the datagram", ended(tcp(long), 1000), Ends::As(TruncatedL3)),
    ]
}

/// The datagram ends `payload` bytes behind the fixed IPv6 header, and says so.
fn ended(frame: Vec<u8>, payload: u16) -> Vec<u8> {
    cut(patched(frame, IP + 4, &payload.to_be_bytes()), IP + 40 + usize::from(payload))
}
