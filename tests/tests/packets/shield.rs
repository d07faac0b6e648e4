//! What the shield turns away and what it lets through: each case is some packets, one after the other.
//!
//! Cases share one `edge`: each has a service or a source of its own, so that none empties another's bucket.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use lb_common::Verdict::{self, *};
use lb_common::verdict::Action;
use lb_tests::packet::*;
use lb_tests::privilege;
use lb_user::datapath::probe::XdpAction;
use lb_user::datapath::{Desired, DesiredService, Limits, PrefixRule, Rate, SynCookies, Worker};
use libtest_mimic::{Failed, Trial};

use crate::setup::*;

/// Ports of the services with limits of their own.
const SOURCE_PACKETS: u16 = 1001;
const SOURCE_CONNECTIONS: u16 = 1002;
const PACKETS_A: u16 = 1003;
const PACKETS_B: u16 = 1004;
const CONNECTIONS_A: u16 = 1005;
const CONNECTIONS_B: u16 = 1006;
const BOTH: u16 = 1007;
const OWN: u16 = 1008;
const WIDE: u16 = 1009;
const QUICK: u16 = 1010;
const BOTH_CONNECTIONS: u16 = 1011;
/// The first service of these has this id.
const FIRST: u32 = 10;

/// TCP flags.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;
const ECE: u8 = 64;
const CWR: u8 = 128;

/// So long a prefix stands that is to run out.
const SHORT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

/// A frame, the service that it is counted for, and how it ends.
type Step = (Vec<u8>, u32, Verdict);

struct Case {
    name: &'static str,
    steps: Vec<Step>,
}

pub(crate) fn trials() -> Vec<Trial> {
    let cases = [headers4(), headers6(), flags(), lists4(), lists6(), rates()];
    let mut trials: Vec<Trial> =
        cases.into_iter().flatten().map(|case| Trial::test(case.name, move || run(&case.steps))).collect();
    trials.push(Trial::test("an allowed prefix is not limited by rate", unlimited));
    trials.push(Trial::test("a bucket fills again", refill));
    trials.push(Trial::test("one of a million prefixes is found, and none beside it", a_million));
    trials.push(Trial::test("a prefix that has run out no longer counts, the one around it does", outdated));
    trials
}

fn bench() -> Result<&'static Bench, String> {
    static BENCH: OnceLock<Result<Bench, String>> = OnceLock::new();
    let open = || {
        let here = *privilege::cpus().first().ok_or("no CPU to run on")?;
        Bench::with(&desired_with_shield(), &[Worker { index: 0, cpu: here }], here)
    };
    BENCH.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn run(steps: &[Step]) -> Result<(), Failed> {
    let bench = bench()?;
    for (index, (frame, service, verdict)) in steps.iter().enumerate() {
        let action = if verdict.action() == Action::Drop { XdpAction::Drop } else { XdpAction::Pass };
        let counted = vec![(*service, verdict.name(), 1, frame.len() as u64)];
        let wanted = Seen { action, unchanged: true, counted };
        let seen = bench.run(frame)?;
        if seen != wanted {
            return Err(format!("packet {index}: wanted {wanted:?}, got {seen:?}").into());
        }
    }
    Ok(())
}

fn id(port: u16) -> u32 {
    FIRST + u32::from(port - SOURCE_PACKETS)
}

const NONE: Limits = Limits {
    source_packets: None,
    source_connections: None,
    packets: None,
    connections: None,
    source_v4: 32,
    source_v6: 128,
    syn_cookies: SynCookies::Never,
};

/// So many at once; the next in a second, which no case waits for.
fn at_once(burst: u32) -> Option<Rate> {
    Some(Rate { per_second: 1, burst })
}

