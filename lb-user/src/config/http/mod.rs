//! What only requests have: words of routes, limits, sessions, callouts and the log.

pub(super) mod access_log;
pub(super) mod actions;
pub(super) mod authorizer;
pub(super) mod balancing;
pub(super) mod clients;
pub(super) mod compression;
pub(super) mod headers;
pub(super) mod limits;
pub(super) mod matches;
pub(super) mod order;
pub(super) mod persistence;
pub(super) mod redirect;
pub(super) mod resilience;
pub(super) mod text;

use tls_worker::api::Mode;

/// Modes whose connections carry requests.
pub(super) const HTTP: &[Mode] = &[Mode::Http, Mode::Https];

/// Keys of a route that not every mode has.
pub(super) const ROUTE_KEYS: [&str; 26] = [
    "retry",
    "path",
    "path_exact",
    "path_regex",
    "methods",
    "headers",
    "query",
    "cookies",
    "clients",
    "sni",
    "values",
    "any",
    "all",
    "not",
    "pools",
    "mirror",
    "redirect",
    "respond",
    "rewrite",
    "request_headers",
    "response_headers",
    "timeout",
    "response_timeout",
    "max_body",
    "authorizer",
    "compression",
];
