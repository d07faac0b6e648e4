//! Everything a person types to develop Bailey: `cargo xtask setup`, `demo`, `test`, `lint`, `soak`, `bench`, `dist`.
//!
//! It knows no other crate of the workspace: what it runs, it runs as a child process whose output is streamed.
#![forbid(unsafe_code)]

mod bench;
mod child;
mod demo;
mod dist;
mod lint;
mod setup;
mod soak;
mod suite;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Develop Bailey.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make this Debian or Ubuntu machine able to build the kernel half and to run demo, tests and bench
    Setup(setup::Args),
    /// Run an edge in network namespaces and show what it does
    Demo(demo::Args),
    /// Run every check and test; ends with one line "N passed, N failed, N skipped"
    Test(suite::Args),
    /// Format, lints, licences
    Lint,
    /// Send very many requests through an edge, and see that each is answered and no memory is kept
    Soak(soak::Args),
    /// Measure beside nginx and HAProxy, and the packet path beside an empty program
    Bench(bench::Args),
    /// Make a Debian package
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args).map(|()| true),
        Verb::Demo(args) => demo::run(&args).map(|()| true),
        Verb::Test(args) => suite::run(&args),
        Verb::Lint => lint::run().map(|()| true),
        Verb::Soak(args) => soak::run(&args).map(|()| true),
        Verb::Bench(args) => bench::run(&args).map(|()| true),
        Verb::Dist(args) => dist::run(&args).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
