//! What a worker takes and gives: the only part of this crate that the control plane knows.
//!
//! The two processes speak over a Unix stream socket that the worker finds as its standard input: frames of JSON
//! ([`wire`]), the control plane sends [`Command`]s, the worker answers with [`Event`]s. JSON, so that a worker of
//! one release understands a control plane of the next: unknown fields are ignored, new ones have defaults.

mod access_log;
mod actions;
mod adoption;
mod authorizer;
mod balancing;
mod compression;
mod confinement;
mod edges;
mod http_limits;
mod persistence;
mod report;
mod resilience;
mod routing;
mod snapshot;
mod tls_words;
pub mod wire;

/// What the control plane asks of TLS itself, so that a certificate is checked, and a backend met, by the same code
/// that serves: [`tls::certified_key`] and [`tls::upstream_identity`]. [`tls::client_hello`] is here for those who try to
/// break it.
pub mod tls {
    pub use crate::stream::hello::{ClientHello, HelloReader, HelloStep, client_hello};
    pub use crate::tls::{TlsError, UpstreamIdentity, certified_key, upstream_identity};
    pub use crate::tls::{client_cert_header, client_cert_rules, client_cert_value};
    pub use crate::tls::{known_groups, known_suites, server_tls, signature_algorithms};
}

/// What reads bytes of proxies, for those who try to break it.
pub mod edge {
    pub use crate::http::forwarded::hops;
    pub use crate::proxy::{ProxyFault, Read, Told, read};
}

/// For those who try to break what reads a client's bytes.
pub mod http1 {
    pub use crate::http::guard::guard_requests;
}

/// Persistence, for those who try to break it.
pub mod sessions {
    pub use crate::persist::open_session_cookie;
}

/// What the control plane asks of HTTP itself, so that `bailey check` takes what the worker takes.
pub mod requests {
    pub use crate::http::authorize::check as check_authorizer;
}

/// Texts with variables, read by the same code here and there.
pub mod vars {
    pub use crate::vars::{Template, TemplateError, names};
}

/// What routes match by, read by the same code here and there.
pub mod routes {
    pub use crate::http::route::{PatternError, Sample, check_pattern, find};
}

pub use access_log::*;
pub use actions::*;
pub use adoption::*;
pub use authorizer::*;
pub use balancing::*;
pub use compression::*;
pub use confinement::*;
pub use edges::*;
pub use http_limits::*;
pub use persistence::*;
pub use report::*;
pub use resilience::*;
pub use routing::*;
pub use snapshot::*;
pub use tls_words::*;

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Version of this module's messages. A worker refuses a [`Command::Hello`] of another one.
pub const WIRE_VERSION: u32 = 1;

/// From the control plane to the worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// The first message, once.
    Hello(Hello),
    /// More listeners; the descriptors ride on the frame, in this order.
    Listen(Vec<ListenerInfo>),
    /// No longer accept on these listeners (by [`ListenerInfo::id`]); connections go on.
    Unlisten(Vec<u64>),
    /// Serve by this from now on. Answered by [`Event::Applied`] or [`Event::Rejected`].
    Apply(Box<Snapshot>),
    /// What the agents found out about a client's certificate: the answer to [`Event::Ocsp`].
    Ocsp(OcspAnswer),
    /// Lines of access logs go to these pipes: a descriptor for each thread, in the order of [`Hello::threads`].
    Logs,
    /// Entries that an earlier worker had in the table of a pool; those of a pool that has none are passed over.
    Sessions {
        /// Pool.
        pool: String,
        /// Entries.
        entries: Vec<Session>,
    },
    /// Forget entries. Answered by [`Event::SessionsCleared`].
    ClearSessions {
        /// Pool.
        pool: String,
        /// Which.
        which: ClearSessions,
    },
    /// Answered by [`Event::Report`] within a second, with what the threads answered by then.
    Report,
    /// Where a next control plane finds this worker, should this one be gone: a listening Unix socket rides on the
    /// frame. From here on a control socket that closes ends nothing: the worker serves on by what it has until it is
    /// adopted, told to end (SIGTERM), or has been alone for so long.
    Meet {
        /// Milliseconds.
        alone_ms: u64,
    },
    /// To be given back with [`Event::Adopted`].
    Note(Note),
    /// The first message of a next control plane, over a connection to the socket of [`Command::Meet`]. Answered by
    /// [`Event::Adopted`], or by [`Event::Refused`] while there is a control plane; that connection is the control
    /// socket from then on.
    Adopt {
        /// [`WIRE_VERSION`] of the control plane.
        version: u32,
    },
    /// Accept no more, end what is idle, give the rest this long (milliseconds), then exit with 0.
    Drain {
        /// Milliseconds until what is left is cut.
        grace_ms: u64,
    },
}

