//! What a service asks of requests before it looks for a route: the policy of paths, and limits.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What becomes of something in a path that others read in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRule {
    /// The request is refused.
    Reject,
    /// It is put into the form that has one meaning; routes and backends see that one.
    #[default]
    Normalize,
    /// Routes and backends see it as it came.
    Keep,
}

/// What becomes of a path. Queries are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathPolicy {
    /// `.` and `..`, written with `%2e` or not.
    pub dot_segments: PathRule,
    /// `//`.
    pub double_slashes: PathRule,
    /// `%2F`, `%5C` and the backslash; normalised they are a slash.
    pub encoded_slashes: PathRule,
    /// What needs no `%`, such as `%61`, is written without. Malformed triples and control characters are refused,
    /// unless everything is kept.
    pub percent_encoding: PathRule,
}

impl Default for PathPolicy {
    fn default() -> Self {
        PathPolicy {
            dot_segments: PathRule::Normalize,
            double_slashes: PathRule::Normalize,
            encoded_slashes: PathRule::Keep,
            percent_encoding: PathRule::Normalize,
        }
    }
}

/// Bounds of what a client may send, and how slowly. Zero stands for no bound where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpLimits {
    /// Header of a request, bytes; of HTTP/2 as RFC 9113, 6.5.2 counts them.
    pub header_bytes: u32,
    /// Fields of a header.
    pub header_fields: u32,
    /// Request target, bytes.
    pub uri_bytes: u32,
    /// Body of a request, bytes; 0: no bound.
    pub body_bytes: u64,
    /// The longest silence in a body.
    pub body_idle: Duration,
    /// Bytes a second: of a body while it is waited for, of an answer while the client does not take it; 0: no bound.
    pub min_rate: u32,
    /// That rate is asked for when it was waited for so long.
    pub min_rate_grace: Duration,
    /// Requests of one connection; 0: no bound.
    pub requests_per_connection: u32,
    /// Age of a connection that gets no more requests; zero: no bound.
    pub connection_age: Duration,
    /// Of HTTP/2.
    pub http2: Http2Limits,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            header_bytes: 64 << 10,
            header_fields: 100,
            uri_bytes: 8 << 10,
            body_bytes: 0,
            body_idle: Duration::from_secs(30),
            min_rate: 240,
            min_rate_grace: Duration::from_secs(10),
            requests_per_connection: 0,
            connection_age: Duration::ZERO,
            http2: Http2Limits::default(),
        }
    }
}

/// Bounds of one HTTP/2 connection. Frames are counted by the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Http2Limits {
    /// Requests at once.
    pub streams: u32,
    /// How long a client may let nothing through to a stream that has something to send; zero: no bound.
    pub stall: Duration,
    /// RST_STREAM.
    pub resets: u32,
    /// PING; also frames of unknown types.
    pub pings: u32,
    /// SETTINGS.
    pub settings: u32,
    /// CONTINUATION.
    pub continuations: u32,
    /// DATA without data that does not end a stream.
    pub empty_data: u32,
    /// PRIORITY.
    pub priorities: u32,
    /// WINDOW_UPDATE, beside one for each 16 bytes that were sent.
    pub window_updates: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Http2Limits {
            streams: 128,
            stall: Duration::from_secs(60),
            resets: 200,
            pings: 200,
            settings: 20,
            continuations: 100,
            empty_data: 100,
            priorities: 500,
            window_updates: 2000,
        }
    }
}
