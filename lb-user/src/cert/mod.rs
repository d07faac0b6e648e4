//! Certificates and keys as files: read, put in order, made, shown. The config reads its certificates by it, and
//! `bailey cert` is made of it.
//!
//! Everything here takes bytes and gives values or errors; it opens nothing and never panics.
//!
//! | room | what it does |
//! | --- | --- |
//! | [`blocks`] | PEM and DER to objects |
//! | [`pkcs12`] | archives, read and written |
//! | [`chain`] | order, roots, what is missing |
//! | [`pair`] | a certificate with its key |
//! | [`public`] | private keys seen from outside |
//! | [`make`], [`inspect`], [`convert`] | what the command line does with files |

pub mod blocks;
pub mod chain;
pub mod convert;
mod facts;
pub mod inspect;
pub mod make;
pub mod pair;
pub mod pkcs12;
pub mod public;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use facts::printable;
pub use facts::{Facts, KeyKind, rfc3339};
