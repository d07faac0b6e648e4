//! Persistence: clients that come again go to the backend that they had.

use super::tls_words::Secret;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// How a pool's clients are known again, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Persistence {
    /// By what.
    pub by: PersistBy,
    /// A client that was silent for so long is a new one.
    pub timeout: Duration,
    /// Entries of the table; cookies need none.
    pub max_entries: u32,
    /// A backend that drains keeps its clients for so long.
    pub drain_timeout: Duration,
}

/// What a client is known again by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersistBy {
    /// Its address, of which so many bits count.
    Source {
        /// Of an IPv4 address, 1 to 32.
        v4: u8,
        /// Of an IPv6 address, 1 to 128.
        v6: u8,
    },
    /// A cookie that the edge sets: sealed, so that no table is needed.
    Cookie(SessionCookie),
    /// A cookie of this name that the application sets.
    AppCookie(String),
    /// What a text with variables gives; undefined or empty: the request is nobody's.
    Key {
        /// [`super::vars::Template`].
        text: String,
        /// It may be a credential: the table keeps its digest.
        secret: bool,
    },
}

/// The cookie that the edge sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionCookie {
    /// Name.
    pub name: String,
    /// `Path`.
    pub path: String,
    /// `Domain`; none: the host that was asked alone.
    pub domain: Option<String>,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Max-Age`; none: it ends with the browser's session.
    pub max_age: Option<Duration>,
    /// Whether scripts are kept from it.
    pub http_only: bool,
    /// `Secure`; none: as the client's connection is.
    pub secure: Option<bool>,
    /// Keys that it is sealed with, the first for new ones; empty: those of session tickets.
    pub keys: Vec<Secret>,
}

/// RFC 6265bis, 4.1.2.7
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// `Strict`
    Strict,
    /// `Lax`
    Lax,
    /// `None`
    None,
}

/// An entry of a pool's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Key, in printable ASCII.
    pub key: String,
    /// Backend that it is pinned to.
    pub backend: SocketAddr,
    /// Milliseconds since it was used.
    pub idle_ms: u64,
}

/// What became of entries of one pool since the last message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionChanges {
    /// Pool.
    pub pool: String,
    /// New, moved, or used again.
    pub set: Vec<Session>,
    /// Gone.
    pub removed: Vec<String>,
}

/// Which entries of a pool are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClearSessions {
    /// Of a key: as it is listed, or as clients say it.
    Key(String),
    /// Of a backend.
    Backend(SocketAddr),
    /// All.
    All,
}
