//! What survives: changes of operators and tables of persistence over a kill and a restart, a disk that is full, read-only or
//! damaged, and the admin sockets under those who mean no good.
//!
//! An edge on loopback with the `sockets` datapath: packets do not matter here.

mod admin;
mod damage;
mod disk;
mod site;
mod survive;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    tests.extend(survive::tests());
    tests.extend(disk::tests());
    tests.extend(damage::tests());
    tests.extend(admin::tests());
    lb_tests::harness::main(tests)
}
