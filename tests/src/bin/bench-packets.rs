//! What a packet costs in `edge`: BPF run time over BPF_PROG_TEST_RUN, beside a program that does nothing.
//!
//! Every packet of a round is the same one, so that caches and branches are at their best; the kernel's clock reads
//! around each run are in every figure, also in that of the empty program. `--json` prints the same for programs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use lb_tests::packet::{CLIENT4, CLIENT6, Packet};
use lb_tests::privilege;
use lb_user::datapath::probe::{Probe, Program, XdpAction};
use lb_user::datapath::{Desired, DesiredService, Worker};
use tls_worker::api::ListenAddress;

const REPEAT: u32 = 1_000_000;
/// Rounds of all cases, one after the other, so that what disturbs the machine disturbs all alike. The median counts.
const ROUNDS: usize = 7;
const METHOD: &str = "BPF run time (run_time_ns / run_cnt) over BPF_PROG_TEST_RUN, one frame repeated; \
                      no driver, no redirect carried out";

const VIP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xed9e, 0, 0, 0, 0, 0x10);
const PLAIN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
const PLAIN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xed9e, 0, 0, 0, 0, 0x99);

struct Case {
    name: &'static str,
    probe: usize,
    program: Program,
    frame: Vec<u8>,
    action: XdpAction,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-packets: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let json = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--json" => true,
        other => bail!("unknown arguments {other:?}; the only one is --json"),
    };
    let cpus = privilege::cpus();
    let here = *cpus.first().ok_or_else(|| anyhow!("no CPU to run on"))?;
    privilege::pin_to(here).context("pin to a CPU")?;
    let mut probes = vec![probe(false, here)?, probe(true, here)?];
    if let Some(other) = cpus.get(1) {
        probes.push(probe(false, *other)?);
    }
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.probe < probes.len()).collect();
    check(&probes, &cases)?;
    let medians = measure(&probes, &cases)?;
    if json {
        print_json(&cases, &medians)
    } else {
        print_table(&cases, &medians)
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let plain4 = || Packet::ethernet().ipv4(CLIENT4, PLAIN4, &[]).tcp(40000, 443, &[]).build();
    let plain6 = || Packet::ethernet().ipv6(CLIENT6, PLAIN6).tcp(40000, 443, &[]).build();
    let vip4 = || Packet::ethernet().ipv4(CLIENT4, VIP4, &[]).tcp(40000, 443, &[]).build();
    let vip6 = || Packet::ethernet().ipv6(CLIENT6, VIP6).tcp(40000, 443, &[]).build();
    let case = |name, probe, frame, action| Case { name, probe, program: Program::Edge, frame, action };
    let empty = Case { program: Program::Baseline, ..case("empty drop", 0, plain4(), XdpAction::Drop) };
    vec![
        empty,
        case("pass, no service's address, IPv4", 0, plain4(), XdpAction::Pass),
        case("pass, no service's address, IPv6", 0, plain6(), XdpAction::Pass),
        case("steer hash, on its CPU, IPv4", 0, vip4(), XdpAction::Pass),
        case("steer hash, on its CPU, IPv6", 0, vip6(), XdpAction::Pass),
        case("steer hash, redirect, IPv4", 2, vip4(), XdpAction::Redirect),
        case("steer hash, redirect, IPv6", 2, vip6(), XdpAction::Redirect),
        case("steer rss, IPv4", 1, vip4(), XdpAction::Pass),
        case("steer rss, IPv6", 1, vip6(), XdpAction::Pass),
    ]
}

fn probe(rss: bool, cpu: u32) -> Result<Probe> {
    let listen = |address| ListenAddress { address, port: Some(443) };
    let addresses = vec![listen(VIP4.into()), listen(VIP6.into())];
    let services = vec![DesiredService { id: 1, name: "web".to_owned(), addresses }];
    Ok(Probe::open(rss, &[Worker { index: 0, cpu }], &Desired { services, ..Desired::default() })?)
}

/// A figure for a packet that went another way than its name says would be worse than none.
fn check(probes: &[Probe], cases: &[Case]) -> Result<()> {
    for case in cases.iter().filter(|case| case.program == Program::Edge) {
        let action = probes[case.probe].run(&case.frame)?.action;
        if action != case.action {
            bail!("{}: XDP says {action:?}, not {:?}", case.name, case.action);
        }
    }
    Ok(())
}

fn measure(probes: &[Probe], cases: &[Case]) -> Result<BTreeMap<&'static str, f64>> {
    let mut rounds: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for case in cases {
            let run_time = probes[case.probe].measure(case.program, &case.frame, REPEAT)?;
            let ns = run_time.time.as_nanos() as f64 / run_time.runs.max(1) as f64;
            rounds.entry(case.name).or_default().push(ns);
        }
    }
    let median = |mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    };
    Ok(rounds.into_iter().map(|(name, rounds)| (name, median(rounds))).collect())
}

fn print_table(cases: &[Case], medians: &BTreeMap<&'static str, f64>) {
    let empty = medians["empty drop"];
    println!("{METHOD}; {REPEAT} runs a round, median of {ROUNDS} rounds");
    println!("{:<36} {:>10} {:>16}", "packet", "ns", "above empty drop");
    for case in cases {
        let ns = medians[case.name];
        println!("{:<36} {ns:>10.1} {:>16.1}", case.name, ns - empty);
    }
}

fn print_json(cases: &[Case], medians: &BTreeMap<&'static str, f64>) {
    let packets: Vec<serde_json::Value> =
        cases.iter().map(|case| serde_json::json!({ "packet": case.name, "ns": medians[case.name] })).collect();
    let report = serde_json::json!({ "method": METHOD, "repeat": REPEAT, "rounds": ROUNDS, "packets": packets });
    println!("{report:#}");
}
