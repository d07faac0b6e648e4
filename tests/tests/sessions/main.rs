//! Persistence, with real backends (nginx), real clients (curl and its cookie jars), several edges and workers that die.
//!
//! An edge on loopback with the `sockets` datapath: packets do not matter here.

mod cookies;
mod site;
mod tables;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    tests.extend(cookies::tests());
    tests.extend(tables::tests());
    lb_tests::harness::main(tests)
}
