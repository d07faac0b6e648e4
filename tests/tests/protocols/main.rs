//! What comes before and around requests, by real peers: PROXY headers, proxies in front, bytes without TLS, limits of
//! clients, WebSocket over HTTP/2, gRPC, `Expect`, and very many requests.
//!
//! An edge on loopback with the `sockets` datapath: packets do not matter here.

mod bytes;
mod clients;
mod expect;
mod grpc;
mod limits;
mod soak;
mod websocket;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    tests.extend(clients::tests());
    tests.extend(bytes::tests());
    tests.extend(limits::tests());
    tests.extend(expect::tests());
    tests.extend(websocket::tests());
    tests.extend(grpc::tests());
    tests.extend(soak::tests());
    lb_tests::harness::main(tests)
}
