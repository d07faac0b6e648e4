//! Packets from the backends of `nat` services: a reply gets the service as its source again. What a backend sends to
//! this host, or as itself, is left alone.

use lb_common::Verdict;
use lb_common::abi::{FEATURE_NAT, PROTO_TCP, PROTO_UDP, ReverseValue};
use lb_common::checksum::Sum;

use super::hop::{self, Miss};
use super::maps::REVERSE;
use super::nat::{SOURCE_PORT, rewrite_address, rewrite_checksum, rewrite_port};
use super::{quote, send};
use crate::classify::Datagram;
use crate::family::Family;
use crate::finish::Exit;
use crate::maps::{self, AddressWords};
use crate::packet::{ETHERNET_LEN, Piece, Tcp, Udp};

/// A packet to no service's address.
#[inline(always)]
pub(crate) fn from_backend<F: Family>(datagram: &Datagram<'_>, protocol: u8, piece: Piece) -> Result<Exit, Verdict> {
    if datagram.config.features & FEATURE_NAT == 0 || datagram.ip != ETHERNET_LEN {
        return Err(Verdict::NotVip);
    }
    match protocol {
        PROTO_TCP | PROTO_UDP => reply::<F>(datagram, protocol, piece),
        p if p == F::PROTO_ICMP && piece == Piece::Whole => error::<F>(datagram),
        _ => Err(Verdict::NotVip),
    }
}

#[inline(always)]
fn reply<F: Family>(datagram: &Datagram<'_>, protocol: u8, piece: Piece) -> Result<Exit, Verdict> {
    let mut exact = None;
    if piece != Piece::Later {
        let port: u16 = datagram.packet.read(datagram.upper).ok_or(Verdict::NotVip)?;
        exact = reverse(&datagram.source, u16::from_be(port), protocol);
    }
    let all = || reverse(&datagram.source, 0, protocol);
    let reverse = exact.or_else(all).ok_or(Verdict::NotVip)?;
    let hop = match hop::of_client::<F>(datagram) {
        Ok(hop) => hop,
        Err(Miss::NotForwarded) => return Err(Verdict::NotVip),
        Err(miss) => return Ok(Exit::of(reverse.service, miss.verdict())),
    };
    // The fragments that follow have no ports to know them by.
    if piece == Piece::First && exact.is_some() {
        return Ok(Exit::of(reverse.service, Verdict::FragmentForward));
    }
    let sent = || {
        if let Some(exit) = send::refused::<F>(datagram, reverse.service, hop.mtu)? {
            return Ok(exit);
        }
        let sent = send::way_out(datagram.ctx, hop)?;
        rewrite::<F>(datagram, reverse, protocol, piece)?;
        send::count_hop::<F>(datagram)?;
        send::address(&datagram.packet, hop)?;
        Ok(Exit { sent, ..Exit::of(reverse.service, Verdict::ReplyNat) })
    };
    Ok(sent().unwrap_or_else(|verdict| Exit::of(reverse.service, verdict)))
}

#[inline(always)]
fn rewrite<F: Family>(
    datagram: &Datagram<'_>,
    reverse: &ReverseValue,
    protocol: u8,
    piece: Piece,
) -> Result<(), Verdict> {
    let (packet, upper) = (&datagram.packet, datagram.upper);
    let service = hop::words(&reverse.address);
    if piece != Piece::Later {
        let header = if protocol == PROTO_TCP { size_of::<Tcp>() } else { size_of::<Udp>() };
        if upper + header > datagram.end {
            return Err(Verdict::TruncatedL4);
        }
        let mut delta = Sum::ZERO.replace_all(&datagram.source, service);
        if reverse.port.get() != 0 {
            let port = reverse.port.get().to_be();
            delta = delta.join(rewrite_port(packet, upper + SOURCE_PORT, port).ok_or(Verdict::TruncatedL4)?);
        }
        rewrite_checksum(packet, upper, protocol, delta).ok_or(Verdict::TruncatedL4)?;
    }
    rewrite_address::<F>(packet, datagram.ip, F::SOURCE, &datagram.source, service).ok_or(Verdict::TruncatedL3)
}

/// An ICMP error about a packet that was sent to a backend.
#[inline(always)]
fn error<F: Family>(datagram: &Datagram<'_>) -> Result<Exit, Verdict> {
    let quote = datagram.quote::<F>().ok_or(Verdict::NotVip)?;
    let reverse = reverse(&quote.destination, quote.ports.1, quote.protocol)
        .or_else(|| reverse(&quote.destination, 0, quote.protocol))
        .ok_or(Verdict::NotVip)?;
    // To whoever sent that packet, and to nobody else.
    if quote.source != datagram.destination {
        return Err(Verdict::NotVip);
    }
    let hop = match hop::of_client::<F>(datagram) {
        Ok(hop) => hop,
        Err(Miss::NotForwarded) => return Err(Verdict::NotVip),
        Err(miss) => return Ok(Exit::of(reverse.service, miss.verdict())),
    };
    let sent = || {
        if let Some(exit) = send::refused::<F>(datagram, reverse.service, hop.mtu)? {
            return Ok(exit);
        }
        let sent = send::way_out(datagram.ctx, hop)?;
        quote::translate_to_client::<F>(datagram, reverse, &quote).ok_or(Verdict::TruncatedL4)?;
        send::count_hop::<F>(datagram)?;
        send::address(&datagram.packet, hop)?;
        Ok(Exit { sent, ..Exit::of(reverse.service, Verdict::IcmpErrorReply) })
    };
    Ok(sent().unwrap_or_else(|verdict| Exit::of(reverse.service, verdict)))
}

#[inline(always)]
fn reverse(address: &AddressWords, port: u16, protocol: u8) -> Option<&'static ReverseValue> {
    // SAFETY: an entry that is replaced meanwhile names the service before or after; both are in force then.
    unsafe { REVERSE.get(maps::service_key(address, port, protocol)) }
}
