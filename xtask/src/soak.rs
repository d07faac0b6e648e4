//! `cargo xtask soak`: the soak of the protocols' tests, as long as one likes.

use anyhow::Result;

use crate::{child, demo, setup};

/// Name of the test in tests/tests/protocols/soak.rs.
const TEST: &str = "very_many_requests_have_no_unexpected_code_and_leave_memory_as_it_was";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many requests
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Without optimisation: soon built
    #[arg(long)]
    debug: bool,
}

/// Build, then run that one test.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Args::default())?;
    let profile = if args.debug { "dev" } else { "release" };
    demo::build(&[], profile)?;
    let mut command = child::cargo(["test", "-p", "lb-tests", "--test", "protocols"]);
    command.args((!args.debug).then_some("--release")).env("SOAK_REQUESTS", args.requests.to_string());
    command.args(["--", "--exact", TEST, "--nocapture"]);
    child::run(&mut command, "see what it says above")
}
