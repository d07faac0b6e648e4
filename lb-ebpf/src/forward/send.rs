//! What every packet that is sent on has in common: hops left, a size that fits, MAC addresses, an interface.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::{BACKEND_V4, HopValue, MODE_IPIP, ServiceValue};
use lb_common::checksum::Sum;

use super::choose::Chosen;
use super::maps::DEVICES;
use super::message::{self, Error};
use crate::classify::Datagram;
use crate::family::Family;
use crate::finish::Exit;
use crate::packet::{Ipv4, Ipv6, Packet};

/// Offset of the TTL in IPv4 and of the hop limit in IPv6.
const TTL: usize = 8;
const HOP_LIMIT: usize = 7;
/// Offset of the header checksum in IPv4.
const CHECKSUM: usize = 10;

/// The way to a backend does not take this packet: the sender is told, if it can be.
#[inline(always)]
pub(super) fn refused_by_way<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    chosen: &Chosen,
    hop: &HopValue,
) -> Result<Option<Exit>, Verdict> {
    let mut mtu = hop.mtu;
    if service.mode == MODE_IPIP {
        if chosen.forward.outer_mtu != 0 {
            mtu = mtu.min(chosen.forward.outer_mtu);
        }
        let outer = if chosen.backend.flags & BACKEND_V4 != 0 { size_of::<Ipv4>() } else { size_of::<Ipv6>() };
        mtu = mtu.saturating_sub(outer as u32);
    }
    refused::<F>(datagram, service.id, mtu)
}

/// No hop left, or larger than `mtu`. About an ICMP error no error is made (RFC 1122, 3.2.2; RFC 4443, 2.4).
#[inline(always)]
pub(super) fn refused<F: Family>(datagram: &Datagram<'_>, service: u32, mtu: u32) -> Result<Option<Exit>, Verdict> {
    let at = datagram.ip + if F::V6 { HOP_LIMIT } else { TTL };
    let hops: u8 = datagram.packet.read(at).ok_or(Verdict::TruncatedL3)?;
    let error = if hops <= 1 {
        Error::NoHopLeft
    } else if datagram.end - datagram.ip > mtu as usize {
        Error::TooBig(mtu)
    } else {
        return Ok(None);
    };
    Ok(Some(message::answer::<F>(datagram, service, error)))
}

/// One hop less.
#[inline(always)]
pub(super) fn count_hop<F: Family>(datagram: &Datagram<'_>) -> Result<(), Verdict> {
    let (packet, ip) = (&datagram.packet, datagram.ip);
    if F::V6 {
        let hops: u8 = packet.read(ip + HOP_LIMIT).ok_or(Verdict::TruncatedL3)?;
        return packet.write(ip + HOP_LIMIT, hops.wrapping_sub(1)).ok_or(Verdict::TruncatedL3);
    }
    let header: Ipv4 = packet.read(ip).ok_or(Verdict::TruncatedL3)?;
    let old = u32::from(u16::from_ne_bytes([header.ttl, header.protocol]));
    let new = u32::from(u16::from_ne_bytes([header.ttl.wrapping_sub(1), header.protocol]));
    // Sixteen bits of each word change; the others are the same ones in both.
    let checksum = Sum::ZERO.replace(old, new).update(header.checksum);
    packet.write(ip + TTL, header.ttl.wrapping_sub(1)).ok_or(Verdict::TruncatedL3)?;
    packet.write(ip + CHECKSUM, checksum).ok_or(Verdict::TruncatedL3)
}

/// The way out; gives what XDP returns. Before the frame is touched, as it may be refused.
#[inline(always)]
pub(super) fn way_out(ctx: &XdpContext, hop: &HopValue) -> Result<u32, Verdict> {
    // SAFETY: the context is valid while the program runs.
    if hop.interface == unsafe { (*ctx.ctx).ingress_ifindex } {
        return Ok(xdp_action::XDP_TX);
    }
    DEVICES.redirect(hop.interface, 0).map_err(|_| Verdict::NoDevice)
}

/// Address the frame to the next hop.
#[inline(always)]
pub(super) fn address(packet: &Packet, hop: &HopValue) -> Result<(), Verdict> {
    packet.write(0, hop.macs).ok_or(Verdict::TruncatedL2)
}
