//! Which worker: the kernel half and the control plane must give the same answer for any flow.

use std::net::{IpAddr, SocketAddr};

use lb_tests::packet::{ICMP, ICMPV6, Packet};
use lb_tests::privilege;
use lb_tests::random::Random;
use lb_user::datapath::probe::XdpAction;
use lb_user::datapath::{Protocol, Worker};
use libtest_mimic::{Failed, Trial};

use crate::setup::*;

const FLOWS: usize = 3000;

pub(crate) fn trials() -> Vec<Trial> {
    let alone = privilege::cpus().len() < 2;
    if alone {
        eprintln!("packets: the choice among CPUs is not tried: this machine has one CPU");
    }
    vec![
        Trial::test("XDP and the control plane choose the same CPU, IPv4", || choices(false)).with_ignored_flag(alone),
        Trial::test("XDP and the control plane choose the same CPU, IPv6", || choices(true)).with_ignored_flag(alone),
        Trial::test("an ICMP error goes where its flow goes", errors_follow).with_ignored_flag(alone),
        Trial::test("every worker has its share of flows", shares),
    ]
}

/// Two CPUs with four workers each; packets are run on the first.
fn bench() -> Result<(Bench, [u32; 2]), Failed> {
    let cpus = privilege::cpus();
    let (here, other) = (cpus[0], *cpus.get(1).unwrap_or(&cpus[0]));
    let workers: Vec<Worker> =
        (0..8).map(|index| Worker { index, cpu: if index % 2 == 0 { here } else { other } }).collect();
    Ok((Bench::open(false, &workers, here)?, [here, other]))
}

fn random_flow(random: &mut Random, v6: bool) -> (SocketAddr, SocketAddr) {
    let port = random.next() as u16;
    let client: IpAddr = match v6 {
        // Unicast addresses alone: the shield turns others away.
        false => (0x0b00_0000 | random.next() as u32 >> 2 & 0x3cff_ffff).to_be_bytes().into(),
        true => (0x2 << 124 | (u128::from(random.next()) << 64 | u128::from(random.next())) >> 4).to_be_bytes().into(),
    };
    // Every port of these is service 2, but for one.
    let vip: IpAddr = if v6 { ALL6.into() } else { ALL4.into() };
    (SocketAddr::new(client, port), SocketAddr::new(vip, random.next() as u16))
}

fn syn(source: SocketAddr, destination: SocketAddr) -> Packet {
    from_to(Packet::ethernet(), source.ip(), destination.ip()).tcp(source.port(), destination.port(), &[])
}

fn from_to(packet: Packet, source: IpAddr, destination: IpAddr) -> Packet {
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => packet.ipv4(s, d, &[]),
        (IpAddr::V6(s), IpAddr::V6(d)) => packet.ipv6(s, d),
        _ => unreachable!("both ends are of one family"),
    }
}

fn choices(v6: bool) -> Result<(), Failed> {
    let (bench, cpus) = bench()?;
    let probe = bench.probe();
    let mut random = Random::new(11);
    let mut redirected = 0;
    for _ in 0..FLOWS {
        let (source, destination) = random_flow(&mut random, v6);
        let answer = probe.flow(Protocol::Tcp, source, destination).ok_or("no answer")?;
        let wanted = if answer.cpu == Some(cpus[0]) { XdpAction::Pass } else { XdpAction::Redirect };
        let action = probe.run(&syn(source, destination).build())?.action;
        if action != wanted {
            return Err(format!("{source} > {destination}: {answer:?}, but XDP says {action:?}").into());
        }
        redirected += usize::from(action == XdpAction::Redirect);
    }
    // Half of 3000, deviation 27.
    if !(FLOWS / 2 - 200..FLOWS / 2 + 200).contains(&redirected) {
        return Err(format!("{redirected} of {FLOWS} flows were redirected").into());
    }
    Ok(())
}

fn errors_follow() -> Result<(), Failed> {
    let (bench, _) = bench()?;
    let probe = bench.probe();
    let mut random = Random::new(12);
    for turn in 0..FLOWS {
        let v6 = turn % 2 == 1;
        let (source, destination) = random_flow(&mut random, v6);
        let flow = probe.run(&syn(source, destination).build())?.action;
        let quote = from_to(Packet::quote(), destination.ip(), source.ip());
        let quote = quote.tcp(destination.port(), source.port(), &[]).build();
        let (router, _) = random_flow(&mut random, v6);
        let outer = from_to(Packet::ethernet(), router.ip(), destination.ip());
        let error = if v6 { outer.icmp(ICMPV6, 2, 0) } else { outer.icmp(ICMP, 3, 4) }.put(&quote).build();
        let action = probe.run(&error)?.action;
        if action != flow {
            return Err(format!("{source} > {destination}: the flow {flow:?}, the error {action:?}").into());
        }
    }
    Ok(())
}

fn shares() -> Result<(), Failed> {
    let (bench, _) = bench()?;
    let probe = bench.probe();
    let mut random = Random::new(13);
    let mut seen = [0usize; 8];
    for _ in 0..8000 {
        let (source, destination) = random_flow(&mut random, false);
        let worker =
            probe.flow(Protocol::Tcp, source, destination).and_then(|answer| answer.worker).ok_or("no worker")?;
        seen[worker as usize] += 1;
    }
    // 1000 each, deviation 30.
    if seen.iter().any(|count| !(800..1200).contains(count)) {
        return Err(format!("flows by worker: {seen:?}").into());
    }
    Ok(())
}
