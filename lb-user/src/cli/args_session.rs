//! What can be typed after `bailey session`.

use super::args::name;
use crate::admin::api::{MAX_SESSIONS_LISTED, SESSIONS_LISTED};
use crate::config::backend_address;
use clap::Subcommand;
use std::net::SocketAddr;

#[derive(Debug, Clone, Subcommand)]
pub(super) enum SessionVerb {
    /// Clients that a pool's persistence knows, in the order of their keys
    List {
        /// Pool
        #[arg(value_parser = name)]
        pool: String,
        /// So many at most
        #[arg(long, default_value_t = SESSIONS_LISTED as u32, value_parser = clap::value_parser!(u32).range(1..=MAX_SESSIONS_LISTED as i64))]
        limit: u32,
        /// Those after this key
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
    },
    /// Forget clients: their next request is balanced anew
    #[command(group(clap::ArgGroup::new("which").required(true)))]
    Clear {
        /// Pool
        #[arg(value_parser = name)]
        pool: String,
        /// This one: its key as it is listed, or as the client says it
        #[arg(group = "which")]
        key: Option<String>,
        /// Those of this backend, IP:PORT
        #[arg(long, group = "which", value_name = "ADDRESS", value_parser = backend_address)]
        backend: Option<SocketAddr>,
        /// All of them
        #[arg(long, group = "which")]
        all: bool,
    },
}
