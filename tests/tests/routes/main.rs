//! Routes with curl in front and nginx behind: what clients and backends are promised of conditions, redirects, rewrites,
//! shares and mirrors. An edge on loopback with the `sockets` datapath: packets do not matter here.

mod actions;
mod certificates;
mod site;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = actions::tests();
    tests.extend(certificates::tests());
    lb_tests::harness::main(tests)
}
