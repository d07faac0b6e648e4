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

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::verdict::Verdict;

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

/// Map name: what was seen and is told live.
pub const EVENTS: &str = "EVENTS";
/// Map name: when the next event of a kind may be told.
pub const EVENT_LIMITS: &str = "EVENT_LIMITS";
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
/// Map name: limits of a service.
pub const SHIELD: &str = "SHIELD";
/// Map name: denied and allowed IPv4 prefixes.
pub const PREFIXES_V4: &str = "PREFIXES_V4";
/// Map name: denied and allowed IPv6 prefixes.
pub const PREFIXES_V6: &str = "PREFIXES_V6";
/// Map name: token buckets of sources.
pub const SOURCES: &str = "SOURCES";
/// Map name: token buckets of services.
pub const BUCKETS: &str = "BUCKETS";

/// Map name: inner destinations whose outer header is taken off.
pub const DECAP_ADDRESSES: &str = "DECAP_ADDRESSES";
/// Map name: what came of packets with an outer header.
pub const DECAP_COUNTERS: &str = "DECAP_COUNTERS";
/// Row of [`DECAP_COUNTERS`]: outer headers taken off.
pub const DECAP_TAKEN_OFF: u32 = 0;
/// Row of [`DECAP_COUNTERS`]: another inner destination, or a fragment; left alone.
pub const DECAP_OTHER: u32 = 1;
/// Row of [`DECAP_COUNTERS`]: malformed within the outer header; dropped.
pub const DECAP_MALFORMED: u32 = 2;
/// Rows of [`DECAP_COUNTERS`].
pub const DECAP_ROWS: u32 = 3;

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
/// Sources whose rates are known at once, unless sized otherwise at load.
pub const DEFAULT_MAX_SOURCES: u32 = 65_536;
/// Prefixes of a family, unless sized otherwise at load.
pub const DEFAULT_MAX_PREFIXES: u32 = 1_048_576;
/// Entries of [`CLIENT_HOPS`]. A power of two.
pub const CLIENT_HOP_COUNT: u32 = 1024;
/// Row of [`EVENT_LIMITS`] for neighbours.
pub const EVENT_ROW_NEIGHBOUR: u32 = Verdict::COUNT;
/// Row of [`EVENT_LIMITS`] that counts events for which [`EVENTS`] had no room.
pub const EVENT_ROW_LOST: u32 = Verdict::COUNT + 1;
/// Rows of [`EVENT_LIMITS`].
pub const EVENT_ROWS: u32 = Verdict::COUNT + 2;
/// Bytes of [`EVENTS`].
pub const EVENT_BYTES: u32 = 256 * 1024;

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

/// A token bucket as GCRA (ITU-T I.371): one event an `interval`, and `burst` ahead of it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Limit {
    /// Nanoseconds an event takes; 0: no limit.
    pub interval: u64,
    /// Nanoseconds that the bucket may run ahead of the clock.
    pub burst: u64,
}

/// [`ShieldValue::syn_cookies`]: the kernel answers every SYN.
pub const SYN_COOKIES_NEVER: u32 = 0;
/// [`ShieldValue::syn_cookies`]: `edge` answers SYNs with cookies while there are more than [`ShieldValue::syn_on`].
pub const SYN_COOKIES_AUTO: u32 = 1;
/// [`ShieldValue::syn_cookies`]: `edge` answers every SYN with a cookie.
pub const SYN_COOKIES_ALWAYS: u32 = 2;

/// Value of [`SHIELD`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ShieldValue {
    /// Packets of one source.
    pub source_packets: Limit,
    /// New connections of one source (TCP SYNs).
    pub source_connections: Limit,
    /// Packets of the service.
    pub packets: Limit,
    /// New connections of the service.
    pub connections: Limit,
    /// SYNs over this begin a flood.
    pub syn_on: Limit,
    /// In a flood, SYNs over this keep it going.
    pub syn_off: Limit,
    /// So long after the last SYN over [`Self::syn_off`] a flood is over, nanoseconds.
    pub syn_hold: u64,
    /// `SYN_COOKIES_`; never for a forwarded service.
    pub syn_cookies: u32,
    /// Bits of an IPv4 source that make it one source, host order: a netmask.
    pub mask_v4: u32,
    /// Bits of an IPv6 source that make it one source: a netmask.
    pub mask_v6: Address,
}