fn limits() -> [(u16, Limits); 10] {
    [
        (SOURCE_PACKETS, Limits { source_packets: at_once(3), source_v4: 24, source_v6: 48, ..NONE }),
        (SOURCE_CONNECTIONS, Limits { source_connections: at_once(2), ..NONE }),
        (PACKETS_A, Limits { packets: at_once(4), ..NONE }),
        (PACKETS_B, Limits { packets: at_once(4), ..NONE }),
        (CONNECTIONS_A, Limits { connections: at_once(2), ..NONE }),
        (CONNECTIONS_B, Limits { connections: at_once(2), ..NONE }),
        (BOTH, Limits { source_packets: at_once(2), packets: at_once(5), ..NONE }),
        (WIDE, Limits { source_packets: at_once(1), source_v4: 31, source_v6: 127, ..NONE }),
        (QUICK, Limits { source_packets: Some(Rate { per_second: 20, burst: 1 }), ..NONE }),
        (BOTH_CONNECTIONS, Limits { source_packets: at_once(4), connections: at_once(1), ..NONE }),
    ]
}

fn prefixes() -> Vec<PrefixRule> {
    let soon = Some(SystemTime::now() + SHORT);
    let rule = |service, network: &str, allow, until| PrefixRule {
        service,
        network: network.parse().expect("a prefix"),
        allow,
        until,
    };
    let mut rules = vec![
        rule(0, "192.0.2.0/24", false, None),
        rule(0, "192.0.2.128/25", true, None),
        rule(0, "192.0.2.192/26", false, None),
        rule(0, "198.51.101.7/32", false, None),
        rule(0, "100.64.0.0/10", true, None),
        rule(0, "172.16.0.0/12", false, None),
        rule(0, "172.16.1.0/24", false, None),
        rule(0, "172.17.0.0/16", true, soon),
        rule(0, "2001:db8:bad::/48", false, None),
        rule(0, "2001:db8:bad:8000::/49", true, None),
        rule(0, "2001:db8:bad:c000::/50", false, None),
        rule(0, "2001:db8:1::7/128", false, None),
        rule(0, "2001:db8:aa::/48", true, None),
        rule(id(OWN), "192.0.2.0/24", true, None),
        rule(id(OWN), "172.16.0.0/16", true, None),
        rule(id(OWN), "198.18.0.0/15", false, None),
        rule(id(OWN), "2001:db8:bad::/48", true, None),
        rule(id(OWN), "2001:db8:2::/48", false, None),
    ];
    rules.sort_by_key(|rule| (rule.service, rule.network));
    rules
}

fn desired_with_shield() -> Desired {
    let mut desired = desired();
    let ports = SOURCE_PACKETS..=BOTH_CONNECTIONS;
    desired.services.extend(ports.map(|port| DesiredService {
        id: id(port),
        name: format!("port-{port}"),
        addresses: vec![listen(VIP4, Some(port)), listen(VIP6, Some(port))],
    }));
    let limits: BTreeMap<u32, Limits> = limits().into_iter().map(|(port, limits)| (id(port), limits)).collect();
    Desired { limits, prefixes: Arc::new(prefixes()), ..desired }
}

fn case(name: &'static str, frame: Vec<u8>, service: u32, verdict: Verdict) -> Case {
    Case { name, steps: vec![(frame, service, verdict)] }
}

fn from4(source: [u8; 4]) -> Packet {
    Packet::ethernet().ipv4(Ipv4Addr::from(source), VIP4, &[])
}

fn from6(source: &str) -> Packet {
    Packet::ethernet().ipv6(source.parse().expect("an address"), VIP6)
}

fn syn4(source: [u8; 4], port: u16) -> Vec<u8> {
    from4(source).tcp(40000, port, &[]).build()
}

fn syn6(source: &str, port: u16) -> Vec<u8> {
    from6(source).tcp(40000, port, &[]).build()
}

