//! ICMP errors about flows of forwarded services: from the network to the backend that has the flow, and, for `nat`, from
//! the backend's side to the client. What the error quotes is translated with it (RFC 5508, 4.2).

use lb_common::Verdict;
use lb_common::abi::{MODE_IPIP, MODE_NAT, PROTO_TCP, ReverseValue, SERVICE_KEEP_PORT, ServiceValue};
use lb_common::checksum::Sum;

use super::choose::Chosen;
use super::hop::{self, Miss};
use super::nat::{
    self, CHECKSUM_TCP, CHECKSUM_UDP, CHECKSUM_V4, DESTINATION_PORT, SOURCE_PORT, rewrite_address, rewrite_port,
};
use super::{choose, ipip, send};
use crate::classify::Datagram;
use crate::family::Family;
use crate::finish::Exit;
use crate::maps::AddressWords;
use crate::packet::{ETHERNET_LEN, Packet};

/// Offset of the checksum in ICMP.
const CHECKSUM_ICMP: usize = 2;

/// A packet that an ICMP error quotes.
pub(crate) struct Quote {
    /// Offset of its IP header, and of its upper header, whose ports are there.
    pub(crate) ip: usize,
    pub(crate) upper: usize,
    pub(crate) protocol: u8,
    pub(crate) source: AddressWords,
    pub(crate) destination: AddressWords,
    /// Source and destination, host order.
    pub(crate) ports: (u16, u16),
}

/// An error from the network, to a service's address, about a packet that `service` sent to a client.
#[inline(always)]
pub(crate) fn about_forwarded<F: Family>(datagram: &Datagram<'_>, service: &ServiceValue, quote: &Quote) -> Exit {
    to_backend::<F>(datagram, service, quote).unwrap_or_else(|verdict| Exit::of(service.id, verdict))
}

#[inline(always)]
fn to_backend<F: Family>(datagram: &Datagram<'_>, service: &ServiceValue, quote: &Quote) -> Result<Exit, Verdict> {
    if datagram.ip != ETHERNET_LEN {
        return Err(Verdict::TaggedForward);
    }
    // The flow as its client sends it.
    let flow = Datagram { source: quote.destination, ..*datagram };
    let ports = (quote.ports.1, quote.ports.0);
    let chosen = choose::without_memory::<F>(&flow, service, ports, quote.protocol)?;
    let hop = hop::of_backend(datagram, &chosen).map_err(Miss::verdict)?;
    if let Some(exit) = send::refused_by_way::<F>(datagram, service, &chosen, hop)? {
        return Ok(exit);
    }
    let bytes = datagram.packet.len();
    let sent = send::way_out(datagram.ctx, hop)?;
    match service.mode {
        MODE_IPIP => ipip::encapsulate::<F>(datagram, &chosen, hop)?,
        mode => {
            if mode == MODE_NAT {
                translate_to_backend::<F>(datagram, service, &chosen, quote).ok_or(Verdict::TruncatedL4)?;
            }
            send::count_hop::<F>(datagram)?;
            send::address(&datagram.packet, hop)?;
        }
    }
    choose::count(&chosen, bytes);
    Ok(Exit { sent, ..Exit::of(service.id, Verdict::IcmpErrorForward) })
}

#[inline(always)]
fn translate_to_backend<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    chosen: &Chosen,
    quote: &Quote,
) -> Option<()> {
    let backend = hop::words(&chosen.backend.address);
    let port = match service.flags & SERVICE_KEEP_PORT {
        0 => Some(chosen.backend.port.get().to_be()),
        _ => None,
    };
    let delta = rewrite::<F>(datagram, quote, F::SOURCE, &quote.source, backend, SOURCE_PORT, port)?;
    outer::<F>(datagram, F::DESTINATION, &datagram.destination, backend, delta)
}

/// An error from a backend's side about a packet that `reverse` sent there, to the client.
#[inline(always)]
pub(super) fn translate_to_client<F: Family>(
    datagram: &Datagram<'_>,
    reverse: &ReverseValue,
    quote: &Quote,
) -> Option<()> {
    let service = hop::words(&reverse.address);
    let port = match reverse.port.get() {
        0 => None,
        port => Some(port.to_be()),
    };
    let delta = rewrite::<F>(datagram, quote, F::DESTINATION, &quote.destination, service, DESTINATION_PORT, port)?;
    // A router on the way speaks for itself; the backend speaks as the service.
    let sender = if datagram.source == quote.destination { service } else { &datagram.source };
    outer::<F>(datagram, F::SOURCE, &datagram.source, sender, delta)
}

/// Rewrite an address of the quoted packet, and its port; gives how sums over the quote change.
#[inline(always)]
fn rewrite<F: Family>(
    datagram: &Datagram<'_>,
    quote: &Quote,
    offset: usize,
    old: &AddressWords,
    new: &AddressWords,
    port_offset: usize,
    port: Option<u16>,
) -> Option<Sum> {
    let packet = &datagram.packet;
    let mut delta = Sum::ZERO.replace_all(old, new);
    let mut upper = delta;
    if !F::V6 {
        let before: u16 = packet.read(quote.ip + CHECKSUM_V4)?;
        rewrite_address::<F>(packet, quote.ip, offset, old, new)?;
        let after: u16 = packet.read(quote.ip + CHECKSUM_V4)?;
        delta = delta.replace(before.into(), after.into());
    } else {
        rewrite_address::<F>(packet, quote.ip, offset, old, new)?;
    }
    if let Some(port) = port {
        let change = rewrite_port(packet, quote.upper + port_offset, port)?;
        delta = delta.join(change);
        upper = upper.join(change);
    }
    // The quote may end before the checksum.
    let at = quote.upper + if quote.protocol == PROTO_TCP { CHECKSUM_TCP } else { CHECKSUM_UDP };
    if at + size_of::<u16>() <= datagram.end
        && let Some(before) = packet.read::<u16>(at)
    {
        nat::rewrite_checksum(packet, quote.upper, quote.protocol, upper)?;
        let after: u16 = packet.read(at)?;
        delta = delta.replace(before.into(), after.into());
    }
    Some(delta)
}

/// Rewrite an address of the error itself, and its checksum; IPv6's covers the addresses.
#[inline(always)]
fn outer<F: Family>(
    datagram: &Datagram<'_>,
    offset: usize,
    old: &AddressWords,
    new: &AddressWords,
    quoted: Sum,
) -> Option<()> {
    let packet: &Packet = &datagram.packet;
    rewrite_address::<F>(packet, datagram.ip, offset, old, new)?;
    let delta = if F::V6 { quoted.replace_all(old, new) } else { quoted };
    let before: u16 = packet.read(datagram.upper + CHECKSUM_ICMP)?;
    packet.write(datagram.upper + CHECKSUM_ICMP, delta.update(before))
}
