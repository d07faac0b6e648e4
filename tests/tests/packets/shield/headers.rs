//! Headers and flags that nobody who means well sends, and their near misses.

use std::net::Ipv6Addr;

use lb_common::Verdict::*;
use lb_tests::packet::*;

use super::*;
use crate::setup::*;

pub(super) fn headers4() -> Vec<Case> {
    let options = || Packet::ethernet().ipv4(CLIENT4, VIP4, &[1; 40]);
    let tcp = |packet: Packet| packet.tcp(40000, HTTPS, &[]).build();
    let from = |name, source, verdict| {
        let service = if verdict == SteerLocal { 1 } else { 0 };
        case(name, syn4(source, HTTPS), service, verdict)
    };
    let plain = Packet::ethernet().ipv4(CLIENT4, PLAIN4, &[]).broken4();
    vec![
        case("a wrong checksum", tcp(from4([198, 51, 100, 7]).broken4()), 0, BadIpChecksum),
        case("a wrong checksum behind 40 bytes of options", tcp(options().broken4()), 0, BadIpChecksum),
        case("a right checksum over 40 bytes of options", tcp(options()), 1, SteerLocal),
        case("options changed and not summed", patched(tcp(options()), 14 + 59, &[0]), 0, BadIpChecksum),
        case("the last option's word is summed", patched(tcp(options()), 14 + 20, &[0]), 0, BadIpChecksum),
        case("a checksum of zero", patched(syn4([198, 51, 100, 7], HTTPS), 24, &[0, 0]), 0, BadIpChecksum),
        case("a TTL changed and not summed", patched(syn4([198, 51, 100, 7], HTTPS), 22, &[63]), 0, BadIpChecksum),
        case("a wrong checksum behind a tag", tcp(tagged4().broken4()), 0, BadIpChecksum),
        case("a right checksum behind a tag", tcp(tagged4()), 1, SteerLocal),
        case("a wrong checksum to no service's address", tcp(plain), 0, NotVip),
        case(
            "a wrong checksum of a fragment",
            from4([1, 2, 3, 4]).fragment4(true, 8).broken4().build(),
            0,
            BadIpChecksum,
        ),
        case("a wrong checksum of an echo", from4([1, 2, 3, 4]).broken4().icmp(ICMP, 8, 0).build(), 0, BadIpChecksum),
        from("from 127.0.0.1", [127, 0, 0, 1], BadSource),
        from("from 127.255.255.255", [127, 255, 255, 255], BadSource),
        from("from 126.255.255.255", [126, 255, 255, 255], SteerLocal),
        from("from 128.0.0.1", [128, 0, 0, 1], SteerLocal),
        from("from 0.0.0.0", [0, 0, 0, 0], BadSource),
        from("from 0.255.255.255", [0, 255, 255, 255], BadSource),
        from("from 1.0.0.0", [1, 0, 0, 0], SteerLocal),
        from("from 223.255.255.255", [223, 255, 255, 255], SteerLocal),
        from("from 224.0.0.1", [224, 0, 0, 1], BadSource),
        from("from 239.255.255.255", [239, 255, 255, 255], BadSource),
        from("from 240.0.0.1", [240, 0, 0, 1], SteerLocal),
        from("from 255.255.255.254", [255, 255, 255, 254], SteerLocal),
        from("from 255.255.255.255", [255, 255, 255, 255], BadSource),
        from("land, IPv4", VIP4.octets(), Land),
        from("from another service's address, IPv4", ALL4.octets(), SteerLocal),
        case("land by UDP", from4(VIP4.octets()).udp(443, 443).build(), 0, Land),
        case("land by ICMP", from4(VIP4.octets()).icmp(ICMP, 8, 0).build(), 0, Land),
    ]
}

fn tagged4() -> Packet {
    Packet::ethernet().tag(VLAN, 7).ipv4(CLIENT4, VIP4, &[])
}

pub(super) fn headers6() -> Vec<Case> {
    let from = |name, source, verdict| {
        let service = if verdict == SteerLocal { 1 } else { 0 };
        case(name, syn6(source, HTTPS), service, verdict)
    };
    let plain = Packet::ethernet().ipv6(Ipv6Addr::LOCALHOST, PLAIN6).tcp(1, HTTPS, &[]).build();
    vec![
        from("from ::", "::", BadSource),
        from("from ::1", "::1", BadSource),
        from("from ::2", "::2", SteerLocal),
        from("from ::1:0:0:0:1", "::1:0:0:0:1", SteerLocal),
        from("from ff02::1", "ff02::1", BadSource),
        from("from ffff::", "ffff::", BadSource),
        from("from feff::1", "feff::1", SteerLocal),
        from("from fe80::1", "fe80::1", SteerLocal),
        from("from the mapped form", "::ffff:192.0.2.1", BadSource),
        from("from the mapped form of 0.0.0.0", "::ffff:0.0.0.0", BadSource),
        from("from ::fffe:c000:201", "::fffe:c000:201", SteerLocal),
        from("from 64:ff9b::192.0.2.1", "64:ff9b::192.0.2.1", SteerLocal),
        from("land, IPv6", "2001:db8:ed9e::10", Land),
        from("from another service's address, IPv6", "2001:db8:ed9e::20", SteerLocal),
        case("from ::1 to no service's address", plain, 0, NotVip),
    ]
}

pub(super) fn flags() -> Vec<Case> {
    let all = [
        ("no flag", 0, false),
        ("SYN", SYN, true),
        ("SYN ACK", SYN | ACK, true),
        ("SYN FIN", SYN | FIN, false),
        ("SYN FIN ACK", SYN | FIN | ACK, false),
        ("SYN RST", SYN | RST, false),
        ("SYN RST ACK", SYN | RST | ACK, false),
        ("SYN PSH", SYN | PSH, true),
        ("SYN for ECN", SYN | ECE | CWR, true),
        ("FIN", FIN, false),
        ("FIN ACK", FIN | ACK, true),
        ("FIN PSH ACK", FIN | PSH | ACK, true),
        ("FIN PSH URG, a Christmas tree", FIN | PSH | URG, false),
        ("every flag", 0xff, false),
        ("RST", RST, true),
        ("RST ACK", RST | ACK, true),
        ("RST FIN", RST | FIN, false),
        ("RST FIN ACK", RST | FIN | ACK, false),
        ("ACK", ACK, true),
        ("ACK with ECN echoed", ACK | ECE, true),
        ("PSH ACK with the window reduced", PSH | ACK | CWR, true),
        ("the flags of ECN alone", ECE | CWR, false),
        ("ECN and FIN", ECE | FIN, false),
        ("URG ACK", URG | ACK, true),
    ];
    let both = |(name, flags, good)| {
        let verdict = if good { SteerLocal } else { BadTcpFlags };
        let v4 = from4([198, 51, 100, 7]).tcp(40000, HTTPS, &[]).flags(flags).build();
        let v6 = from6("2001:db8:c::7").tcp(40000, HTTPS, &[]).flags(flags).build();
        Case { name, steps: vec![(v4, 1, verdict), (v6, 1, verdict)] }
    };
    let mut cases: Vec<Case> = all.into_iter().map(both).collect();
    let no_service = from4([198, 51, 100, 7]).tcp(40000, 80, &[]).flags(0).build();
    cases.push(case("no flag to a port of no service", no_service, 0, NoService));
    cases
}
