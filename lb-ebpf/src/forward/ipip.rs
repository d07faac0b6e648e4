//! IP in IP: IPv4 in IPv4 (RFC 2003), IPv4 and IPv6 in IPv6 (RFC 2473). The outer source varies with the flow, so that a
//! receiver's RSS, which sees the outer header alone, spreads flows over its queues.

use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use lb_common::Verdict;
use lb_common::abi::{BACKEND_V4, HopValue};
use lb_common::checksum::Sum;

use super::choose::Chosen;
use super::{hop, send};
use crate::classify::Datagram;
use crate::family::Family;
use crate::packet::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, Packet};

/// IANA protocol numbers of what is inside.
const PROTO_IPV4: u8 = 4;
const PROTO_IPV6: u8 = 41;
/// Hops that an outer packet may take (RFC 1700's default).
const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;

/// Put the datagram into an outer packet, addressed to the next hop.
#[inline(always)]
pub(super) fn encapsulate<F: Family>(datagram: &Datagram<'_>, chosen: &Chosen, hop: &HopValue) -> Result<(), Verdict> {
    let inner = datagram.end - datagram.ip;
    let v4 = chosen.backend.flags & BACKEND_V4 != 0;
    if F::V6 && v4 {
        // The control plane puts no IPv4 backend into a ring of IPv6.
        return Err(Verdict::NoBackend);
    }
    let class: u8 = if F::V6 {
        let word: u32 = datagram.packet.read(datagram.ip).ok_or(Verdict::TruncatedL3)?;
        (u32::from_be(word) >> 20) as u8
    } else {
        datagram.packet.read(datagram.ip + 1).ok_or(Verdict::TruncatedL3)?
    };
    send::count_hop::<F>(datagram)?;
    let grow = if v4 { size_of::<Ipv4>() } else { size_of::<Ipv6>() } as i32;
    // SAFETY: the context is this program's. Every pointer into the frame is made anew below.
    if unsafe { bpf_xdp_adjust_head(datagram.ctx.ctx, -grow) } != 0 {
        return Err(Verdict::NoRoom);
    }
    let packet = Packet::new(datagram.ctx);
    if v4 {
        let config = datagram.config;
        let source = config.outer_v4 | (chosen.entropy & config.outer_v4_mask);
        outer_v4(&packet, chosen, inner, class, source)?;
    } else {
        outer_v6(&packet, datagram, chosen, inner, class, F::V6)?;
    }
    send::address(&packet, hop)
}

#[inline(always)]
fn outer_v4(packet: &Packet, chosen: &Chosen, inner: usize, tos: u8, source: u32) -> Result<(), Verdict> {
    let mut header = Ipv4 {
        version_ihl: 0x45,
        tos,
        total_len: ((inner + size_of::<Ipv4>()) as u16).to_be(),
        id: 0,
        fragment: DONT_FRAGMENT.to_be(),
        ttl: TTL,
        protocol: PROTO_IPV4,
        checksum: 0,
        source: source.to_be(),
        destination: hop::words(&chosen.backend.address)[3],
    };
    let first = u32::from(u16::from_ne_bytes([header.version_ihl, header.tos]));
    let fifth = u32::from(u16::from_ne_bytes([header.ttl, header.protocol]));
    header.checksum = Sum::ZERO
        .add(first)
        .add(header.total_len.into())
        .add(header.fragment.into())
        .add(fifth)
        .add(header.source)
        .add(header.destination)
        .checksum();
    packet.write(ETHERNET_LEN - 2, ETHERTYPE_IPV4.to_be()).ok_or(Verdict::NoRoom)?;
    packet.write(ETHERNET_LEN, header).ok_or(Verdict::NoRoom)
}

#[inline(always)]
fn outer_v6(
    packet: &Packet,
    datagram: &Datagram<'_>,
    chosen: &Chosen,
    inner: usize,
    class: u8,
    v6: bool,
) -> Result<(), Verdict> {
    let mut source = *hop::words(&datagram.config.outer_v6);
    source[3] = chosen.entropy;
    let header = Ipv6 {
        version_class_label: (0x6000_0000 | u32::from(class) << 20).to_be(),
        payload_len: (inner as u16).to_be(),
        next: if v6 { PROTO_IPV6 } else { PROTO_IPV4 },
        hop_limit: TTL,
        source,
        destination: *hop::words(&chosen.backend.address),
    };
    packet.write(ETHERNET_LEN - 2, ETHERTYPE_IPV6.to_be()).ok_or(Verdict::NoRoom)?;
    packet.write(ETHERNET_LEN, header).ok_or(Verdict::NoRoom)
}
