//! Names, keys and values of the BPF maps, with who writes and who reads each.
//!
//! | map | kind | writer | reader |
//! | --- | --- | --- | --- |
//! | [`CONFIG`] | array, 1 | control plane, at load | edge, steer |
//! | [`VIPS`] | hash: address → [`VipValue`] | control plane | edge |
//! | [`SERVICES`] | hash: [`ServiceKey`] → [`ServiceValue`] | control plane | edge, steer |
//! | [`WORKER_SLOTS`] | array, [`WORKER_SLOT_COUNT`]: slot → worker | control plane | edge, steer |
//! | [`WORKERS`] | array, [`MAX_WORKERS`]: worker → [`WorkerValue`] | control plane | edge |
//! | [`CPU_WORKER`] | array: CPU → worker, or [`NO_WORKER`] | control plane | steer (`rss`) |
//! | [`WORKER_SOCKETS`] | sockmap, [`MAX_WORKERS`]: worker → listener | control plane | steer |
//! | [`CPUS`] | cpumap: CPU → queue | control plane | edge |
//! | [`COUNTERS`] | per-CPU array: service × verdict → [`Counter`] | edge | control plane |
//! | [`WORKER_FLOWS`] | per-CPU array, [`MAX_WORKERS`]: worker → connections assigned (u64) | steer | control plane |

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::verdict::Verdict;

/// Version of everything in this module. Pinned maps of another version are refused.
pub const ABI_VERSION: u32 = 1;

/// Map name: the one [`Config`].
pub const CONFIG: &str = "CONFIG";
/// Map name: addresses that any service has.
pub const VIPS: &str = "VIPS";
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
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

/// Value of [`SERVICES`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceValue {
    /// 1-based row of [`COUNTERS`]; below the size chosen at load.
    pub id: u32,
    /// [`KIND_TERMINATED`].
    pub kind: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// [`VipValue::flags`]: some service takes every port of the address.
pub const VIP_ALL_PORTS: u32 = 1;

/// Value of [`VIPS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VipValue {
    /// [`VIP_ALL_PORTS`] or 0.
    pub flags: u32,
}

/// Value of [`WORKERS`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct WorkerValue {
    /// CPU that the worker is pinned to, and index in [`CPUS`].
    pub cpu: u32,
}

/// [`Config::steering`]: the flow hash picks the worker; the frame is redirected to its CPU.
pub const STEERING_HASH: u32 = 0;
/// [`Config::steering`]: the CPU that the NIC chose keeps the flow; no redirect.
pub const STEERING_RSS: u32 = 1;

/// Value of [`CONFIG`].
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
    /// Zero.
    pub pad: u32,
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
const _: () = assert!(core::mem::size_of::<Config>() == 24);
const _: () = assert!(core::mem::size_of::<Counter>() == 16);
const _: () = assert!(WORKER_SLOT_COUNT.is_power_of_two() && WORKER_SLOT_COUNT >= 1024);
