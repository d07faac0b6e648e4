//! What is done about backends that fail: words of [`super::Pool`] and [`super::Route`].

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When a request is tried again, on a backend that it was not tried on. What may have been done is not done twice: a
/// request that is not idempotent, and any whose body cannot be sent again, is tried again only when no backend took it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Tries in all; 1: no retry.
    pub tries: u32,
    /// After these failures.
    pub on: Vec<RetryOn>,
    /// After answers with these codes.
    pub codes: Vec<u16>,
    /// Whether requests that are not idempotent (RFC 9110, 9.2.2) are tried again like the others.
    pub any_method: bool,
    /// Longest that one try may take to the header of the answer. None: what the timeouts of the pool allow.
    pub try_timeout: Option<Duration>,
    /// Longest body that is remembered to be sent again, bytes.
    pub buffer: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            tries: 2,
            on: vec![RetryOn::Connect, RetryOn::Refused],
            codes: Vec::new(),
            any_method: false,
            try_timeout: None,
            buffer: 0,
        }
    }
}

/// A failure that a retry may help against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// No connection was had, or it was closed before it took the request.
    Connect,
    /// The backend said over HTTP/2 that it did not take the request.
    Refused,
    /// The connection broke before the header of an answer was whole.
    Reset,
    /// No header of an answer by the deadline.
    Timeout,
}

/// How many retries, hedges included, a pool may cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryBudget {
    /// Of the requests, percent.
    pub percent: u8,
    /// Besides, a second.
    pub per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { percent: 20, per_second: 10 }
    }
}

/// A second try beside the first, which goes on: for idempotent requests without a body. The first answer is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hedge {
    /// When there is no header of an answer after so long.
    pub after: Duration,
}

/// When a backend that answers badly is left out for a while. Each worker thread judges by what it saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outliers {
    /// Answers with 5xx in a row, failures included. None: no reason.
    pub errors: Option<u32>,
    /// Answers with 502, 503 or 504 in a row, failures included.
    pub gateway_errors: Option<u32>,
    /// Connections in a row that were not had.
    pub connect_failures: Option<u32>,
    /// The share of good answers of an interval is below the mean of all backends by more than so many thousandths of
    /// the standard deviation.
    pub stdev_factor: Option<u32>,
    /// Requests of an interval that a backend needs to be judged by its share.
    pub min_requests: u32,
    /// From one such judgement to the next.
    pub interval: Duration,
    /// How long the first time; the second time twice as long, and so on.
    pub ejection: Duration,
    /// But never longer.
    pub max_ejection: Duration,
    /// Most of the pool's backends that are left out at once, percent; one may be in any case.
    pub max_percent: u8,
}

impl Default for Outliers {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Outliers {
            errors: None,
            gateway_errors: Some(5),
            connect_failures: Some(5),
            stdev_factor: None,
            min_requests: 100,
            interval: seconds(10),
            ejection: seconds(30),
            max_ejection: seconds(300),
            max_percent: 10,
        }
    }
}
