//! What a client sends, byte by byte, and what a backend sees of it: either nothing, and the connection ends, or exactly
//! the requests that everybody reads in it. The judge is a recorder that takes nothing that could be read in another
//! way; then nginx, Apache and HAProxy, which must count what was sent.

mod h2;
mod http1;
mod peers;
mod recorder;
mod site;
mod slow;
mod vectors;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = http1::tests();
    tests.extend(peers::tests());
    tests.extend(h2::tests());
    tests.extend(slow::tests());
    lb_tests::harness::main(tests)
}
