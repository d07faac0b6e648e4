//! TLS as other people's programs see it: openssl, GnuTLS, curl, scanners, nginx, an OCSP responder.
//!
//! An edge on loopback with the `sockets` datapath: packets do not matter here.

mod clients;
mod files;
mod handshakes;
mod scanners;
mod secrets;
mod site;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    tests.extend(handshakes::tests());
    tests.extend(clients::tests());
    tests.extend(files::tests());
    tests.extend(secrets::tests());
    tests.extend(scanners::tests());
    lb_tests::harness::main(tests)
}
