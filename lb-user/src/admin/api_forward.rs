//! JSON of forwarded services, of the shield and of what is told live.

use crate::datapath::{ForwardHash, ForwardMode};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What only a forwarded service has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForwardView {
    /// Its pool.
    pub pool: String,
    /// How packets reach a backend.
    pub forward: ForwardMode,
    /// What chooses the backend.
    pub hash: ForwardHash,
    /// Flows that began before a change are given so long to be seen.
    pub drain_seconds: u64,
    /// A UDP flow that was silent for so long has ended.
    pub udp_idle_seconds: u64,
    /// `ipip`: bytes of an outer packet.
    pub outer_mtu: Option<u32>,
    /// Slots of its ring.
    pub slots: u32,
    /// Slots whose flows may go to two backends.
    pub moved: u32,
    /// Slots whose remembered flows have not ended.
    pub watched: u32,
    /// Flows that were put into memory.
    pub remembered: u64,
    /// Of these, gone because memory was full.
    pub evicted: u64,
    /// Packets of flows whose backend is dead, sent to another.
    pub dead: u64,
    /// Backends, with those that are gone and still have flows.
    pub backends: Vec<ForwardedView>,
}

/// What a backend gets from a forwarded service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForwardedView {
    /// Service.
    pub service: String,
    /// Backend.
    pub address: SocketAddr,
    /// Packets sent to it.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Flows begun.
    pub flows: u64,
    /// Slots that new flows go to it by.
    pub slots: u32,
    /// Share of the slots of its family's ring.
    pub share_percent: f64,
    /// Why it cannot be reached, where that is known.
    pub trouble: Option<String>,
}

/// Packets of a service with one verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictView {
    /// The verdict's name.
    pub verdict: String,
    /// Whether such packets are dropped.
    pub dropped: bool,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A rate that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RateView {
    /// A second.
    pub rate: u32,
    /// At once.
    pub burst: u32,
}

/// Limits in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsView {
    /// Packets of one source.
    pub source_packets: Option<RateView>,
    /// New TCP connections of one source.
    pub source_connections: Option<RateView>,
    /// Packets.
    pub packets: Option<RateView>,
    /// New TCP connections.
    pub connections: Option<RateView>,
    /// Bits of an IPv4 source.
    pub source_prefix_v4: u8,
    /// Bits of an IPv6 source.
    pub source_prefix_v6: u8,
    /// `auto`, `never`, `always`.
    pub syn_cookies: String,
    /// For `auto`.
    pub syn_flood: Option<FloodView>,
}

/// When SYNs are a flood.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FloodView {
    /// More a second begin one.
    pub on: u32,
    /// Fewer a second end it.
    pub off: u32,
    /// When they have been fewer for so long.
    pub hold_seconds: f64,
}

/// Rules that deny and allow: those of run time first, then the files', as many as are shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// How many there are.
    pub total: usize,
    /// At most [`super::view::MAX_RULES_SHOWN`] of them.
    pub rules: Vec<RuleView>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleView {
    /// None: every service.
    pub service: Option<String>,
    /// Network.
    pub network: IpNet,
    /// `deny` or `allow`.
    pub action: String,
    /// `file` or `runtime`.
    pub origin: String,
    /// Until it runs out; none: it does not.
    pub seconds_left: Option<u64>,
}

/// Which dropped packets are to be told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WatchRequest {
    /// None: of every service, and of none.
    pub service: Option<String>,
    /// None: every verdict.
    pub verdict: Option<String>,
}

/// One line of what is told live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WatchLine {
    /// The watcher was too slow.
    Lost {
        /// Events that it did not get.
        lost: u64,
    },
    /// A packet that was dropped.
    Seen(SeenView),
}

/// A packet that was dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenView {
    /// Milliseconds since 1970, UTC.
    pub unix_ms: u64,
    /// Name of the verdict.
    pub verdict: String,
    /// One sentence about it.
    pub reason: String,
    /// Service; none: of none.
    pub service: Option<String>,
    /// Port 0: it has none.
    pub source: SocketAddr,
    /// Port 0: it has none.
    pub destination: SocketAddr,
    /// `tcp`, `udp`, or the number.
    pub protocol: String,
    /// Bytes of the frame.
    pub bytes: u32,
    /// Index of the interface that it came in by.
    pub interface: u32,
}
