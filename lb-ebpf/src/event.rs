//! What is told live: dropped packets, one in many, and next hops to be asked for.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    Address, Be16, Config, EVENT_BYTES, EVENT_DROP, EVENT_NEIGHBOUR, EVENT_ROW_LOST, EVENT_ROW_NEIGHBOUR, EVENT_ROWS,
    Event, Limit, NO_SERVICE, PROTO_TCP, PROTO_UDP,
};
use lb_common::rate;

use crate::finish::Exit;
use crate::maps::{self, AddressWords};
use crate::packet::{self, Ipv4, Ipv6, Packet, Ports};

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
pub(crate) fn dropped(ctx: &XdpContext, config: &Config, exit: Exit) {
    let verdict = exit.verdict as u32;
    if config.event_interval == 0 || !may(verdict, config.event_interval) {
        return;
    }
    let packet = Packet::new(ctx);
    let tuple = tuple(&packet);
    let (source_port, destination_port) = tuple.ports;
    submit(Event {
        time: now(),
        kind: EVENT_DROP,
        verdict,
        service: exit.service,
        // SAFETY: the kernel gives a valid context.
        interface: unsafe { (*ctx.ctx).ingress_ifindex },
        source: address(tuple.source),
        destination: address(tuple.destination),
        source_port: Be16::new(source_port),
        destination_port: Be16::new(destination_port),
        protocol: tuple.protocol,
        bytes: packet.len() as u32,
        pad: 0,
    });
}

/// Have the neighbour `address` on `interface` asked for.
#[inline(never)]
pub(crate) fn neighbour(_config: &Config, interface: u32, wanted: &AddressWords) {
    if !may(EVENT_ROW_NEIGHBOUR, NEIGHBOUR_INTERVAL) {
        return;
    }
    submit(Event {
        time: now(),
        kind: EVENT_NEIGHBOUR,
        verdict: 0,
        service: NO_SERVICE,
        interface,
        source: Address([0; 16]),
        destination: address(*wanted),
        source_port: Be16::new(0),
        destination_port: Be16::new(0),
        protocol: 0,
        bytes: 0,
        pad: 0,
    });
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

#[inline(always)]
fn submit(event: Event) {
    match EVENTS.reserve::<Event>(0) {
        Some(mut entry) => {
            entry.write(event);
            entry.submit(0);
        }
        None => {
            if let Some(lost) = EVENT_LIMITS.get_ptr_mut(EVENT_ROW_LOST) {
                // SAFETY: as in `may`.
                unsafe { *lost += 1 };
            }
        }
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn address(words: AddressWords) -> Address {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<AddressWords, Address>(words) }
}

/// What can be read of a packet; zero where it ends before.
#[derive(Default)]
struct Tuple {
    source: AddressWords,
    destination: AddressWords,
    protocol: u32,
    ports: (u16, u16),
}

#[inline(always)]
fn tuple(packet: &Packet) -> Tuple {
    let mut tuple = Tuple::default();
    let Ok((ethertype, offset)) = packet::ethernet(packet) else { return tuple };
    let (protocol, upper) = if ethertype == packet::ETHERTYPE_IPV4 {
        let Some(ip) = packet.read::<Ipv4>(offset) else { return tuple };
        tuple.source = maps::mapped(ip.source);
        tuple.destination = maps::mapped(ip.destination);
        tuple.protocol = u32::from(ip.protocol);
        match ip.header_len() {
            Some(len) if !ip.is_later_fragment() => (ip.protocol, offset + len),
            _ => return tuple,
        }
    } else if ethertype == packet::ETHERTYPE_IPV6 {
        let Some(ip) = packet.read::<Ipv6>(offset) else { return tuple };
        tuple.source = ip.source;
        tuple.destination = ip.destination;
        tuple.protocol = u32::from(ip.next);
        match packet::behind_extensions(packet, ip.next, offset + size_of::<Ipv6>(), packet.len()) {
            Ok(found) => found,
            Err(_) => return tuple,
        }
    } else {
        return tuple;
    };
    tuple.protocol = u32::from(protocol);
    if matches!(protocol, PROTO_TCP | PROTO_UDP)
        && let Some(ports) = packet.read::<Ports>(upper)
    {
        tuple.ports = (ports.source(), ports.destination());
    }
    tuple
}
