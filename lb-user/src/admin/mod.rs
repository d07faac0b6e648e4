//! The admin socket: HTTP and JSON on a Unix socket. The daemon serves it, the command line asks it, and both take
//! their words from [`api`].

pub mod api;
mod api_certificates;
mod api_forward;
mod api_sessions;
pub mod client;
mod server;
mod sessions;
mod socket;
#[cfg(test)]
mod tests;
pub mod view;
pub mod view_certificates;
mod view_forward;
mod watch;

pub use server::serve;
pub(crate) use socket::HandOn;
pub use socket::{AdminSocket, SocketError};

/// Where the daemon listens and the command line connects, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/bailey/admin.sock";
