//! `cargo xtask demo`: build, then the demo program of the tests' package.

use anyhow::Result;

use crate::{child, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave everything up until Ctrl-C, and print commands to play with
    #[arg(long)]
    stay: bool,
}

/// Set up, build, show.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Args::default())?;
    build(&["demo"], "dev")?;
    let mut demo = child::built("debug", "demo")?;
    child::run(demo.args(args.stay.then_some("--stay")), "the step that did not hold is named above")
}

/// The edge's two programs and these of the tests' package, in one go so that nothing is compiled twice.
pub(crate) fn build(programs: &[&str], profile: &str) -> Result<()> {
    let mut command = child::cargo(["build", "--profile", profile, "--workspace", "--exclude", "lb-ebpf"]);
    for program in ["bailey", "bailey-worker"].iter().chain(programs) {
        command.args(["--bin", program]);
    }
    child::run(&mut command, "mend what the compiler says")
}
