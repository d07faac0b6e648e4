//! Prefixes: nested, of a service and of all, of both families, and those that run out.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use lb_common::Verdict::*;
use lb_tests::packet::*;
use lb_tests::privilege;
use lb_user::datapath::probe::XdpAction;
use lb_user::datapath::{Desired, PrefixRule, Worker};
use libtest_mimic::Failed;

use super::*;
use crate::setup::*;

pub(super) fn lists4() -> Vec<Case> {
    let at = |name, source, port, verdict| {
        let service = if port == HTTPS { 1 } else { id(port) };
        case(name, syn4(source, port), service, verdict)
    };
    let ends = |name, first, last, verdict| Case {
        name,
        steps: vec![(syn4(first, HTTPS), 1, verdict), (syn4(last, HTTPS), 1, verdict)],
    };
    let of_no_flow = from4([192, 0, 2, 1]).icmp(ICMP, 8, 0).build();
    let fragment = from4([192, 0, 2, 1]).fragment4(false, 9).upper(TCP, &[0; 40]).build();
    let other_fragment = from4([198, 19, 255, 255]).fragment4(true, 0).upper(TCP, &[0; 40]).build();
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
        case("an echo of who is denied to all", of_no_flow, 0, Denied),
        case("a fragment of who is denied to all, IPv4", fragment, 0, Denied),
        case("a fragment of who is denied by a service alone", other_fragment, 0, Fragment),
        case("bad flags go before a deny list", bad_flags, 1, BadTcpFlags),
    ]
}

pub(super) fn lists6() -> Vec<Case> {
    let at = |name, source, port, verdict| {
        let service = if port == HTTPS { 1 } else { id(port) };
        case(name, syn6(source, port), service, verdict)
    };
    let fragment = from6("2001:db8:bad::1").fragment6(false, 9).upper(TCP, &[0; 40]).build();
    let behind = from6("2001:db8:bad::1").extension(DESTINATION, 1).tcp(1, HTTPS, &[]).build();
    vec![
        at("denied, IPv6", "2001:db8:bad::", HTTPS, Denied),
        case("a fragment of who is denied to all, IPv6", fragment, 0, Denied),
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

/// 172.17/16 is allowed for a moment, within 172.16/12, which is denied.
pub(super) fn outdated() -> Result<(), Failed> {
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
pub(super) fn a_million() -> Result<(), Failed> {
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
