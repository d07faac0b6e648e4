//! What is written of requests, and how answers are made smaller, with real clients.
//!
//! An edge on loopback with the `sockets` datapath: packets do not matter here.

mod access;

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_tests::harness::main(access::tests())
}
