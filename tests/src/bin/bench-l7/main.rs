//! `bench-l7`: nginx, HAProxy and Bailey side by side as TLS-terminating reverse proxies, in one run.
//!
//! Same certificate, same origin, one worker each, the edge alone on one CPU, load and origin on another, rounds in
//! turn. What counts is the CPU time of all processes of an edge for one request. See docs/bench.md.
#![forbid(unsafe_code)]

mod cpu;
mod edge;
mod lab;
mod load;
mod measure;
mod origin;
mod pki;
mod process;
mod report;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::edge::Product;
use crate::lab::Lab;
use crate::workload::Workload;

/// Measure nginx, HAProxy and Bailey side by side: CPU time a request, memory a connection.
#[derive(Parser)]
#[command(name = "bench-l7")]
struct Args {
    /// Rounds of each workload; medians are taken over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Two short rounds: shows that everything runs, not how fast
    #[arg(long)]
    quick: bool,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Only these workloads; all when left out
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Only these edges; all when left out
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    only: Vec<Product>,
    /// Without Bailey
    #[arg(long, conflicts_with = "only")]
    peers_only: bool,
    /// CPU of the edges
    #[arg(long, default_value_t = 0)]
    edge_cpu: usize,
    /// CPU of load generators and origin
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Where `bailey` and `bailey-worker` are; beside this program when left out
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if args.edge_cpu == args.load_cpu {
        bail!("--edge-cpu and --load-cpu are both {}: an edge is measured on a CPU of its own", args.edge_cpu);
    }
    let rounds = if args.quick { 2 } else { args.rounds };
    let effort = if args.quick { workload::Effort::Quick } else { workload::Effort::Full };
    let lab = Lab::new(args.edge_cpu, args.load_cpu, args.programs.as_deref())?;
    let report = measure::all(&lab, &products(args), &workloads(args), rounds, effort)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        println!("{}", report.text());
    }
    if !report.failures.is_empty() {
        bail!("{} rounds failed", report.failures.len());
    }
    Ok(())
}

fn products(args: &Args) -> Vec<Product> {
    let every = [Product::Nginx, Product::Haproxy, Product::Bailey];
    every
        .into_iter()
        .filter(|p| args.only.is_empty() || args.only.contains(p))
        .filter(|p| !args.peers_only || *p != Product::Bailey)
        .collect()
}

fn workloads(args: &Args) -> Vec<Workload> {
    Workload::ALL.into_iter().filter(|w| args.workload.is_empty() || args.workload.contains(w)).collect()
}
