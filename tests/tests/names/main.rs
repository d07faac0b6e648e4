//! Backends that come and go: by DNS, with dnsmasq and with servers that answer badly, and by an operator who drains them
//! while WebSockets, downloads and requests are in flight. An edge on loopback with the `sockets` datapath.

mod dns;
mod drain;
mod site;

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_tests::harness::main(dns::tests().into_iter().chain(drain::tests()).collect())
}
