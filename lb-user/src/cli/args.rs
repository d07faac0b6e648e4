//! What can be typed.

use super::again;
use super::args_cert::CertFileVerb;
use super::args_change::{ChangeVerb, Unless};
use super::args_session::SessionVerb;
use super::args_tools::{ImportVerb, TopArgs, TraceArgs};
use crate::admin::DEFAULT_SOCKET;
use crate::config::{backend_address, is_name, period, prefix};
use crate::datapath::Protocol;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What `bailey --help` and the manual say at the end.
const AFTER: &str = "\
Exit codes: 0 done, 1 refused or unhealthy, 2 wrong arguments.

The daemon is reached by its Unix socket: --socket, or BAILEY_SOCKET. NO_COLOR turns colours off.";

#[derive(Debug, Parser)]
#[command(
    name = "bailey",
    version,
    about = "Edge load balancer and TLS terminator: XDP in front, pinned workers behind",
    after_long_help = AFTER
)]
pub(super) struct Cli {
    /// Admin socket of the daemon
    #[arg(long, global = true, env = "BAILEY_SOCKET", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub(super) socket: PathBuf,

    /// Print JSON for programs
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Colours: on a terminal alone, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub(super) color: clap::ColorChoice,

    /// Show it again every so many seconds (2); for what lists or shows
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, default_missing_value = again::PERIOD, value_parser = again::period)]
    pub(super) watch: Option<Duration>,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum Verb {
    /// Run the edge in the foreground
    Run {
        /// Config file
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// Take the place of the control plane that started this one, over standard input
        #[arg(long, hide = true)]
        take_over: bool,
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
    /// Routes of a config file
    #[command(subcommand)]
    Route(RouteVerb),
    /// Pools and their backends
    #[command(subcommand)]
    Pool(PoolVerb),
    /// Clients that a pool's persistence knows
    #[command(subcommand)]
    Session(SessionVerb),
    /// Certificates
    #[command(subcommand)]
    Cert(CertVerb),
    /// Which worker or backend a flow goes to, and why
    Flow {
        /// Client, IP:PORT
        source: SocketAddr,
        /// Service, IP:PORT, IP:PORT/tcp or IP:PORT/udp
        #[arg(value_parser = destination)]
        destination: Destination,
    },
    /// Who is kept out
    #[command(subcommand)]
    Deny(DenyVerb),
    /// Dropped packets, live: one in many, one line each
    Watch {
        /// Of this service only
        #[arg(long, value_parser = name)]
        service: Option<String>,
        /// With this verdict only, as in bailey_packets_total
        #[arg(long)]
        verdict: Option<String>,
        /// End after so many
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// On a backend's host: take off the outer header of packets that an edge sent by "ipip", in the foreground
    Decap {
        /// Interface that they come in by
        #[arg(long)]
        interface: String,
        /// Address of a service; made local to this host while this runs
        #[arg(long = "address", required = true, num_args = 1.., value_parser = vip)]
        addresses: Vec<IpAddr>,
        /// Attach in the stack, not in the driver
        #[arg(long)]
        generic: bool,
    },
    /// Services, pools and backends by what they do now
    Top(TopArgs),
    /// The way of a client's packets and request through the edge, step by step; exit code 1 when it does not arrive
    Trace(TraceArgs),
    /// Whether this host can be an edge: kernel, BPF, capabilities, limits, settings, interfaces, files, clock, state, daemon
    Doctor {
        /// Config file; otherwise /etc/bailey/bailey.toml where it is there
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    #[command(flatten)]
    Change(ChangeVerb),
    /// Read the config file again: all of it, or none
    Reload {
        #[command(flatten)]
        unless: Unless,
    },
    /// Have a new control plane, and new workers, take over; when they do not become ready, nothing has changed
    Upgrade {
        /// Its program, instead of the file that the running one was started from
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// For it to become ready
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = upgrade_time)]
        timeout: Duration,
    },
    /// Make a config of another product's
    #[command(subcommand)]
    Import(ImportVerb),
    /// Print completions for a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write the manual's pages, one for each verb
    Man {
        /// Directory to write them to, made if it is missing
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Debug, Clone, Subcommand)]
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

#[derive(Debug, Clone, Subcommand)]
pub(super) enum RouteVerb {
    /// Which route takes a request; exit code 1 when none does. Nobody is asked but the file
    Test(RouteTest),
}

#[derive(Debug, Clone, Args)]
pub(super) struct RouteTest {
    /// Config file
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Service
    #[arg(value_parser = name)]
    pub(super) service: String,
    /// GET, POST, ...
    pub(super) method: String,
    /// https://HOST/PATH?QUERY
    pub(super) url: hyper::Uri,
    /// A header, 'NAME: VALUE'
    #[arg(long = "header", short = 'H', value_parser = header)]
    pub(super) headers: Vec<(String, String)>,
    /// Address of the client, which shows no certificate
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) client: IpAddr,
    /// Name that it asks for by SNI; otherwise the URL's host
    #[arg(long)]
    pub(super) sni: Option<String>,
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write 'NAME: VALUE'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum CertVerb {
    /// All certificates that the daemon has
    List,
    /// One of them
    Show {
        /// Certificate
        #[arg(value_parser = name)]
        name: String,
    },
    /// Read the files of certificates, authorities, revocation lists and ticket keys again; exit code 1 when one of
    /// them cannot be used
    Reload,
    #[command(flatten)]
    Files(CertFileVerb),
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum DenyVerb {
    /// Deny a network; in place of the rule that it has
    Add {
        /// Network or address
        #[arg(value_parser = prefix)]
        network: IpNet,
        /// Let it through instead: neither denied by a shorter prefix nor limited by rate
        #[arg(long)]
        allow: bool,
        /// For this service only
        #[arg(long, value_parser = name)]
        service: Option<String>,
        /// For so long, such as 10m or 1h
        #[arg(long = "for", value_name = "TIME", value_parser = period)]
        period: Option<Duration>,
        #[command(flatten)]
        unless: Unless,
    },
    /// Remove a rule that was added at run time; what the file says holds again
    Remove {
        /// Network or address
        #[arg(value_parser = prefix)]
        network: IpNet,
        /// Of this service
        #[arg(long, value_parser = name)]
        service: Option<String>,
        #[command(flatten)]
        unless: Unless,
    },
    /// All rules: those of run time, then the file's
    List {
        /// Of this service only
        #[arg(long, value_parser = name)]
        service: Option<String>,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum PoolVerb {
    /// All pools
    List,
    /// One pool with its backends
    Show {
        /// Pool
        #[arg(value_parser = name)]
        name: String,
    },
    /// Add a backend
    Add {
        #[command(flatten)]
        at: At,
        /// Share of the requests, 1 to 256
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
        weight: Option<u16>,
    },
    /// Remove a backend; what is in flight has the pool's `drain_timeout`
    Remove {
        #[command(flatten)]
        at: At,
    },
    /// No new request to a backend; what is in flight has its time, and is cut then
    Drain {
        #[command(flatten)]
        at: At,
        /// Wait until nothing is in flight, and forwarded services have sent it nothing for two seconds; tell what is left
        #[arg(long)]
        wait: bool,
        /// What is in flight is cut after so long, such as 30s or 5m; a number alone is seconds [default: the pool's
        /// `drain_timeout`]
        #[arg(long, value_name = "TIME", value_parser = drain_time)]
        timeout: Option<Duration>,
    },
    /// Requests to a backend again, after drain or disable
    Enable {
        #[command(flatten)]
        at: At,
    },
    /// No request to a backend, not even of clients that are kept; what is in flight has the pool's `drain_timeout`
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

#[derive(Debug, Clone, Args)]
pub(super) struct At {
    /// Pool
    #[arg(value_parser = name)]
    pub(super) pool: String,
    /// Backend, IP:PORT
    #[arg(value_parser = backend_address)]
    pub(super) address: SocketAddr,
    #[command(flatten)]
    pub(super) unless: Unless,
}

pub(super) fn name(text: &str) -> Result<String, String> {
    is_name(text).then(|| text.to_owned()).ok_or_else(|| "a name is letters, digits, `-`, `_` and `.`".into())
}

/// Where a flow leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
}

pub(super) fn destination(text: &str) -> Result<Destination, String> {
    let (address, protocol) = match text.rsplit_once('/') {
        Some((address, "tcp")) => (address, Protocol::Tcp),
        Some((address, "udp")) => (address, Protocol::Udp),
        Some((_, other)) => return Err(format!("{other:?} is no protocol that services have; write /tcp or /udp")),
        None => (text, Protocol::Tcp),
    };
    let help = "write IP:PORT/tcp or IP:PORT/udp, such as 192.0.2.1:443/tcp";
    address.parse().map(|address| Destination { address, protocol }).map_err(|_| help.into())
}

fn vip(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        _ => Err("write the IP address of a service".into()),
    }
}

/// At most a day; 0: at once.
fn drain_time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => period(text)?,
    };
    (time <= Duration::from_secs(86_400)).then_some(time).ok_or_else(|| "a drain takes a day at the most".into())
}

/// The daemon's answer must come before the command line gives up.
fn upgrade_time(text: &str) -> Result<Duration, String> {
    let time = period(text)?;
    let most = Duration::from_secs(60);
    if time <= most { Ok(time) } else { Err(format!("write a time up to {}s", most.as_secs())) }
}
