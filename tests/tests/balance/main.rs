//! Pools with nginx as backends, under load: one that is killed, bounds and queues, HTTP/2 with its settings and GOAWAYs,
//! keys. An edge on loopback with the `sockets` datapath.

mod load;
mod site;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Each takes all that the machine has.
    lb_tests::harness::one_by_one(load::tests())
}
