//! CPU time that an edge spends on a request, beside nginx and HAProxy: same certificates, same backend, same load.
//!
//! The edge has CPU 0 to itself; load and backend share CPU 1. Rounds alternate between the edges, so that what the
//! machine does meanwhile meets them all. The measure is user + system time of all processes of the edge, divided by
//! the requests that the load saw answered; the median of the rounds counts.

mod handshakes;
mod load;
mod peers;
mod report;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lb_tests::netns;

use load::{Load, WORKLOADS};
use peers::Peer;
use report::Results;

/// Measure CPU time per request beside nginx and HAProxy.
#[derive(Parser)]
struct Args {
    /// Fewer and shorter rounds: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Rounds of every workload and edge
    #[arg(long)]
    rounds: Option<usize>,
    /// Edges to measure
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,bailey")]
    edges: Vec<peers::Kind>,
    /// Workloads to measure, by a part of their name; all when left out
    #[arg(long)]
    only: Option<String>,
}

const LOAD_CPU: usize = 1;

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(
        std::thread::available_parallelism()?.get() >= 2,
        "two CPUs are needed: one for the edge, one for the load"
    );
    netns::pin(LOAD_CPU)?;
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 5 });
    let load = if args.quick { Load { seconds: 1, handshakes: 300 } } else { Load { seconds: 3, handshakes: 1500 } };
    let folder = lb_tests::lab::folder()?;
    let (_backend, mut edges) = start(folder.path(), &args.edges)?;
    let mut results = Results::default();
    let chosen = WORKLOADS.iter().filter(|w| args.only.as_deref().is_none_or(|part| w.name.contains(part)));
    for workload in chosen {
        for round in 0..=rounds {
            // The first round warms caches, pools and branch predictors, and is not counted.
            let load = if round == 0 { load.warm_up() } else { load };
            for edge in &mut edges {
                let before = edge.cpu_seconds()?;
                let requests = load
                    .run(workload, edge)
                    .with_context(|| format!("{} under {}\n{}", edge.name(), workload.name, edge.log()))?;
                let spent = edge.cpu_seconds()? - before;
                if round > 0 {
                    results.add(workload.name, edge.name(), spent / requests as f64);
                }
            }
            if !args.json && round > 0 {
                eprintln!("{}: round {round} of {rounds}", workload.name);
            }
        }
    }
    if args.json {
        println!("{:#}", results.json())
    } else {
        println!("{}", results.table())
    }
    Ok(())
}

fn start(folder: &Path, kinds: &[peers::Kind]) -> Result<(lb_tests::process::Process, Vec<Peer>)> {
    let identities = peers::identities(folder)?;
    let (backend, port) = peers::backend(folder)?;
    let edges = kinds.iter().map(|kind| Peer::start(*kind, folder, &identities, port)).collect::<Result<_>>()?;
    Ok((backend, edges))
}
