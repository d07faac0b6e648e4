//! What of TLS changes while an edge runs: certificates, staples, ticket keys, the state of clients' certificates; and
//! what a crowd of handshakes may not do. An edge on loopback with the `sockets` datapath.

mod guards;
mod ocsp;
mod rotation;
#[path = "../tls/site.rs"]
#[expect(dead_code, reason = "shared with the tests of handshakes")]
mod site;
mod tickets;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    tests.extend(rotation::tests());
    tests.extend(tickets::tests());
    tests.extend(ocsp::tests());
    tests.extend(guards::tests());
    lb_tests::harness::main(tests)
}
