//! Destination NAT: the destination becomes the backend, the source stays the client.

use lb_common::Verdict;
use lb_common::abi::{PROTO_TCP, SERVICE_KEEP_PORT, ServiceValue};
use lb_common::checksum::Sum;

use super::choose::Chosen;
use super::{Sort, hop, send};
use crate::classify::Datagram;
use crate::family::Family;
use crate::maps::AddressWords;
use crate::packet::Packet;

/// Offset of the checksum in an IPv4 header.
pub(super) const CHECKSUM_V4: usize = 10;
/// Offsets of the ports.
pub(super) const SOURCE_PORT: usize = 0;
pub(super) const DESTINATION_PORT: usize = 2;
/// Offsets of the checksums in TCP and UDP.
pub(super) const CHECKSUM_TCP: usize = 16;
pub(super) const CHECKSUM_UDP: usize = 6;

/// Rewrite the destination, and count the hop.
#[inline(always)]
pub(super) fn destination<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    chosen: &Chosen,
    protocol: u8,
    sort: Sort,
) -> Result<(), Verdict> {
    let (packet, upper) = (&datagram.packet, datagram.upper);
    let address = hop::words(&chosen.backend.address);
    let mut delta = Sum::ZERO.replace_all(&datagram.destination, address);
    if sort != Sort::LaterFragment {
        if service.flags & SERVICE_KEEP_PORT == 0 {
            let port = chosen.backend.port.get().to_be();
            delta = delta.join(rewrite_port(packet, upper + DESTINATION_PORT, port).ok_or(Verdict::TruncatedL4)?);
        }
        rewrite_checksum(packet, upper, protocol, delta).ok_or(Verdict::TruncatedL4)?;
    }
    rewrite_address::<F>(packet, datagram.ip, F::DESTINATION, &datagram.destination, address)
        .ok_or(Verdict::TruncatedL3)?;
    send::count_hop::<F>(datagram)
}

/// Put an address in place of another, into the header at `ip`; IPv4's own checksum with it.
#[inline(always)]
pub(super) fn rewrite_address<F: Family>(
    packet: &Packet,
    ip: usize,
    offset: usize,
    old: &AddressWords,
    new: &AddressWords,
) -> Option<()> {
    if F::V6 {
        return packet.write(ip + offset, *new);
    }
    let checksum: u16 = packet.read(ip + CHECKSUM_V4)?;
    packet.write(ip + offset, new[3])?;
    packet.write(ip + CHECKSUM_V4, Sum::ZERO.replace(old[3], new[3]).update(checksum))
}

/// Put a port (network order) in place of what stands at `at`; gives how sums over it change.
#[inline(always)]
pub(super) fn rewrite_port(packet: &Packet, at: usize, port: u16) -> Option<Sum> {
    let old: u16 = packet.read(at)?;
    packet.write(at, port)?;
    Some(Sum::ZERO.replace(old.into(), port.into()))
}

/// Update the checksum of the TCP or UDP header at `upper`. A UDP datagram may have none (RFC 768).
#[inline(always)]
pub(super) fn rewrite_checksum(packet: &Packet, upper: usize, protocol: u8, delta: Sum) -> Option<()> {
    if protocol == PROTO_TCP {
        let old: u16 = packet.read(upper + CHECKSUM_TCP)?;
        return packet.write(upper + CHECKSUM_TCP, delta.update(old));
    }
    let old: u16 = packet.read(upper + CHECKSUM_UDP)?;
    if old == 0 {
        return Some(());
    }
    let new = delta.update(old);
    packet.write(upper + CHECKSUM_UDP, if new == 0 { 0xffff } else { new })
}
