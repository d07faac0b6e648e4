//! What differs between IPv4 and IPv6, known when the program is compiled.

use lb_common::flow;

use crate::maps::{self, AddressWords};
use crate::packet::{self, Ipv4, Ipv6, Packet, Piece};

/// Address family, known when the program is compiled.
pub(crate) trait Family {
    const V6: bool;
    /// Offsets of the addresses in the IP header.
    const SOURCE: usize;
    const DESTINATION: usize;
    const PROTO_ICMP: u8;
    /// Whether a message of this type is about another packet, and quotes it.
    fn is_error(icmp_type: u8) -> bool;
    /// Source, destination, protocol and offset of the upper header of a quoted packet; none when it is cut short.
    fn quoted(packet: &Packet, offset: usize, end: usize) -> Option<(AddressWords, AddressWords, u8, usize)>;
    /// The flow hash; ports in host order.
    fn hash(seed: u64, source: &AddressWords, destination: &AddressWords, ports: (u16, u16), protocol: u8) -> u32;
    /// The hash that chooses a backend by `policy`; ports in host order.
    fn forward_hash(
        seed: u64,
        policy: u8,
        source: &AddressWords,
        destination: &AddressWords,
        ports: (u16, u16),
        protocol: u8,
    ) -> u32;
}

pub(crate) struct V4;

impl Family for V4 {
    const V6: bool = false;
    const SOURCE: usize = 12;
    const DESTINATION: usize = 16;
    const PROTO_ICMP: u8 = packet::PROTO_ICMP;

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        matches!(icmp_type, 3 | 11 | 12)
    }

    #[inline(always)]
    fn quoted(packet: &Packet, offset: usize, _end: usize) -> Option<(AddressWords, AddressWords, u8, usize)> {
        let ip: Ipv4 = packet.read(offset)?;
        let header_len = ip.header_len()?;
        if ip.piece() == Piece::Later {
            return None;
        }
        Some((maps::mapped(ip.source), maps::mapped(ip.destination), ip.protocol, offset + header_len))
    }

    #[inline(always)]
    fn hash(seed: u64, source: &AddressWords, destination: &AddressWords, ports: (u16, u16), protocol: u8) -> u32 {
        flow::hash_v4(seed, u32::from_be(source[3]), u32::from_be(destination[3]), ports.0, ports.1, protocol)
    }

    #[inline(always)]
    fn forward_hash(
        seed: u64,
        policy: u8,
        source: &AddressWords,
        destination: &AddressWords,
        ports: (u16, u16),
        protocol: u8,
    ) -> u32 {
        let (source, destination) = (u32::from_be(source[3]), u32::from_be(destination[3]));
        flow::forward_v4(seed, policy, source, destination, ports, protocol)
    }
}

pub(crate) struct V6;

impl Family for V6 {
    const V6: bool = true;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;
    const PROTO_ICMP: u8 = packet::PROTO_ICMPV6;

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
        matches!(icmp_type, 1..=4)
    }

    #[inline(always)]
    fn quoted(packet: &Packet, offset: usize, end: usize) -> Option<(AddressWords, AddressWords, u8, usize)> {
        let ip: Ipv6 = packet.read(offset)?;
        if !ip.is_version_6() {
            return None;
        }
        let (protocol, upper, piece) =
            packet::behind_extensions(packet, ip.next, offset + size_of::<Ipv6>(), end).ok()?;
        if piece != Piece::Whole {
            return None;
        }
        Some((ip.source, ip.destination, protocol, upper))
    }

    #[inline(always)]
    fn hash(seed: u64, source: &AddressWords, destination: &AddressWords, ports: (u16, u16), protocol: u8) -> u32 {
        let source = source.map(u32::from_be);
        let destination = destination.map(u32::from_be);
        flow::hash_v6(seed, source, destination, ports.0, ports.1, protocol)
    }

    #[inline(always)]
    fn forward_hash(
        seed: u64,
        policy: u8,
        source: &AddressWords,
        destination: &AddressWords,
        ports: (u16, u16),
        protocol: u8,
    ) -> u32 {
        let (source, destination) = (source.map(u32::from_be), destination.map(u32::from_be));
        flow::forward_v6(seed, policy, source, destination, ports, protocol)
    }
}
