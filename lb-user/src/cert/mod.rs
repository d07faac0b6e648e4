//! Certificates and keys as files: read, put in order, made, shown. The config reads its certificates by it, and
//! `bailey cert` is made of it.
//!
//! Bytes in, values or errors out, wherever that can be: [`blocks`], [`pkcs12`], [`chain`] and [`facts`] open nothing.

mod facts;

pub use facts::{Facts, KeyKind, rfc3339};