/// Key of [`PREFIXES_V4`] behind the kernel's `prefixlen`, which is 32 + the prefix's length.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixV4 {
    /// [`ServiceValue::id`], or [`NO_SERVICE`] for all.
    pub service: u32,
    /// Network order.
    pub address: [u8; 4],
}

/// Key of [`PREFIXES_V6`] behind the kernel's `prefixlen`, which is 64 + the prefix's length.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixV6 {
    /// [`ServiceValue::id`], or [`NO_SERVICE`] for all.
    pub service: u32,
    /// Zero.
    pub pad: u32,
    /// Where.
    pub address: Address,
}

/// [`PrefixValue::action`]: dropped.
pub const PREFIX_DENY: u32 = 1;
/// [`PrefixValue::action`]: neither denied by a shorter prefix nor limited by rate.
pub const PREFIX_ALLOW: u32 = 2;

/// Value of [`PREFIXES_V4`] and [`PREFIXES_V6`]. Of two that match, the longer counts; of two of one length, the
/// service's own.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixValue {
    /// Until when this holds (`CLOCK_MONOTONIC`, nanoseconds); 0: for ever.
    pub until: u64,
    /// `PREFIX_`.
    pub action: u32,
    /// Length of the prefix in bits of its family.
    pub length: u32,
}

/// Key of [`SOURCES`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SourceKey {
    /// Under the service's mask.
    pub address: Address,
    /// [`ServiceValue::id`].
    pub service: u32,
}

/// Value of [`SOURCES`]: theoretical arrival times of GCRA (`CLOCK_MONOTONIC`, nanoseconds).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SourceValue {
    /// Of [`ShieldValue::source_packets`].
    pub packets: u64,
    /// Of [`ShieldValue::source_connections`].
    pub connections: u64,
}

/// Value of [`BUCKETS`]: theoretical arrival times of GCRA (`CLOCK_MONOTONIC`, nanoseconds).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BucketValue {
    /// Of [`ShieldValue::packets`].
    pub packets: u64,
    /// Of [`ShieldValue::connections`].
    pub connections: u64,
    /// Of [`ShieldValue::syn_on`], or of [`ShieldValue::syn_off`] in a flood.
    pub syns: u64,
    /// Until when SYNs are answered with cookies.
    pub flood_until: u64,
}

/// [`Event::kind`]: a packet was dropped.
pub const EVENT_DROP: u32 = 1;
/// [`Event::kind`]: the neighbour [`Event::destination`] on [`Event::interface`] is not known and is to be asked for.
pub const EVENT_NEIGHBOUR: u32 = 2;

/// What stands in [`EVENTS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// When (`CLOCK_MONOTONIC`, nanoseconds).
    pub time: u64,
    /// `EVENT_`.
    pub kind: u32,
    /// [`Verdict`] as a number.
    pub verdict: u32,
    /// [`ServiceValue::id`], or [`NO_SERVICE`].
    pub service: u32,
    /// Index of an interface: where the packet came in, or where the neighbour is.
    pub interface: u32,
    /// Source of the packet; zero where it has none.
    pub source: Address,
    /// Destination of the packet, or the neighbour.
    pub destination: Address,
    /// 0 where there is none.
    pub source_port: Be16,
    /// 0 where there is none.
    pub destination_port: Be16,
    /// IANA number; 0 where there is none.
    pub protocol: u32,
    /// Bytes of the frame.
    pub bytes: u32,
    /// Zero.
    pub pad: u32,
}

/// Row of [`COUNTERS`] for a service and a verdict.
#[inline(always)]
pub const fn counter_row(service: u32, verdict: Verdict) -> u32 {
    service * Verdict::COUNT + verdict as u32
}

const _: () = assert!(core::mem::size_of::<ServiceKey>() == 20);
const _: () = assert!(core::mem::size_of::<ServiceValue>() == 8);
const _: () = assert!(core::mem::size_of::<Config>() == 80);
const _: () = assert!(core::mem::size_of::<FlowKey>() == 40);
const _: () = assert!(core::mem::size_of::<FlowValue>() == 24);
const _: () = assert!(core::mem::size_of::<Event>() == 72);
const _: () = assert!(core::mem::size_of::<Counter>() == 16);
const _: () = assert!(WORKER_SLOT_COUNT.is_power_of_two() && WORKER_SLOT_COUNT >= 1024);
