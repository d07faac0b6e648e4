//! JSON of the edge at a glance.

use super::api::{PoolRow, ServiceRow};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The edge at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Instance.
    pub name: String,
    /// Release.
    pub version: String,
    /// Whether everything serves; `troubles` says what does not.
    pub healthy: bool,
    /// What does not serve.
    pub troubles: Vec<String>,
    /// Generation in force.
    pub generation: u64,
    /// Since the daemon began.
    pub uptime_seconds: u64,
    /// How connections come in.
    pub datapath: DatapathStatus,
    /// Who serves them.
    pub worker: WorkerStatus,
    /// Services.
    pub services: Vec<ServiceRow>,
    /// Pools.
    pub pools: Vec<PoolRow>,
    /// Bounds that are nearly reached, with what to raise.
    #[serde(default)]
    pub near_bounds: Vec<String>,
    /// What the config was warned of.
    pub warnings: Vec<String>,
    /// What operators changed.
    #[serde(default)]
    pub state: StateStatus,
}

/// What operators changed, and where it is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StateStatus {
    /// None: until the daemon ends.
    pub directory: Option<String>,
    /// The last in the history; 0: there was none.
    pub last_change: u64,
    /// Backends and rules that differ from the file.
    pub differences: u64,
}

/// A bound, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundView {
    /// Of what.
    pub name: String,
    /// Now.
    pub used: u64,
    /// At the most.
    pub limit: u64,
    /// What to raise.
    pub raise: String,
}

/// The datapath.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatapathStatus {
    /// `native`, `generic` or `sockets`.
    pub kind: String,
    /// `hash` or `rss`.
    pub steering: Option<String>,
    /// By interface: the mode that XDP is attached in.
    pub interfaces: Vec<InterfaceStatus>,
    /// Directory of the pins.
    pub pins: Option<String>,
    /// Addresses added as local routes.
    pub addresses: Vec<IpAddr>,
}

/// An interface that XDP is attached to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
}

/// The worker process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Whether one serves.
    pub up: bool,
    /// Its process id.
    pub pid: Option<u32>,
    /// Since it was started.
    pub uptime_seconds: Option<u64>,
    /// Processes started after the first.
    pub restarts: u64,
    /// Why the last one ended.
    pub last_error: Option<String>,
    /// All processes.
    #[serde(default)]
    pub processes: Vec<ProcessStatus>,
    /// What keeps it from the rest of the host, and is not in force; none: it has not said.
    #[serde(default)]
    pub unconfined: Option<Vec<String>>,
    /// Its threads.
    pub threads: Vec<ThreadStatus>,
}

/// A place for a worker process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// None: none lives.
    pub pid: Option<u32>,
    /// Since it was started, or adopted.
    pub uptime_seconds: Option<u64>,
    /// It was started by an earlier control plane.
    pub adopted: bool,
    /// Its threads.
    pub threads: Vec<u32>,
}

/// A worker thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// From 0.
    pub index: u32,
    /// CPU that it is pinned to.
    pub cpu: Option<u32>,
    /// Generation that it serves by.
    pub generation: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Of these, delivered on its own CPU.
    pub connections_on_cpu: u64,
    /// Open now.
    pub connections_active: u64,
}
