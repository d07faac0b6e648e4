//! What is told live: dropped packets, one in many, and next hops to be asked for.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::{Config, EVENT_BYTES};

use crate::finish::Exit;
use crate::maps::AddressWords;

/// Written by edge; read by the control plane.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);

/// When the next event of a verdict may be told; the last is for neighbours. Written and read by edge.
#[map]
pub(crate) static EVENT_LIMITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT + 1, 0);

/// Tell of a packet that is dropped.
#[inline(never)]
pub(crate) fn dropped(_ctx: &XdpContext, _config: &Config, _exit: Exit) {}

/// Have the neighbour `address` on `interface` asked for.
#[inline(never)]
pub(crate) fn neighbour(_config: &Config, _interface: u32, _address: &AddressWords) {}
