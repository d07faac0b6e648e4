//! What a packet costs in `edge` while flows in great numbers go through it: BPF run time of the attached program, with
//! a generator at the other end of the cable, beside a program that only drops. And what the whole path costs, beside
//! the kernel's own load balancer (nftables).

mod desired;
mod measure;
mod peer;
mod report;
mod stage;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use lb_tests::need::Need;
use lb_tests::netns;

use crate::measure::Load;
use crate::report::Report;
use crate::stage::Stage;

#[derive(Parser)]
#[command(about = "Nanoseconds a packet with up to a million flows")]
struct Args {
    /// Few frames and one round: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only states whose name begins so: modes, deny lists, SYN cookies, services, backends, nftables
    #[arg(long, default_value = "")]
    only: String,
    /// CPU that generator and edge share
    #[arg(long, default_value_t = 1)]
    cpu: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-l4: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(missing) = Need::Lab.missing() {
        bail!("missing: {missing}");
    }
    netns::sweep();
    let frames = if args.quick { 100_000 } else { 2_000_000 };
    let load = Load { frames, rounds: if args.quick { 1 } else { args.rounds.max(1) }, cpu: args.cpu };
    let mut report = Report::new(load);
    let stage = Stage::new()?;
    report.add(measure::baseline(&stage, load)?);
    let wanted = |name: &str| name.starts_with(&args.only);
    for group in desired::groups(args.cpu as u32).into_iter().filter(|group| wanted(group.name)) {
        match measure::group(&stage, load, &group) {
            Ok(figures) => report.add(figures),
            // The others are worth having all the same; the exit code tells.
            Err(error) => report.failed.push(format!("{}: {error:#}", group.name)),
        }
    }
    if wanted("nftables") {
        match peer::measure(load) {
            Ok(figures) => report.add(figures),
            Err(error) => report.failed.push(format!("nftables: {error:#}")),
        }
    }
    if args.json {
        report.print_json()
    } else {
        report.print_table()
    }
    if !report.failed.is_empty() {
        bail!("not everything was measured: {}", report.failed.join("; "));
    }
    Ok(())
}
