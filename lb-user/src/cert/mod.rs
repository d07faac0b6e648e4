//! Certificates and keys as files: read, put in order, made, shown. The config reads its certificates by it, and
//! `bailey cert` is made of it.
//!
//! [`blocks`], [`chain`], [`facts`], [`pair`] and [`pkcs12`] take bytes and give values or errors; they open nothing and
//! never panic.

pub mod blocks;
pub mod chain;
mod facts;
pub mod pair;
pub mod pkcs12;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use facts::printable;
pub use facts::{Facts, KeyKind, rfc3339};
