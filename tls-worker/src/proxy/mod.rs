//! The PROXY protocol (HAProxy's proxy-protocol.txt): `header` reads one out of bytes and is pure, `receive` has it
//! before anything else of a client's connection, `send` makes the one that backends get.

mod header;
mod receive;
pub(crate) mod send;

pub use header::{ProxyFault, Read, Told, read};
pub(crate) use receive::{ProxyRules, receive};
