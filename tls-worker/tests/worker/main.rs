//! The real program, met as its neighbours meet it: by its control socket, by clients, by backends. Each test has a
//! process of its own; nothing waits for a fixed time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod adoption;
mod authorizers;
mod backends;
mod balance;
mod calls;
mod client_certs;
mod compression;
mod control;
mod drain;
mod edges;
mod guards;
mod h2_upstream;
mod http;
mod logs;
mod mirrors;
mod misdirected;
mod ocsp;
mod overload;
mod passthrough;
mod queue;
mod retry;
mod routes;
mod sessions;
mod streams;
mod timeouts;
mod tls;
mod tls_mode;
mod upstream_tls;

/// Run a test on a runtime whose tasks stay on its thread.
pub(crate) fn local(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).unwrap();
    runtime.block_on(test);
}
