//! Words of compression: which answers are made smaller on their way to clients.

use serde::{Deserialize, Serialize};

/// Answers that are compressed. None of what says otherwise itself is: see the worker's `http/compress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compression {
    /// In the order of preference, where a client takes several equally well.
    pub codings: Vec<Coding>,
    /// Media types, lower case, such as `text/html` or `text/*`.
    pub types: Vec<String>,
    /// Bodies that say to be shorter are left alone, bytes.
    pub min_size: u32,
    /// Answers that one thread compresses at once; more go as they are.
    pub at_once: u32,
}

/// Content codings (IANA registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// RFC 1952
    Gzip,
    /// RFC 7932
    Br,
    /// RFC 8878, with the window of RFC 9659
    Zstd,
}

/// Every coding.
pub const ALL_CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

impl Coding {
    /// As HTTP names it.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Br => "br",
            Coding::Zstd => "zstd",
        }
    }
}
