//! Nothing is lost while everything changes: reloads, upgrades, deaths of workers and of the control plane, each under
//! wrk, h2load and a hundred WebSockets, with counts. An edge on loopback with the `sockets` datapath.

mod control_plane;
mod load;
mod reload;
mod site;
mod upgrade;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Each takes all that the machine has.
    lb_tests::harness::one_by_one(
        [reload::tests(), worker::tests(), upgrade::tests(), control_plane::tests()].into_iter().flatten().collect(),
    )
}
