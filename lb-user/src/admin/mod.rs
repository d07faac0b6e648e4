//! The admin socket: HTTP and JSON on a Unix socket.

/// Where the daemon listens and the command line connects, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/bailey/admin.sock";
