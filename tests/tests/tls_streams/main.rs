//! Streams and TLS towards backends, by real peers: passthrough, mode `tls`, nginx and haproxy behind the edge.
//!
//! An edge on loopback with the `sockets` datapath: packets do not matter here.

mod badinput;
mod bytes;
mod life;
mod passthrough;
mod peers;
mod upstream;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    tests.extend(passthrough::tests());
    tests.extend(bytes::tests());
    tests.extend(life::tests());
    tests.extend(upstream::tests());
    tests.extend(badinput::tests());
    lb_tests::harness::main(tests)
}
