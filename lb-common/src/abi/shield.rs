//! The shield: limits, prefixes, sources, buckets and events; and decapsulation on a backend's host.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Address, Be16};
use crate::verdict::Verdict;

/// Map name: what was seen and is told live.
pub const EVENTS: &str = "EVENTS";
/// Map name: when the next event of a kind may be told.
pub const EVENT_LIMITS: &str = "EVENT_LIMITS";
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

/// Sources whose rates are known at once, unless sized otherwise at load.
pub const DEFAULT_MAX_SOURCES: u32 = 65_536;
/// Prefixes of a family, unless sized otherwise at load.
pub const DEFAULT_MAX_PREFIXES: u32 = 1_048_576;
/// Row of [`EVENT_LIMITS`] for neighbours.
pub const EVENT_ROW_NEIGHBOUR: u32 = Verdict::COUNT;
/// Row of [`EVENT_LIMITS`] that counts events for which [`EVENTS`] had no room.
pub const EVENT_ROW_LOST: u32 = Verdict::COUNT + 1;
/// Rows of [`EVENT_LIMITS`].
pub const EVENT_ROWS: u32 = Verdict::COUNT + 2;
/// Bytes of [`EVENTS`].
pub const EVENT_BYTES: u32 = 256 * 1024;

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

const _: () = assert!(core::mem::size_of::<Event>() == 72);
