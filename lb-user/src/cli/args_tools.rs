//! What can be typed after `bailey top`, `trace` and `import`.

use super::again;
use super::args_cert::Output;
use crate::datapath::Protocol;
use clap::{Args, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Args)]
pub(super) struct TopArgs {
    /// Seconds between two looks, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = again::period)]
    pub(super) every: Duration,
    /// Once: the rates of one such time, then the end
    #[arg(long)]
    pub(super) once: bool,
    /// What stands at the top
    #[arg(long, value_enum, default_value = "requests")]
    pub(super) sort: Sort,
}

/// What stands at the top of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Most requests, or packets, a second
    Requests,
    /// Most errors a second
    Errors,
    /// Longest time to an answer
    Time,
    /// Names
    Name,
}

#[derive(Debug, Clone, Args)]
pub(super) struct TraceArgs {
    /// Client, IP or IP:PORT; with its port, what depends on it is told, too
    #[arg(value_parser = client)]
    pub(super) client: SocketAddr,
    /// What it asks for: https://HOST/PATH?QUERY; or a service, IP:PORT, IP:PORT/udp
    #[arg(value_parser = target)]
    pub(super) target: Target,
    /// Method
    #[arg(long, short = 'X', default_value = "GET")]
    pub(super) method: String,
    /// A header, 'NAME: VALUE'
    #[arg(long = "header", short = 'H', value_parser = super::args::header)]
    pub(super) headers: Vec<(String, String)>,
    /// Name that it asks for by SNI; otherwise the URL's host
    #[arg(long)]
    pub(super) sni: Option<String>,
    /// Address that it connects to; otherwise the one service at the URL's port, or what the host's name is looked up as
    #[arg(long, value_name = "IP[:PORT]", value_parser = client)]
    pub(super) to: Option<SocketAddr>,
    /// Then tell of packets of this client that are dropped, live
    #[arg(long)]
    pub(super) live: bool,
    /// End that after so many seconds
    #[arg(long = "for", value_name = "SECONDS", requires = "live", value_parser = again::period)]
    pub(super) period: Option<Duration>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// By HTTP.
    Url(hyper::Uri),
    /// A connection or a datagram.
    Service(SocketAddr, Protocol),
}

fn client(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    alone.or_else(|_| text.parse()).map_err(|_| "write IP or IP:PORT, such as 203.0.113.7 or [2001:db8::7]:5000".into())
}

fn target(text: &str) -> Result<Target, String> {
    if !text.contains("://") {
        let super::args::Destination { address, protocol } = super::args::destination(text)?;
        return Ok(Target::Service(address, protocol));
    }
    let uri: hyper::Uri = text.parse().map_err(|error| format!("{error}"))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some() => Ok(Target::Url(uri)),
        _ => Err("write http:// or https://, a host and a path".into()),
    }
}

/// Whose config is read.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum ImportVerb {
    /// A NetScaler's configuration (ns.conf), as a config of Bailey; what cannot be carried over is told by line
    Netscaler {
        /// The file
        #[arg(value_name = "NS.CONF")]
        input: PathBuf,
        #[command(flatten)]
        to: Output,
    },
}
