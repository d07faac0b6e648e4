//! What is told live: dropped packets, one in many, and next hops to be asked for.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    Be16, EVENT_BYTES, EVENT_DROP, EVENT_NEIGHBOUR, EVENT_ROW_LOST, EVENT_ROW_NEIGHBOUR, EVENT_ROWS, Event, Limit,
    PROTO_TCP, PROTO_UDP,
};
use lb_common::rate;

use crate::maps::{self, AddressWords};
use crate::packet::{self, Ipv4, Ipv6, Packet, Piece, Ports};

/// Written by edge; read by the control plane.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);

/// Buckets of what may be told; see `lb_common::abi`. Written and read by edge; the count is read by the control plane.
#[map]
pub(crate) static EVENT_LIMITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(EVENT_ROWS, 0);

/// Nanoseconds between two neighbours that are asked for.
const NEIGHBOUR_INTERVAL: u64 = 1_000_000;
/// Events of a kind that may be told at once.
const BURST: u64 = 10;

/// Tell of a packet that is dropped.
#[inline(never)]
pub(crate) fn dropped(ctx: &XdpContext, service: u32, verdict: u32) {
    let interval = maps::CONFIG.get(0).map_or(0, |config| config.event_interval);
    if interval == 0 || !may(verdict, interval) {
        return;
    }
    let Some(mut entry) = reserve() else { return };
    let event = entry.as_mut_ptr();
    let packet = Packet::new(ctx);
    // SAFETY: the entry is ours and large enough; every field is written before it is submitted.
    unsafe {
        event.write_bytes(0, 1);
        (*event).time = now();
        (*event).kind = EVENT_DROP;
        (*event).verdict = verdict;
        (*event).service = service;
        (*event).interface = (*ctx.ctx).ingress_ifindex;
        (*event).bytes = packet.len() as u32;
        tuple(&packet, &mut *event);
    }
    entry.submit(0);
}

/// Have the neighbour `address` on `interface` asked for.
#[inline(never)]
pub(crate) fn neighbour(interface: u32, wanted: &AddressWords) {
    if !may(EVENT_ROW_NEIGHBOUR, NEIGHBOUR_INTERVAL) {
        return;
    }
    let Some(mut entry) = reserve() else { return };
    let event = entry.as_mut_ptr();
    // SAFETY: as in `dropped`.
    unsafe {
        event.write_bytes(0, 1);
        (*event).time = now();
        (*event).kind = EVENT_NEIGHBOUR;
        (*event).interface = interface;
        *(&raw mut (*event).destination).cast() = *wanted;
    }
    entry.submit(0);
}

/// Whether an event of this row may be told now.
#[inline(always)]
fn may(row: u32, interval: u64) -> bool {
    let Some(bucket) = EVENT_LIMITS.get_ptr_mut(row) else { return false };
    let limit = Limit { interval, burst: interval * BURST };
    // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
    unsafe {
        match rate::take(&limit, *bucket, now()) {
            Some(arrival) => {
                *bucket = arrival;
                true
            }
            None => false,
        }
    }
}

/// Room for an event; who finds none is counted.
#[inline(always)]
fn reserve() -> Option<RingBufEntry<Event>> {
    let entry = EVENTS.reserve::<Event>(0);
    if entry.is_none()
        && let Some(lost) = EVENT_LIMITS.get_ptr_mut(EVENT_ROW_LOST)
    {
        // SAFETY: as in `may`.
        unsafe { *lost += 1 };
    }
    entry
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// What can be read of a packet; what it ends before stays zero. Behind an IPv6 extension header ports are not looked for.
#[inline(always)]
fn tuple(packet: &Packet, event: &mut Event) {
    let Ok((ethertype, offset)) = packet::ethernet(packet) else { return };
    let (source, destination) = (&raw mut event.source, &raw mut event.destination);
    let upper;
    if ethertype == packet::ETHERTYPE_IPV4 {
        let Some(ip) = packet.read::<Ipv4>(offset) else { return };
        // SAFETY: 16 plain bytes at multiples of four in an entry of the ring buffer.
        unsafe {
            *source.cast() = maps::mapped(ip.source);
            *destination.cast() = maps::mapped(ip.destination);
        }
        event.protocol = u32::from(ip.protocol);
        let Some(len) = ip.header_len() else { return };
        if ip.piece() == Piece::Later {
            return;
        }
        upper = offset + len;
    } else if ethertype == packet::ETHERTYPE_IPV6 {
        let Some(ip) = packet.read::<Ipv6>(offset) else { return };
        // SAFETY: as above.
        unsafe {
            *source.cast() = ip.source;
            *destination.cast() = ip.destination;
        }
        event.protocol = u32::from(ip.next);
        upper = offset + size_of::<Ipv6>();
    } else {
        return;
    }
    if event.protocol != u32::from(PROTO_TCP) && event.protocol != u32::from(PROTO_UDP) {
        return;
    }
    if let Some(ports) = packet.read::<Ports>(upper) {
        event.source_port = Be16::new(ports.source());
        event.destination_port = Be16::new(ports.destination());
    }
}
