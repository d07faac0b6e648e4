//! What only requests have: words of routes, limits, sessions, callouts and the log.

pub(super) mod access_log;
pub(super) mod authorizer;
pub(super) mod clients;
pub(super) mod compression;
pub(super) mod limits;
pub(super) mod persistence;
pub(super) mod text;
