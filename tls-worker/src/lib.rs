//! Bailey's worker: pinned threads that end TLS, look at the HTTP, and hand each request to a backend.
//!
//! The control plane knows [`api`] only. What else is here is used by the `bailey-worker` binary: [`confine`] takes
//! from the process what it has no use for, [`control`] speaks with the control plane and keeps the threads. A thread shares nothing with another one but immutable snapshots.
//! This crate knows neither BPF nor files: all it has comes over one socket.
#![forbid(unsafe_code)]

pub mod api;
pub mod confine;
pub mod control;

mod accept;
mod clock;
mod compile;
mod conn;
mod drain;
mod handshakes;
mod http;
mod io;
mod limits;
mod log;
mod networks;
mod overload;
mod persist;
mod pipeline;
mod proxy;
mod stats;
mod stream;
mod thread;
mod tls;
mod upstream;
mod vars;
mod view;
mod watchdog;
