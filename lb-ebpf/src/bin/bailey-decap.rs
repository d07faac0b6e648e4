//! On a backend's host: takes the outer IP header off packets that an edge sent by `ipip`, where the inner destination
//! is one of the addresses that the control plane named. Everything else is left to the stack.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "the program has no caller on the host"))]

#[path = "../object.rs"]
mod object;
#[path = "../packet.rs"]
#[allow(dead_code, reason = "`edge` reads more headers")]
mod packet;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{DECAP_MALFORMED, DECAP_OTHER, DECAP_ROWS, DECAP_TAKEN_OFF};

use packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Header, Ipv4, Ipv6, Packet, Piece};

/// IANA protocol numbers of IPv4 and IPv6 within IP.
const PROTO_IPV4: u8 = 4;
const PROTO_IPV6: u8 = 41;
/// Lengths of an Ethernet header without and with a VLAN tag.
const UNTAGGED: usize = 14;
const TAGGED: usize = 18;

/// Inner destinations, IPv4 in its mapped form. Written by the control plane at load.
#[map]
static DECAP_ADDRESSES: HashMap<[u32; 4], u32> = HashMap::with_max_entries(1, 0);

/// Read by the control plane.
#[map]
static DECAP_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DECAP_ROWS, 0);

/// An Ethernet header, with room for a tag, in halves of words: no more alignment is certain.
#[repr(C)]
#[derive(Clone, Copy)]
struct Link<const HALVES: usize>([u16; HALVES]);
// SAFETY: repr(C), integers, no padding.
unsafe impl<const HALVES: usize> Header for Link<HALVES> {}

/// An outer header.
struct Outer {
    /// Offset of the inner packet.
    inner: usize,
    /// Offset of the outer packet's end.
    end: usize,
    protocol: u8,
    fragment: bool,
}

#[xdp]
fn decap(ctx: XdpContext) -> u32 {
    let packet = Packet::new(&ctx);
    let Ok((ethertype, link)) = packet::ethernet(&packet) else { return XDP_PASS };
    let Some(outer) = outer(&packet, ethertype, link) else { return XDP_PASS };
    if outer.fragment || (link != UNTAGGED && link != TAGGED) {
        return ends(DECAP_OTHER, XDP_PASS);
    }
    let Some(destination) = inner_destination(&packet, &outer) else { return ends(DECAP_MALFORMED, XDP_DROP) };
    // SAFETY: entries are written before the program is attached.
    if unsafe { DECAP_ADDRESSES.get(destination) }.is_none() {
        return ends(DECAP_OTHER, XDP_PASS);
    }
    let ethertype = if outer.protocol == PROTO_IPV4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let taken_off = if link == UNTAGGED {
        take_off::<7>(&ctx, &packet, outer.inner - link, ethertype)
    } else {
        take_off::<9>(&ctx, &packet, outer.inner - link, ethertype)
    };
    match taken_off {
        Some(()) => ends(DECAP_TAKEN_OFF, XDP_PASS),
        None => ends(DECAP_MALFORMED, XDP_DROP),
    }
}

/// The header at `offset`, if it carries IP.
#[inline(always)]
fn outer(packet: &Packet, ethertype: u16, offset: usize) -> Option<Outer> {
    let outer = match ethertype {
        ETHERTYPE_IPV4 => {
            let ip: Ipv4 = packet.read(offset)?;
            let inner = offset + ip.header_len()?;
            Outer { inner, end: offset + ip.total_len(), protocol: ip.protocol, fragment: ip.piece() != Piece::Whole }
        }
        ETHERTYPE_IPV6 => {
            let ip: Ipv6 = packet.read(offset)?;
            let inner = offset + size_of::<Ipv6>();
            Outer { inner, end: inner + ip.payload_len()?, protocol: ip.next, fragment: false }
        }
        _ => return None,
    };
    matches!(outer.protocol, PROTO_IPV4 | PROTO_IPV6).then_some(outer)
}

/// Where the inner packet goes; none where it is malformed or cut.
#[inline(always)]
fn inner_destination(packet: &Packet, outer: &Outer) -> Option<[u32; 4]> {
    if outer.end > packet.len() {
        return None;
    }
    let (end, destination) = if outer.protocol == PROTO_IPV4 {
        let ip: Ipv4 = packet.read(outer.inner)?;
        if ip.total_len() < ip.header_len()? {
            return None;
        }
        let mapped = [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), ip.destination];
        (outer.inner + ip.total_len(), mapped)
    } else {
        let ip: Ipv6 = packet.read(outer.inner)?;
        if !ip.is_version_6() {
            return None;
        }
        (outer.inner + size_of::<Ipv6>() + ip.payload_len()?, ip.destination)
    };
    (end <= outer.end).then_some(destination)
}

/// Take `len` bytes away behind the Ethernet header of so many halves of words.
#[inline(always)]
fn take_off<const HALVES: usize>(ctx: &XdpContext, packet: &Packet, len: usize, ethertype: u16) -> Option<()> {
    let Link(mut halves) = packet.read::<Link<HALVES>>(0)?;
    halves[HALVES - 1] = ethertype.to_be();
    // SAFETY: the context is valid; pointers into the frame are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, len as i32) } != 0 {
        return None;
    }
    let start = ctx.data();
    if start + size_of::<Link<HALVES>>() > ctx.data_end() {
        return None;
    }
    // SAFETY: within the frame by the check; see `Packet::read` for alignment.
    unsafe { *(start as *mut Link<HALVES>) = Link(halves) };
    Some(())
}

#[inline(always)]
fn ends(row: u32, action: u32) -> u32 {
    if let Some(counter) = DECAP_COUNTERS.get_ptr_mut(row) {
        // SAFETY: the pointer is this CPU's element; XDP runs on it with bottom halves off, so nothing interrupts.
        unsafe { *counter += 1 };
    }
    action
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
