//! `cargo xtask bench`: release builds, then the measuring programs of the tests' package.

use anyhow::Result;

use crate::{child, demo, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure; all when left out
    what: Option<What>,
    /// Arguments of the measuring program, such as --quick or --json
    #[arg(last = true)]
    rest: Vec<String>,
    /// Fewer and shorter rounds: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum What {
    /// CPU time per request, beside nginx and HAProxy
    L7,
    /// Nanoseconds a packet, beside an empty program
    Packets,
    /// Nanoseconds a packet with up to a million flows, beside an empty program and nftables
    L4,
    /// Microseconds a handshake in the server's cryptography, by ring and by aws-lc-rs
    Crypto,
}

/// Build once, measure one after the other: they must not share the CPUs.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Args::default())?;
    let programs: &[&str] = match args.what {
        Some(What::L7) => &["bench-l7"],
        Some(What::Packets) => &["bench-packets"],
        Some(What::L4) => &["bench-l4"],
        Some(What::Crypto) => &["bench-crypto"],
        None => &["bench-l7", "bench-packets", "bench-l4", "bench-crypto"],
    };
    demo::build(programs, "release")?;
    for program in programs {
        let mut bench = child::built("release", program)?;
        bench.args(args.quick.then_some("--quick")).args(args.json.then_some("--json")).args(&args.rest);
        child::run(&mut bench, "see what it says above")?;
    }
    Ok(())
}
