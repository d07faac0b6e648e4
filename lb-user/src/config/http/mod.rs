//! What only requests have: words of routes, limits, sessions, callouts and the log.

pub(super) mod clients;
