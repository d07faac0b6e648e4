//! JSON of `bailey top` and `bailey trace`.

use crate::datapath::Protocol;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What rates are made from: counters of one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// Instance.
    pub name: String,
    /// Whether everything serves.
    pub healthy: bool,
    /// Generation in force.
    pub generation: u64,
    /// Milliseconds since the daemon began: what rates are divided by.
    pub uptime_ms: u64,
    /// Services.
    pub services: Vec<TopService>,
    /// Backends of all pools.
    pub backends: Vec<TopBackend>,
}

/// Counters of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TopService {
    /// Name.
    pub name: String,
    /// `http`, `https`, `tls`, `tcp`, `passthrough` or `l4`.
    pub mode: String,
    /// Connections open now.
    pub active: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Of these, with 500 and above.
    pub errors: u64,
    /// From a request's header to its answer's, all of them, seconds.
    pub seconds: f64,
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
    /// Packets that the datapath met.
    pub packets: u64,
    /// Of these, dropped.
    pub dropped: u64,
}

/// Counters of a backend.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TopBackend {
    /// Pool.
    pub pool: String,
    /// Where; `IP:PORT`.
    pub address: String,
    /// `up`, `down`, `draining`, `disabled`.
    pub state: String,
    /// Requests and tunnels in flight.
    pub active: u64,
    /// Requests answered.
    pub requests: u64,
    /// Failures of all kinds.
    pub failures: u64,
    /// From a request's header to its answer's, all of them, seconds.
    pub seconds: f64,
    /// Packets of forwarded services.
    pub packets: u64,
}

/// Whose way is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// Client; port 0: any.
    pub client: SocketAddr,
    /// Where it connects to.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What it asks for there; none: a connection alone.
    pub http: Option<TraceHttp>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceHttp {
    /// `GET`
    pub method: String,
    /// Without port.
    pub host: String,
    /// Path.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Name that it asks for by SNI.
    pub sni: Option<String>,
}

/// The way, as far as it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceView {
    /// Whether it gets to where it is answered.
    pub arrives: bool,
    /// Service that it meets.
    pub service: Option<String>,
    /// In order; where it does not arrive, the last says why.
    pub steps: Vec<TraceStep>,
}

/// A step of the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceStep {
    /// In a word.
    pub stage: String,
    /// What happens there.
    pub says: String,
}
