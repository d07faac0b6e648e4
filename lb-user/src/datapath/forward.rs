//! Words for what is forwarded and for the shield: what the reconciler asks of a datapath, and what it is told.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_common::abi;
use tls_worker::api::BackendState;

/// A transport protocol that services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293
    Tcp,
    /// RFC 768
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Ports of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// Every port, and what has none.
    All,
    /// From the first to the last, both included; 1 or above.
    Range(u16, u16),
}

/// Where a forwarded service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddress {
    /// A unicast address, never a mapped one.
    pub address: IpAddr,
    /// Which of its ports.
    pub ports: Ports,
}

impl std::fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ports = match self.ports {
            Ports::All => "*".to_owned(),
            Ports::Range(first, last) if first == last => first.to_string(),
            Ports::Range(first, last) => format!("{first}-{last}"),
        };
        match self.address {
            IpAddr::V4(v4) => write!(f, "{v4}:{ports}"),
            IpAddr::V6(v6) => write!(f, "[{v6}]:{ports}"),
        }
    }
}

/// A service whose packets are sent on to backends without a look inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredForward {
    /// 1-based, from the same numbers as terminated services.
    pub id: u32,
    /// Name, for errors.
    pub name: String,
    /// Where clients reach it.
    pub addresses: Vec<ServiceAddress>,
    /// At least one.
    pub protocols: Vec<Protocol>,
    /// How packets reach a backend.
    pub mode: ForwardMode,
    /// What chooses the backend.
    pub hash: ForwardHash,
    /// Slots of its ring: a prime. Fixed while the service stands.
    pub slots: u32,
    /// After a change, flows that began before it are given so long to be seen; then they are remembered or ended.
    pub drain: Duration,
    /// A UDP flow that was silent for so long has ended.
    pub udp_idle: Duration,
    /// `ipip`: bytes that an outer packet may have; none: what the route says.
    pub outer_mtu: Option<u32>,
    /// Backends of every state, by address.
    pub backends: Vec<ForwardBackend>,
}

impl DesiredForward {
    /// What places a flow in the ring. With another of it every flow would be in another slot.
    pub(crate) fn places(&self) -> (u32, ForwardHash) {
        (self.slots, self.hash)
    }
}

/// How packets reach a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardMode {
    /// The destination is rewritten; replies come back through the edge.
    Nat,
    /// In an outer IP header; the backend answers directly.
    Ipip,
    /// With the backend's MAC address; the backend answers directly.
    L2,
}

/// What chooses the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardHash {
    /// Addresses, ports and protocol.
    Flow,
    /// The source address: a client keeps its backend.
    Source,
    /// Source and destination address.
    SourceDestination,
}

/// A backend of a forwarded service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardBackend {
    /// Where it is. The port is used by `nat` where the service has one port; checks use it in every mode.
    pub address: SocketAddr,
    /// 1 to 256.
    pub weight: u16,
    /// Up: takes new flows. Draining: keeps the flows it has. Down, disabled: neither.
    pub state: BackendState,
}

/// Limits of one service. Counted in the kernel, where two CPUs may let a packet more through than one would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Packets of one source.
    pub source_packets: Option<Rate>,
    /// New TCP connections of one source.
    pub source_connections: Option<Rate>,
    /// Packets.
    pub packets: Option<Rate>,
    /// New TCP connections.
    pub connections: Option<Rate>,
    /// Bits of an IPv4 address that make a source: 24 to 32.
    pub source_v4: u8,
    /// Bits of an IPv6 address that make a source: 48 to 128.
    pub source_v6: u8,
    /// Of terminated services; never for forwarded ones.
    pub syn_cookies: SynCookies,
}

/// So many a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// 1 to 1,000,000,000.
    pub per_second: u32,
    /// At once, 1 or above.
    pub burst: u32,
}

/// Who answers a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynCookies {
    /// The kernel's TCP.
    Never,
    /// XDP, with a cookie.
    Always,
    /// XDP while there are too many SYNs.
    Auto {
        /// More a second begin a flood.
        on: u32,
        /// Fewer a second end it, `on` at the most.
        off: u32,
        /// When they have been fewer for so long.
        hold: Duration,
    },
}

