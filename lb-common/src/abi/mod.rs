//! Names, keys and values of the BPF maps, with who writes and who reads each.
//!
//! | map | kind | writer | reader |
//! | --- | --- | --- | --- |
//! | [`CONFIG`] | array, 1 | control plane, at load | edge, steer |
//! | [`VIPS`] | hash: address → [`VipValue`] | control plane | edge |
//! | [`VIP_FILTER`] | array, 1: [`VipFilter`] | control plane | edge |
//! | [`SERVICES`] | hash: [`ServiceKey`] → [`ServiceValue`] | control plane | edge, steer |
//! | [`WORKER_SLOTS`] | array, [`WORKER_SLOT_COUNT`]: slot → worker | control plane | edge, steer |
//! | [`WORKERS`] | array, [`MAX_WORKERS`]: worker → [`WorkerValue`] | control plane | edge |
//! | [`CPU_WORKER`] | array: CPU → worker, or [`NO_WORKER`] | control plane | steer (`rss`) |
//! | [`WORKER_SOCKETS`] | sockmap, [`MAX_WORKERS`]: worker → listener | control plane | steer |
//! | [`CPUS`] | cpumap: CPU → queue | control plane | edge |
//! | [`COUNTERS`] | per-CPU array: service × verdict → [`Counter`] | edge | control plane |
//! | [`WORKER_FLOWS`] | per-CPU array, [`MAX_WORKERS`]: worker → connections assigned (u64) | steer | control plane |
//! | [`EVENTS`] | ring buffer of [`Event`] | edge | control plane |
//! | [`EVENT_LIMITS`] | per-CPU array: verdict, then [`EVENT_ROW_NEIGHBOUR`] → bucket (u64); [`EVENT_ROW_LOST`] → count (u64) | edge | edge, control plane |
//!
//! Forwarded services (`l4`):
//!
//! | map | kind | writer | reader |
//! | --- | --- | --- | --- |
//! | [`FORWARD`] | array: service → [`ForwardValue`] | control plane | edge |
//! | [`RINGS`] | array of arrays: [`ring`] → slot → [`crate::select::Slot`] | control plane | edge |
//! | [`BACKENDS`] | array: backend → [`BackendValue`] | control plane | edge |
//! | [`FLOWS`] | LRU hash: [`FlowKey`] → [`FlowValue`] | edge; control plane deletes | edge |
//! | [`REVERSE`] | hash: [`ServiceKey`] of a backend → [`ReverseValue`] | control plane | edge |
//! | [`BACKEND_HOPS`] | per-CPU array: backend → [`HopValue`] | edge | edge |
//! | [`CLIENT_HOPS`] | per-CPU array, [`CLIENT_HOP_COUNT`]: hash of the address → [`HopValue`] | edge | edge |
//! | [`DEVICES`] | devmap hash: interface → interface | control plane | edge |
//! | [`BACKEND_COUNTERS`] | per-CPU array: backend → [`BackendCounter`] | edge | control plane |
//! | [`FLOW_COUNTERS`] | per-CPU array: service → [`FlowCounter`] | edge | control plane |
//!
//! The shield:
//!
//! | map | kind | writer | reader |
//! | --- | --- | --- | --- |
//! | [`SHIELD`] | array: service → [`ShieldValue`] | control plane | edge |
//! | [`PREFIXES_V4`], [`PREFIXES_V6`] | LPM trie: [`PrefixV4`], [`PrefixV6`] → [`PrefixValue`] | control plane | edge |
//! | [`SOURCES`] | LRU hash: [`SourceKey`] → [`SourceValue`] | edge | edge |
//! | [`BUCKETS`] | array: service → [`BucketValue`] | edge | edge, control plane |
//!
//! Decapsulation on a backend's host, an object of its own:
//!
//! | map | kind | writer | reader |
//! | --- | --- | --- | --- |
//! | [`DECAP_ADDRESSES`] | hash: inner destination → u32 | control plane, at load | decap |
//! | [`DECAP_COUNTERS`] | per-CPU array: [`DECAP_TAKEN_OFF`], [`DECAP_OTHER`], [`DECAP_MALFORMED`] → u64 | decap | control plane |

mod forward;
mod shield;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::verdict::Verdict;

pub use forward::*;
pub use shield::*;

/// Version of everything in this module. Pinned maps of another version are refused.
pub const ABI_VERSION: u32 = 2;

