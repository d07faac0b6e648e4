//! Frames by parts: each call puts a header behind what is there; lengths are filled in at the end, unless a header
//! was told to lie.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Source of every frame, unless a test says otherwise.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The same for IPv6.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7);

/// EtherType of a VLAN tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of a service tag.
pub const QINQ: u16 = 0x88a8;

/// IANA numbers.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Routing header.
pub const ROUTING: u8 = 43;
/// Fragment header.
pub const FRAGMENT: u8 = 44;
/// Destination options.
pub const DESTINATION: u8 = 60;

/// Bytes in the making. Where a header names what follows or how long it is, that is patched by what comes next.
#[derive(Debug, Clone, Default)]
pub struct Packet {
    bytes: Vec<u8>,
    /// Offset of the "next protocol" field to be filled by the next header, and its width.
    next: Option<(usize, usize)>,
    /// Offsets of length fields, and where their count begins.
    lengths: Vec<(usize, usize)>,
}

impl Packet {
    /// Ethernet II.
    pub fn ethernet() -> Self {
        let bytes = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].concat();
        let mut packet = Self { bytes, ..Self::default() };
        packet.next = Some((12, 2));
        packet.put(&[0, 0])
    }

    /// What an ICMP error quotes begins with the IP header.
    pub fn quote() -> Self {
        Self::default()
    }

    /// A VLAN tag of this EtherType.
    pub fn tag(mut self, ethertype: u16, id: u16) -> Self {
        self.follow(ethertype);
        let at = self.bytes.len();
        self.next = Some((at + 2, 2));
        self.put(&id.to_be_bytes()).put(&[0, 0])
    }

    /// Nothing that IP knows.
    pub fn ethertype(mut self, ethertype: u16, payload: &[u8]) -> Self {
        self.follow(ethertype);
        self.put(payload)
    }

    /// IPv4 with `options`, a multiple of four bytes.
    pub fn ipv4(mut self, source: Ipv4Addr, destination: Ipv4Addr, options: &[u8]) -> Self {
        self.follow(0x0800);
        let at = self.bytes.len();
        let words = 5 + options.len() as u8 / 4;
        self.lengths.push((at + 2, at));
        self.next = Some((at + 9, 1));
        self.put(&[0x40 | words, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 0, 0, 0])
            .put(&source.octets())
            .put(&destination.octets())
            .put(options)
    }

    /// Flags and offset (in units of eight bytes) of the IPv4 header that was put last.
    pub fn fragment4(mut self, more: bool, offset: u16) -> Self {
        let at = self.lengths.last().expect("an IPv4 header").1;
        self.bytes[at + 6..at + 8].copy_from_slice(&((u16::from(more) << 13) | offset).to_be_bytes());
        self
    }

    /// IPv6.
    pub fn ipv6(mut self, source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        self.follow(0x86dd);
        let at = self.bytes.len();
        self.lengths.push((at + 4, at + 40));
        self.next = Some((at + 6, 1));
        self.put(&[0x60, 0x01, 0x23, 0x45, 0, 0, 0, 64]).put(&source.octets()).put(&destination.octets())
    }

    /// An IPv6 extension header of 8 + 8 × `units` bytes.
    pub fn extension(mut self, kind: u8, units: u8) -> Self {
        self.protocol(kind);
        let at = self.bytes.len();
        self.next = Some((at, 1));
        // A PadN option over the rest (RFC 8200, 4.2); for a routing header: type 1, no segments left.
        self.put(&[
            0,
            units,
            1,
            if kind == ROUTING { 0 } else { units.saturating_mul(8).saturating_add(4) },
            0,
            0,
            0,
            0,
        ])
        .put(&vec![0; usize::from(units) * 8])
    }

    /// An IPv6 fragment header.
    pub fn fragment6(mut self, more: bool, offset: u16) -> Self {
        self.protocol(FRAGMENT);
        let at = self.bytes.len();
        self.next = Some((at, 1));
        self.put(&[0, 0]).put(&((offset << 3) | u16::from(more)).to_be_bytes()).put(&[0, 0, 0, 9])
    }

    /// TCP with a SYN, `options` a multiple of four bytes.
    pub fn tcp(mut self, source: u16, destination: u16, options: &[u8]) -> Self {
        self.protocol(TCP);
        let words = 5 + options.len() as u8 / 4;
        self.put(&source.to_be_bytes())
            .put(&destination.to_be_bytes())
            .put(&[0, 0, 0, 1, 0, 0, 0, 0, words << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0])
            .put(options)
    }

    /// UDP.
    pub fn udp(mut self, source: u16, destination: u16) -> Self {
        self.protocol(UDP);
        self.put(&source.to_be_bytes()).put(&destination.to_be_bytes()).put(&[0, 8, 0, 0])
    }

    /// ICMP or ICMPv6 (`protocol`) with eight bytes of header.
    pub fn icmp(mut self, protocol: u8, kind: u8, code: u8) -> Self {
        self.protocol(protocol);
        self.put(&[kind, code, 0, 0, 0, 0, 0, 0])
    }

    /// An upper header of this protocol number.
    pub fn upper(mut self, protocol: u8, bytes: &[u8]) -> Self {
        self.protocol(protocol);
        self.put(bytes)
    }

    /// More bytes.
    pub fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The finished frame.
    pub fn build(mut self) -> Vec<u8> {
        let end = self.bytes.len();
        for (at, from) in std::mem::take(&mut self.lengths) {
            let length = u16::try_from(end - from).expect("a frame below 64 KiB");
            self.bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
        }
        self.bytes
    }

    /// The finished frame, filled up to `len` bytes as a NIC does; what is filled belongs to no header.
    pub fn build_padded(self, len: usize) -> Vec<u8> {
        let mut frame = self.build();
        frame.resize(frame.len().max(len), 0);
        frame
    }

    fn protocol(&mut self, protocol: u8) {
        self.follow(u16::from(protocol));
    }

    fn follow(&mut self, next: u16) {
        if let Some((at, width)) = self.next.take() {
            self.bytes[at..at + width].copy_from_slice(&next.to_be_bytes()[2 - width..]);
        }
    }
}

/// `frame` with the byte at `offset` replaced.
pub fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The first `len` bytes of `frame`.
pub fn cut(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.truncate(len);
    frame
}