fn headers4() -> Vec<Case> {
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

fn headers6() -> Vec<Case> {
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

fn flags() -> Vec<Case> {
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

fn lists4() -> Vec<Case> {
    let at = |name, source, port, verdict| {
        let service = if port == HTTPS { 1 } else { id(port) };
        case(name, syn4(source, port), service, verdict)
    };
    let ends = |name, first, last, verdict| Case {
        name,
        steps: vec![(syn4(first, HTTPS), 1, verdict), (syn4(last, HTTPS), 1, verdict)],
    };
    let of_no_flow = from4([192, 0, 2, 1]).icmp(ICMP, 8, 0).build();
    let any_port = Packet::ethernet().ipv4(Ipv4Addr::new(192, 0, 2, 1), ALL4, &[]).tcp(1, 77, &[]).build();
    let bad_flags = from4([192, 0, 2, 1]).tcp(40000, HTTPS, &[]).flags(0).build();
    vec![
        ends("denied from the first to the last address, IPv4", [192, 0, 2, 0], [192, 0, 2, 127], Denied),
        ends("beside a denied prefix, IPv4", [192, 0, 1, 255], [192, 0, 3, 0], SteerLocal),
        ends("allowed within what is denied, IPv4", [192, 0, 2, 128], [192, 0, 2, 191], SteerLocal),
        ends("denied within what is allowed, IPv4", [192, 0, 2, 192], [192, 0, 2, 255], Denied),
        at("a single address denied, IPv4", [198, 51, 101, 7], HTTPS, Denied),
        at("beside a single address, IPv4", [198, 51, 101, 6], HTTPS, SteerLocal),
        at("allowed by the service, denied by all, IPv4", [192, 0, 2, 1], OWN, SteerLocal),
        at("denied for all by a longer prefix than the service allows, IPv4", [192, 0, 2, 200], OWN, Denied),
        at("allowed by the service within what is denied for all", [172, 16, 9, 9], OWN, SteerLocal),
        at("denied for all within what the service allows", [172, 16, 1, 9], OWN, Denied),
        at("denied by the service, IPv4", [198, 19, 255, 255], OWN, Denied),
        at("denied by another service, IPv4", [198, 19, 255, 255], HTTPS, SteerLocal),
        at("of no list, to a service with one, IPv4", [203, 0, 112, 1], OWN, SteerLocal),
        case("denied, to every port", any_port, 2, Denied),
        case("an echo is not a service's", of_no_flow, 0, Icmp),
        case("bad flags go before a deny list", bad_flags, 1, BadTcpFlags),
    ]
}

fn lists6() -> Vec<Case> {
    let at = |name, source, port, verdict| {
        let service = if port == HTTPS { 1 } else { id(port) };
        case(name, syn6(source, port), service, verdict)
    };
    let behind = from6("2001:db8:bad::1").extension(DESTINATION, 1).tcp(1, HTTPS, &[]).build();
    vec![
        at("denied, IPv6", "2001:db8:bad::", HTTPS, Denied),
        at("denied at its last address, IPv6", "2001:db8:bad:7fff:ffff:ffff:ffff:ffff", HTTPS, Denied),
        at("before a denied prefix, IPv6", "2001:db8:bac:ffff:ffff:ffff:ffff:ffff", HTTPS, SteerLocal),
        at("behind a denied prefix, IPv6", "2001:db8:bae::", HTTPS, SteerLocal),
        at("allowed within what is denied, IPv6", "2001:db8:bad:8000::1", HTTPS, SteerLocal),
        at("denied within what is allowed, IPv6", "2001:db8:bad:c000::1", HTTPS, Denied),
        at("a single address denied, IPv6", "2001:db8:1::7", HTTPS, Denied),
        at("beside a single address, IPv6", "2001:db8:1::6", HTTPS, SteerLocal),
        at("allowed by the service, denied by all, IPv6", "2001:db8:bad::1", OWN, SteerLocal),
        at("denied for all by a longer prefix than the service allows, IPv6", "2001:db8:bad:c000::2", OWN, Denied),
        at("denied by the service, IPv6", "2001:db8:2::1", OWN, Denied),
        at("denied by another service, IPv6", "2001:db8:2::1", HTTPS, SteerLocal),
        case("denied behind an extension header", behind, 1, Denied),
    ]
}

/// `good` packets that pass, then one that does not.
fn fills(name: &'static str, frames: &[Vec<u8>], good: usize, port: u16, verdict: Verdict) -> Case {
    let steps = (0..=good).map(|index| {
        let ends = if index < good { SteerLocal } else { verdict };
        (frames[index % frames.len()].clone(), id(port), ends)
    });
    Case { name, steps: steps.collect() }
}

fn rates() -> Vec<Case> {
    let ack4 = |source, port| from4(source).tcp(40000, port, &[]).flags(ACK).build();
    let ack6 = |source: &str, port| from6(source).tcp(40000, port, &[]).flags(ACK).build();
    let ok = |frame: Vec<u8>, port| (frame, id(port), SteerLocal);
    let no = |frame: Vec<u8>, port, verdict| (frame, id(port), verdict);
    let v4 = |last| [11, 0, last, 1];
    let in_24 = [syn4([11, 1, 0, 0], SOURCE_PACKETS), syn4([11, 1, 0, 255], SOURCE_PACKETS)];
    let in_48 = [syn6("2001:db8:100::", SOURCE_PACKETS), syn6("2001:db8:100:ffff:ffff:ffff:ffff:ffff", SOURCE_PACKETS)];
    let port = SOURCE_PACKETS;
    vec![
        fills("packets of a source up to the burst, IPv4", &[ack4(v4(1), port)], 3, port, RateSourcePackets),
        fills(
            "packets of a source up to the burst, IPv6",
            &[ack6("2001:db8:101::1", port)],
            3,
            port,
            RateSourcePackets,
        ),
        fills("SYNs are packets, too", &[syn4(v4(2), port)], 3, port, RateSourcePackets),
        fills("one source is a /24", &in_24, 3, port, RateSourcePackets),
        fills("one source is a /48", &in_48, 3, port, RateSourcePackets),
        Case {
            name: "beside a /24 and a /48 there is another source",
            steps: vec![
                ok(ack4([11, 2, 0, 255], port), port),
                ok(ack4([11, 2, 0, 1], port), port),
                ok(ack4([11, 2, 0, 2], port), port),
                no(ack4([11, 2, 0, 3], port), port, RateSourcePackets),
                ok(ack4([11, 2, 1, 0], port), port),
                ok(ack4([11, 1, 255, 255], port), port),
                ok(ack6("2001:db8:102::1", port), port),
                ok(ack6("2001:db8:102::2", port), port),
                ok(ack6("2001:db8:102:1::", port), port),
                no(ack6("2001:db8:102:2::", port), port, RateSourcePackets),
                ok(ack6("2001:db8:103::", port), port),
            ],
        },
        Case {
            name: "masks of 31 and 127 bits",
            steps: vec![
                ok(ack4([11, 3, 0, 2], WIDE), WIDE),
                no(ack4([11, 3, 0, 3], WIDE), WIDE, RateSourcePackets),
                ok(ack4([11, 3, 0, 4], WIDE), WIDE),
                ok(ack6("2001:db8:104::2", WIDE), WIDE),
                no(ack6("2001:db8:104::3", WIDE), WIDE, RateSourcePackets),
                ok(ack6("2001:db8:104::4", WIDE), WIDE),
            ],
        },
        fills(
            "connections of a source up to the burst, IPv4",
            &[syn4(v4(3), SOURCE_CONNECTIONS)],
            2,
            SOURCE_CONNECTIONS,
            RateSourceConnections,
        ),
        fills(
            "connections of a source up to the burst, IPv6",
            &[syn6("2001:db8:105::1", SOURCE_CONNECTIONS)],
            2,
            SOURCE_CONNECTIONS,
            RateSourceConnections,
        ),
        Case {
            name: "what is no SYN is no new connection",
            steps: vec![
                ok(syn4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                ok(ack4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                ok(syn4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                no(syn4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS, RateSourceConnections),
                ok(ack4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                ok(syn4(v4(5), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
            ],
        },
        fills(
            "packets of a service, of any source and family",
            &[syn4(v4(6), PACKETS_A), ack4(v4(7), PACKETS_A), ack6("2001:db8:106::1", PACKETS_A)],
            4,
            PACKETS_A,
            RateServicePackets,
        ),
        fills("packets of a service, IPv6", &[ack6("2001:db8:107::1", PACKETS_B)], 4, PACKETS_B, RateServicePackets),
        fills(
            "connections of a service, of any source",
            &[syn4(v4(8), CONNECTIONS_A), syn6("2001:db8:108::1", CONNECTIONS_A)],
            2,
            CONNECTIONS_A,
            RateServiceConnections,
        ),
        Case {
            name: "packets go on when connections do not",
            steps: vec![
                ok(syn4(v4(9), CONNECTIONS_B), CONNECTIONS_B),
                ok(syn4(v4(10), CONNECTIONS_B), CONNECTIONS_B),
                no(syn4(v4(11), CONNECTIONS_B), CONNECTIONS_B, RateServiceConnections),
                ok(ack4(v4(11), CONNECTIONS_B), CONNECTIONS_B),
            ],
        },
        Case {
            name: "what a source is refused, its service is not charged with",
            steps: vec![
                ok(ack4(v4(12), BOTH), BOTH),
                ok(ack4(v4(12), BOTH), BOTH),
                no(ack4(v4(12), BOTH), BOTH, RateSourcePackets),
                no(ack4(v4(12), BOTH), BOTH, RateSourcePackets),
                ok(ack4(v4(13), BOTH), BOTH),
                ok(ack4(v4(13), BOTH), BOTH),
                ok(ack4(v4(14), BOTH), BOTH),
                no(ack4(v4(14), BOTH), BOTH, RateServicePackets),
            ],
        },
        Case {
            name: "what a service refuses, its source is not charged with",
            steps: vec![
                ok(syn4(v4(15), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                no(syn4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS, RateServiceConnections),
                no(syn4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS, RateServiceConnections),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                no(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS, RateSourcePackets),
            ],
        },
        Case {
            name: "a service without limits has none",
            steps: (0..100).map(|_| (syn4(v4(17), HTTPS), 1, SteerLocal)).collect(),
        },
    ]
}

fn unlimited() -> Result<(), Failed> {
    let v4 = (0..50).map(|_| (syn4([100, 64, 0, 1], SOURCE_CONNECTIONS), id(SOURCE_CONNECTIONS), SteerLocal));
    let v6 = (0..50).map(|_| (syn6("2001:db8:aa::1", SOURCE_PACKETS), id(SOURCE_PACKETS), SteerLocal));
    run(&v4.chain(v6).collect::<Vec<_>>())
}

fn refill() -> Result<(), Failed> {
    let frame = syn4([11, 9, 0, 1], QUICK);
    let bench = bench()?;
    run(&[(frame.clone(), id(QUICK), SteerLocal)])?;
    let (begin, mut refused) = (Instant::now(), 0);
    while bench.run(&frame)?.action == XdpAction::Drop {
        refused += 1;
        if begin.elapsed() > PATIENCE {
            return Err(format!("refused {refused} times, and still").into());
        }
    }
    Ok(())
}

/// 172.17/16 is allowed for a moment, within 172.16/12, which is denied.
fn outdated() -> Result<(), Failed> {
    let frame = syn4([172, 17, 0, 1], HTTPS);
    let bench = bench()?;
    let begin = Instant::now();
    loop {
        let seen = bench.run(&frame)?;
        if seen.counted.iter().any(|row| row.1 == Denied.name()) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("after {PATIENCE:?}: {seen:?}").into());
        }
    }
}

/// Every second address from 20.0.0.0 on is denied.
fn a_million() -> Result<(), Failed> {
    let address = |index: u32| Ipv4Addr::from_bits(0x1400_0000 + index);
    let rule = |index: u32| {
        let network = ipnet::IpNet::from(std::net::IpAddr::from(address(2 * index)));
        PrefixRule { service: 0, network, allow: false, until: None }
    };
    let here = *privilege::cpus().first().ok_or("no CPU to run on")?;
    let desired = Desired { prefixes: Arc::new((0..1_000_000).map(rule).collect()), ..desired() };
    let begin = Instant::now();
    let bench = Bench::with(&desired, &[Worker { index: 0, cpu: here }], here)?;
    eprintln!("packets: loaded with a million prefixes in {:?}", begin.elapsed());
    for index in (0..2_000_000).step_by(99_991).chain([0, 1, 1_999_998, 1_999_999, 2_000_000]) {
        let denied = index % 2 == 0 && index < 2_000_000;
        let action = bench.run(&syn4(address(index).octets(), HTTPS))?.action;
        if (action == XdpAction::Drop) != denied {
            return Err(format!("{}: {action:?}", address(index)).into());
        }
    }
    Ok(())
}
