//! Health checks of real servers (nginx, OpenLDAP, dnsmasq, gRPC's own server, the kernel's echo), and what comes of them: backends that
//! flap, shared checks, answers beside checks. An edge on loopback with the `sockets` datapath.

mod kinds;
mod life;
mod servers;
mod site;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = kinds::tests();
    tests.extend(life::tests());
    lb_tests::harness::main(tests)
}