/// A prefix that is denied or allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixRule {
    /// Service id; 0: every service. Rules are sorted by this and the network, and no two have both the same.
    pub service: u32,
    /// Host bits are zero.
    pub network: IpNet,
    /// Allowed: neither denied by a shorter prefix nor limited by rate.
    pub allow: bool,
    /// Until when; none: for ever.
    pub until: Option<SystemTime>,
}

/// A forwarded service as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForwardState {
    /// [`DesiredForward::id`].
    pub service: u32,
    /// Slots of its ring.
    pub slots: u32,
    /// Slots whose flows may go to two backends.
    pub moved: u32,
    /// Slots whose remembered flows have not ended.
    pub watched: u32,
    /// Flows that were put into memory since the service began.
    pub remembered: u64,
    /// Of these, gone because memory was full.
    pub evicted: u64,
    /// Packets of flows whose backend is dead, sent to another.
    pub dead: u64,
    /// Backends, with those that are gone and still have flows.
    pub backends: Vec<ForwardBackendState>,
}

/// A backend of a forwarded service as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardBackendState {
    /// Where.
    pub address: SocketAddr,
    /// Slots of the rings that new flows go to it by, of all [`ForwardState::slots`] of its family's ring.
    pub slots: u32,
    /// Packets sent to it.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Flows begun.
    pub flows: u64,
    /// Why it cannot be reached, where that is known.
    pub trouble: Option<String>,
}

/// The shield as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShieldState {
    /// Prefixes in the kernel.
    pub prefixes: u64,
    /// Services (ids) whose SYNs are answered with cookies now.
    pub flooded: Vec<u32>,
    /// Events that nobody read in time.
    pub events_lost: u64,
}

/// A packet that was dropped, told live. One in many is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketEvent {
    /// When.
    pub time: SystemTime,
    /// Service id; 0: of no service.
    pub service: u32,
    /// [`lb_common::Verdict::name`].
    pub verdict: &'static str,
    /// Source address and port, port 0 where there is none.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// IANA number; 0: none.
    pub protocol: u8,
    /// Bytes of the frame.
    pub bytes: u32,
    /// Interface that it came in by.
    pub interface: u32,
}

/// Why a flow goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowReason {
    /// Its worker, by the flow hash.
    Steered,
    /// Its slot is settled: every flow in it goes to this backend.
    Settled,
    /// Its slot has moved: a flow that begins now goes there.
    Moved,
    /// It is remembered.
    Remembered,
    /// No backend may be chosen.
    NoBackend,
}

/// Sizes and numbers of forwarding and the shield; fixed for an edge's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// Backends of all forwarded services at the most, those included that are gone and still have flows.
    pub max_backends: u32,
    /// Flows that are remembered at the most.
    pub max_flows: u32,
    /// Sources whose rates are known at the most.
    pub max_sources: u32,
    /// Prefixes of a family at the most.
    pub max_prefixes: u32,
    /// Key of the hash that chooses backends.
    pub hash_seed: u64,
    /// Where outer IPv4 sources of `ipip` are taken from.
    pub outer_v4: Ipv4Net,
    /// Where outer IPv6 sources of `ipip` are taken from; a /96 or wider.
    pub outer_v6: Ipv6Net,
    /// Dropped packets of one verdict told live, a second and CPU; 0: none.
    pub events_per_second: u32,
    /// ICMP errors made, a second and CPU.
    pub icmp_per_second: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            max_backends: abi::DEFAULT_MAX_BACKENDS,
            max_flows: abi::DEFAULT_MAX_FLOWS,
            max_sources: abi::DEFAULT_MAX_SOURCES,
            max_prefixes: abi::DEFAULT_MAX_PREFIXES,
            hash_seed: 0,
            outer_v4: Ipv4Net::new_assert(std::net::Ipv4Addr::new(198, 18, 0, 0), 16),
            outer_v6: Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
            events_per_second: 100,
            icmp_per_second: 1000,
        }
    }
}