/// Map name: the one [`Config`].
pub const CONFIG: &str = "CONFIG";
/// Map name: addresses that any service has.
pub const VIPS: &str = "VIPS";
/// Map name: bits of addresses that services have.
pub const VIP_FILTER: &str = "VIP_FILTER";
/// Map name: services by address, port and protocol.
pub const SERVICES: &str = "SERVICES";
/// Map name: slot of the flow hash to worker.
pub const WORKER_SLOTS: &str = "WORKER_SLOTS";
/// Map name: what a worker is to the kernel.
pub const WORKERS: &str = "WORKERS";
/// Map name: the worker of a CPU.
pub const CPU_WORKER: &str = "CPU_WORKER";
/// Map name: listening socket of a worker.
pub const WORKER_SOCKETS: &str = "WORKER_SOCKETS";
/// Map name: redirect targets.
pub const CPUS: &str = "CPUS";
/// Map name: packets and bytes by service and verdict.
pub const COUNTERS: &str = "COUNTERS";
/// Map name: connections assigned by worker. A SYN that is sent again is assigned again, to the same worker.
pub const WORKER_FLOWS: &str = "WORKER_FLOWS";

/// Slots that the flow hash falls into. A power of two; 64 slots a worker at 64 workers keep shares within a few percent.
pub const WORKER_SLOT_COUNT: u32 = 4096;
/// Workers of one edge at the most.
pub const MAX_WORKERS: u32 = 256;
/// CPUs that can be told apart at the most.
pub const MAX_CPUS: u32 = 1024;
/// Services, unless the control plane sizes the maps otherwise at load. Id 0 stands for "no service".
pub const DEFAULT_MAX_SERVICES: u32 = 1024;
/// (address, port, protocol) entries of all services, unless sized otherwise at load.
pub const DEFAULT_MAX_ADDRESSES: u32 = 16384;
/// Says "no worker here" in [`WORKER_SLOTS`] and [`CPU_WORKER`].
pub const NO_WORKER: u32 = u32::MAX;
/// The service id under which packets of no service are counted.
pub const NO_SERVICE: u32 = 0;

/// A number in network byte order. The type says it, so that no comment has to.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Be16([u8; 2]);

impl Be16 {
    /// From a number in host order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be_bytes())
    }
    /// From the two bytes as they stand in a packet.
    #[inline(always)]
    pub const fn from_bytes(wire: [u8; 2]) -> Self {
        Self(wire)
    }
    /// The number in host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
}

/// An IPv6 address, or an IPv4 address in its mapped form (RFC 4291, 2.5.5.2), in network byte order.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn v4(a: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]])
    }
    /// An IPv6 address as it stands in a packet.
    #[inline(always)]
    pub const fn v6(a: [u8; 16]) -> Self {
        Self(a)
    }
}

/// IANA protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// IANA protocol number of UDP.
pub const PROTO_UDP: u8 = 17;

/// Key of [`SERVICES`]. Port 0 is the entry for all ports of the address; an exact port goes before it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceKey {
    /// Destination address of the packet.
    pub address: Address,
    /// Destination port, or 0.
    pub port: Be16,
    /// [`PROTO_TCP`] or [`PROTO_UDP`].
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// [`ServiceValue::kind`]: the connection ends in a worker.
pub const KIND_TERMINATED: u8 = 1;
/// [`ServiceValue::kind`]: packets are sent on to a backend.
pub const KIND_FORWARDED: u8 = 2;
/// [`ServiceValue::mode`]: the destination is rewritten; replies come back through the edge.
pub const MODE_NAT: u8 = 1;
/// [`ServiceValue::mode`]: put into an outer IP header; the backend answers the client directly.
pub const MODE_IPIP: u8 = 2;
/// [`ServiceValue::mode`]: only the MAC addresses are rewritten; the backend answers the client directly.
pub const MODE_L2: u8 = 3;
/// [`ServiceValue::hash`]: addresses, ports and protocol choose the slot.
pub const HASH_FLOW: u8 = 1;
/// [`ServiceValue::hash`]: the source address chooses the slot.
pub const HASH_SOURCE: u8 = 2;
/// [`ServiceValue::hash`]: source and destination address choose the slot.
pub const HASH_SOURCE_DESTINATION: u8 = 3;
/// [`ServiceValue::flags`]: `nat` leaves the destination port as it is (services of several ports).
pub const SERVICE_KEEP_PORT: u8 = 1;
/// [`ServiceValue::flags`]: the service has limits of its own in [`SHIELD`].
pub const SERVICE_LIMITS: u8 = 2;
/// [`ServiceValue::flags`]: the service has prefixes of its own.
pub const SERVICE_PREFIXES: u8 = 4;

