//! What the shield turns away and what it lets through: each case is some packets, one after the other.
//!
//! Cases share one `edge`: each has a service or a source of its own, so that none empties another's bucket.

mod headers;
mod lists;
mod rates;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use lb_common::Verdict;
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
    let cases =
        [headers::headers4(), headers::headers6(), headers::flags(), lists::lists4(), lists::lists6(), rates::rates()];
    let mut trials: Vec<Trial> =
        cases.into_iter().flatten().map(|case| Trial::test(case.name, move || run(&case.steps))).collect();
    trials.push(Trial::test("an allowed prefix is not limited by rate", rates::unlimited));
    trials.push(Trial::test("a bucket fills again", rates::refill));
    trials.push(Trial::test("one of a million prefixes is found, and none beside it", lists::a_million));
    trials.push(Trial::test("a prefix that has run out no longer counts, the one around it does", lists::outdated));
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
