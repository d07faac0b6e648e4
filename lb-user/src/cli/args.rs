//! What can be typed.

use crate::admin::DEFAULT_SOCKET;
use crate::config::{backend_address, is_name};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(
    name = "bailey",
    version,
    about = "Edge load balancer and TLS terminator: XDP in front, pinned workers behind"
)]
pub(super) struct Cli {
    /// Admin socket of the daemon
    #[arg(long, global = true, env = "BAILEY_SOCKET", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub(super) socket: PathBuf,

    /// Print JSON for programs
    #[arg(long, global = true)]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the edge in the foreground
    Run {
        /// Config file
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print every problem of a config file
    Check {
        /// Config file
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// The edge at a glance; exit code 1 when it is unhealthy
    Status,
    /// Services
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Pools and their backends
    #[command(subcommand)]
    Pool(PoolVerb),
    /// Which worker and CPU a TCP flow goes to
    Flow {
        /// Client, IP:PORT
        source: SocketAddr,
        /// Service, IP:PORT/tcp
        #[arg(value_parser = destination)]
        destination: SocketAddr,
    },
    /// Read the config file again: all of it, or none
    Reload,
    /// Print completions for a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceVerb {
    /// All services
    List,
    /// One service
    Show {
        /// Service
        #[arg(value_parser = name)]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PoolVerb {
    /// All pools
    List,
    /// One pool with its backends
    Show {
        /// Pool
        #[arg(value_parser = name)]
        name: String,
    },
    /// Add a backend until the daemon ends
    Add {
        #[command(flatten)]
        at: At,
        /// Share of the requests, 1 to 256
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
        weight: Option<u16>,
    },
    /// Remove a backend; requests in flight go on
    Remove {
        #[command(flatten)]
        at: At,
    },
    /// No new request to a backend; requests in flight go on
    Drain {
        #[command(flatten)]
        at: At,
        /// Wait until no request is in flight
        #[arg(long)]
        wait: bool,
        /// Seconds to wait at the most
        #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
        timeout: Duration,
    },
    /// Requests to a backend again, after drain or disable
    Enable {
        #[command(flatten)]
        at: At,
    },
    /// No request to a backend
    Disable {
        #[command(flatten)]
        at: At,
    },
    /// Another share of the requests
    Weight {
        #[command(flatten)]
        at: At,
        /// 1 to 256
        #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
        weight: u16,
    },
}

#[derive(Debug, Args)]
pub(super) struct At {
    /// Pool
    #[arg(value_parser = name)]
    pub(super) pool: String,
    /// Backend, IP:PORT
    #[arg(value_parser = backend_address)]
    pub(super) address: SocketAddr,
}

fn name(text: &str) -> Result<String, String> {
    is_name(text).then(|| text.to_owned()).ok_or_else(|| "a name is letters, digits, `-`, `_` and `.`".into())
}

fn destination(text: &str) -> Result<SocketAddr, String> {
    let address = match text.rsplit_once('/') {
        Some((address, "tcp")) => address,
        Some((_, protocol)) => return Err(format!("{protocol:?} flows go to no worker; write IP:PORT/tcp")),
        None => text,
    };
    address.parse().map_err(|_| "write IP:PORT/tcp, such as 192.0.2.1:443/tcp".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "write whole seconds".into())
}