/// Value of [`SERVICES`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceValue {
    /// 1-based row of [`COUNTERS`]; below the size chosen at load.
    pub id: u32,
    /// [`KIND_TERMINATED`] or [`KIND_FORWARDED`].
    pub kind: u8,
    /// [`MODE_NAT`], [`MODE_IPIP`] or [`MODE_L2`]; 0 when terminated.
    pub mode: u8,
    /// [`HASH_FLOW`], [`HASH_SOURCE`] or [`HASH_SOURCE_DESTINATION`]; 0 when terminated.
    pub hash: u8,
    /// `SERVICE_` bits.
    pub flags: u8,
}

/// [`VipValue::flags`]: some service takes every port of the address.
pub const VIP_ALL_PORTS: u32 = 1;
/// [`VipValue::flags`]: some service of the address is terminated.
pub const VIP_TERMINATED: u32 = 2;
/// [`VipValue::flags`]: some service of the address is forwarded.
pub const VIP_FORWARDED: u32 = 4;

/// Value of [`VIPS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VipValue {
    /// `VIP_` bits.
    pub flags: u32,
}

/// Value of [`WORKERS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct WorkerValue {
    /// CPU that the worker is pinned to, and index in [`CPUS`].
    pub cpu: u32,
}

/// Value of [`VIP_FILTER`]: the bit of every address in [`VIPS`] ([`crate::flow::filter_bit`]) is set, and of few others. A
/// word is read whole.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VipFilter(pub [u64; 64]);

/// [`Config::steering`]: the flow hash picks the worker; the frame is redirected to its CPU.
pub const STEERING_HASH: u32 = 0;
/// [`Config::steering`]: the CPU that the NIC chose keeps the flow; no redirect.
pub const STEERING_RSS: u32 = 1;
/// [`Config::features`]: there is a `nat` service; packets from its backends are looked for in [`REVERSE`].
pub const FEATURE_NAT: u32 = 1;
/// [`Config::features`]: there are IPv4 prefixes that hold for every service.
pub const FEATURE_PREFIXES_V4: u32 = 2;
/// [`Config::features`]: there are IPv6 prefixes that hold for every service.
pub const FEATURE_PREFIXES_V6: u32 = 4;

/// Value of [`CONFIG`]. Every field is one aligned word and stands for itself: a packet may read some of them before
/// a change and some after.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// Key of the flow hash, random for each instance, so that nobody outside can aim flows at one worker.
    pub seed: u64,
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// [`STEERING_HASH`] or [`STEERING_RSS`].
    pub steering: u32,
    /// One packet in so many is logged for debugging; 0 logs none.
    pub log_sample: u32,
    /// `FEATURE_` bits.
    pub features: u32,
    /// Key of the hash that chooses backends. The same for an edge's every start, so that a restart moves no flow.
    pub forward_seed: u64,
    /// Nanoseconds between two events of one verdict on one CPU; 0: no event is told.
    pub event_interval: u64,
    /// Nanoseconds between two ICMP errors made on one CPU.
    pub icmp_interval: u64,
    /// A next hop that was found is used for so long, nanoseconds.
    pub hop_lifetime: u64,
    /// Outer IPv4 source of `ipip`, host order; its bits under [`Self::outer_v4_mask`] vary with the flow.
    pub outer_v4: u32,
    /// Host order; bits that the flow's hash fills in.
    pub outer_v4_mask: u32,
    /// Outer IPv6 source of `ipip`; its last 32 bits vary with the flow.
    pub outer_v6: Address,
}

/// Value of [`COUNTERS`]; row `service id * Verdict::COUNT + verdict`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

/// Row of [`COUNTERS`] for a service and a verdict.
#[inline(always)]
pub const fn counter_row(service: u32, verdict: Verdict) -> u32 {
    service * Verdict::COUNT + verdict as u32
}

const _: () = assert!(core::mem::size_of::<ServiceKey>() == 20);
const _: () = assert!(core::mem::size_of::<ServiceValue>() == 8);
const _: () = assert!(core::mem::size_of::<Config>() == 80);
const _: () = assert!(core::mem::size_of::<Counter>() == 16);
const _: () = assert!(WORKER_SLOT_COUNT.is_power_of_two() && WORKER_SLOT_COUNT >= 1024);
