//! What the tests stand on: the real program behind its control socket ([`process`]), scripted backends
//! ([`backend`]), clients ([`client`]) and their first words ([`hello`]), snapshots ([`snap`]) and certificates
//! ([`tls`], [`ca`]).

pub(crate) mod backend;
pub(crate) mod ca;
pub(crate) mod client;
pub(crate) mod hello;
pub(crate) mod process;
pub(crate) mod snap;
pub(crate) mod tls;

use std::time::Duration;

/// Everything that a test waits for comes within this, or the test fails.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Wait for something with [`LONG`] as its deadline.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LONG, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: did not come to pass within {LONG:?}"),
    }
}

/// Ask again and again until it is so.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
