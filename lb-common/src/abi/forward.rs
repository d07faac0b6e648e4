//! Forwarded services: rings, backends, flows that are remembered, replies, next hops, and what is counted of them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Address, Be16};

/// Map name: how a service's packets are forwarded.
pub const FORWARD: &str = "FORWARD";
/// Map name: Maglev rings.
pub const RINGS: &str = "RINGS";
/// Map name: backends of forwarded services.
pub const BACKENDS: &str = "BACKENDS";
/// Map name: flows that are remembered.
pub const FLOWS: &str = "FLOWS";
/// Map name: which service a backend's reply belongs to (`nat`).
pub const REVERSE: &str = "REVERSE";
/// Map name: next hops of backends.
pub const BACKEND_HOPS: &str = "BACKEND_HOPS";
/// Map name: next hops of clients.
pub const CLIENT_HOPS: &str = "CLIENT_HOPS";
/// Map name: interfaces that frames are sent out of.
pub const DEVICES: &str = "DEVICES";
/// Map name: what each backend was given.
pub const BACKEND_COUNTERS: &str = "BACKEND_COUNTERS";
/// Map name: what became of flows of a forwarded service.
pub const FLOW_COUNTERS: &str = "FLOW_COUNTERS";

/// Inner map of [`RINGS`] for a service and an address family.
#[inline(always)]
pub const fn ring(service: u32, v6: bool) -> u32 {
    service * 2 + v6 as u32
}

/// Slots of a ring at the least and at the most.
pub const RING_SLOTS: core::ops::RangeInclusive<u32> = 3..=1_048_573;
/// Backends of all forwarded services, unless the control plane sizes the maps otherwise at load.
pub const DEFAULT_MAX_BACKENDS: u32 = 4096;
/// Backends at the most: a number is 16 bits, and two of them mean something else.
pub const MAX_BACKENDS: u32 = 65_534;
/// Flows that are remembered at once, unless sized otherwise at load.
pub const DEFAULT_MAX_FLOWS: u32 = 131_072;
/// Interfaces that an edge is attached to at the most.
pub const MAX_DEVICES: u32 = 64;
/// Entries of [`CLIENT_HOPS`]. A power of two.
pub const CLIENT_HOP_COUNT: u32 = 1024;

/// Value of [`FORWARD`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ForwardValue {
    /// An unknown UDP flow is a new one from this time on (`CLOCK_MONOTONIC`, nanoseconds).
    pub udp_new_after: u64,
    /// A UDP flow that was silent for so long has ended, nanoseconds.
    pub udp_idle: u64,
    /// Slots of the rings of both families.
    pub slots: u32,
    /// `ipip`: bytes that the outer packet may have; 0: what the route says.
    pub outer_mtu: u32,
}

/// [`BackendValue::flags`]: flows that it has may go on.
pub const BACKEND_ALIVE: u8 = 1;
/// [`BackendValue::flags`]: the address is IPv4.
pub const BACKEND_V4: u8 = 2;

/// Value of [`BACKENDS`]. Index 0 is no backend.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BackendValue {
    /// Where it is.
    pub address: Address,
    /// `nat` without [`SERVICE_KEEP_PORT`]: the destination port it listens on.
    pub port: Be16,
    /// `BACKEND_` bits.
    pub flags: u8,
    /// Zero.
    pub pad: u8,
}

/// Key of [`FLOWS`]: a flow as its client sends it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowKey {
    /// The client.
    pub source: Address,
    /// The service.
    pub destination: Address,
    /// The client's.
    pub source_port: Be16,
    /// The service's.
    pub destination_port: Be16,
    /// [`PROTO_TCP`] or [`PROTO_UDP`].
    pub protocol: u32,
}

/// Value of [`FLOWS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue {
    /// When its last packet was seen, within a second (`CLOCK_MONOTONIC`, nanoseconds).
    pub seen: u64,
    /// Index in [`BACKENDS`].
    pub backend: u32,
    /// [`ring`] that its slot is of.
    pub ring: u32,
    /// Slot of that ring.
    pub slot: u32,
    /// Zero.
    pub pad: u32,
}

/// Value of [`REVERSE`]; the key is a backend's address, port and protocol, port 0 for all ports.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ReverseValue {
    /// Source that the reply gets: the service's address.
    pub address: Address,
    /// Source port that the reply gets; 0: as it is.
    pub port: Be16,
    /// Zero.
    pub pad: u16,
    /// [`ServiceValue::id`].
    pub service: u32,
}

/// Value of [`BACKEND_HOPS`] and [`CLIENT_HOPS`]: what `bpf_fib_lookup` said last.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HopValue {
    /// Where to.
    pub address: Address,
    /// Until when this holds (`CLOCK_MONOTONIC_COARSE`, nanoseconds).
    pub until: u64,
    /// Interface to send out of.
    pub interface: u32,
    /// MTU of the route, bytes.
    pub mtu: u32,
    /// MAC address of the next hop, then of the interface.
    pub macs: [u8; 12],
    /// Zero.
    pub pad: u32,
}

/// Value of [`BACKEND_COUNTERS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BackendCounter {
    /// Packets sent to it.
    pub packets: u64,
    /// Bytes of these as they came in, Ethernet header included.
    pub bytes: u64,
    /// Flows begun: TCP SYNs, and UDP flows that were new to a slot which had moved.
    pub flows: u64,
}

/// Value of [`FLOW_COUNTERS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowCounter {
    /// Flows put into [`FLOWS`].
    pub remembered: u64,
    /// Packets of flows whose backend is dead, sent to another.
    pub dead: u64,
    /// Flows that [`FLOWS`] did not take.
    pub not_remembered: u64,
    /// Flows taken out of [`FLOWS`] because they began anew or their backend died.
    pub forgotten: u64,
}

const _: () = assert!(core::mem::size_of::<FlowKey>() == 40);
const _: () = assert!(core::mem::size_of::<FlowValue>() == 24);