/// Who the worker is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`WIRE_VERSION`].
    pub version: u32,
    /// One entry a thread.
    pub threads: Vec<ThreadInfo>,
    /// Threads of all workers of this edge, which share its limits; 0: there are no others.
    #[serde(default)]
    pub threads_in_all: u32,
    /// Filter of the worker's log (stderr), in tracing's syntax.
    #[serde(default)]
    pub log: Option<String>,
}

/// One worker thread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ThreadInfo {
    /// Dense, from 0; the `worker` of metrics and of the kernel's maps.
    pub index: u32,
    /// CPU to pin to; none: not pinned.
    pub cpu: Option<u32>,
}

/// A listening socket that is handed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// Unique for the control plane's life.
    pub id: u64,
    /// The thread that accepts on it.
    pub thread: u32,
    /// Address it is bound to; none: the kernel steers connections of every service to it.
    pub address: Option<SocketAddr>,
}

/// From the worker to the control plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    /// Threads run. The answer to [`Command::Hello`].
    Ready {
        /// The worker's process id.
        pid: u32,
        /// [`WIRE_VERSION`] of the worker.
        version: u32,
    },
    /// Every thread takes new connections and requests by this generation.
    Applied {
        /// [`Snapshot::generation`].
        generation: u64,
    },
    /// The snapshot was not taken; the last one stays in force.
    Rejected {
        /// [`Snapshot::generation`].
        generation: u64,
        /// What is wrong, and where.
        reason: String,
    },
    /// Counters since the worker began.
    Report(Box<Report>),
    /// What became of entries of persistence: about once a second, while there is something to tell.
    Sessions(SessionChanges),
    /// What [`Command::ClearSessions`] took away; [`Event::Sessions`] told of it before.
    SessionsCleared {
        /// Entries.
        count: u64,
    },
    /// A client showed a certificate whose state is to be asked of its issuer's responder. Answered by
    /// [`Command::Ocsp`] when it is known, or known that it cannot be; the worker does not wait for longer than a
    /// handshake may take.
    Ocsp(OcspQuery),
    /// The answer to [`Command::Adopt`].
    Adopted(Box<Adopted>),
    /// Listeners, after [`Event::Adopted`].
    Listeners(Listeners),
    /// The first command was not understood, and the worker exits; or it is not to be adopted, and goes on.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A question about one certificate. It was verified before: its issuer is one that the config trusts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OcspQuery {
    /// Issuer's certificate.
    pub issuer: Der,
    /// Client's certificate.
    pub certificate: Der,
    /// URL to ask instead of the one that the certificate names.
    pub responder: Option<String>,
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OcspAnswer {
    /// What was asked.
    pub query: OcspQuery,
    /// The answer.
    pub status: OcspStatus,
    /// It holds so long, seconds from now.
    pub valid_seconds: u32,
}

/// State of a certificate (RFC 6960, 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OcspStatus {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked,
    /// The responder does not know it.
    Unknown,
    /// No usable answer was had.
    Unavailable,
}
