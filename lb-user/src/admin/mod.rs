//! The admin socket: HTTP and JSON on a Unix socket. The daemon serves it, the command line asks it, and both take
//! their words from [`api`].

pub mod api;
mod api_certificates;
mod api_changes;
mod api_forward;
mod api_health;
mod api_sessions;
mod api_status;
mod api_tools;
pub mod bounds;
mod changes;
pub mod client;
mod peer;
mod refused;
mod room;
mod router;
mod server;
mod sessions;
mod socket;
#[cfg(test)]
mod tests;
mod trace;
pub mod view;
pub mod view_certificates;
mod view_forward;
mod view_health;
mod view_names;
mod view_top;
mod watch;

pub use changes::file_digest;
pub use room::Room;
pub use server::serve;
pub use socket::{AdminSocket, SocketAccess, SocketError};
pub(crate) use socket::{GROUP, HandOn};

/// Where the daemon listens and the command line connects, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/bailey/admin.sock";
