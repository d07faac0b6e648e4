//! Bailey worker.
pub mod api;
