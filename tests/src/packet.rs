//! Frames by parts: each call puts a header behind what is there; lengths and checksums are filled in at the end,
//! unless a header was told to lie.

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
    /// Offsets of IPv4 headers.
    headers: Vec<usize>,
    /// Protocol and offset of TCP, UDP, ICMP and ICMPv6 headers, and the sum of the addresses before them.
    uppers: Vec<(u8, usize, u32)>,
    /// Sum of the addresses of the IP header that was put last.
    pseudo: u32,
    /// Offset of an IPv4 header whose checksum is to be wrong.
    broken: Option<usize>,
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
        self.pseudo = words_of(&source.octets()) + words_of(&destination.octets());
        self.lengths.push((at + 2, at));
        self.headers.push(at);
        self.next = Some((at + 9, 1));
        self.put(&[0x40 | words, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 0, 0, 0])
            .put(&source.octets())
            .put(&destination.octets())
            .put(options)
    }

    /// Flags and offset (in units of eight bytes) of the IPv4 header that was put last.
    pub fn fragment4(mut self, more: bool, offset: u16) -> Self {
        let at = *self.headers.last().expect("an IPv4 header");
        self.bytes[at + 6..at + 8].copy_from_slice(&((u16::from(more) << 13) | offset).to_be_bytes());
        self
    }

    /// Of the IPv4 headers, the last gets a wrong checksum.
    pub fn broken4(mut self) -> Self {
        self.broken = self.headers.last().copied();
        self
    }

    /// Flags of the TCP header that was put last: CWR, ECE, URG, ACK, PSH, RST, SYN, FIN, from the highest bit on.
    pub fn flags(mut self, flags: u8) -> Self {
        let at = self.uppers.last().expect("a TCP header").1;
        self.bytes[at + 13] = flags;
        self
    }

    /// IPv6.
    pub fn ipv6(mut self, source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        self.follow(0x86dd);
        let at = self.bytes.len();
        self.pseudo = words_of(&source.octets()) + words_of(&destination.octets());
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
        self.known(TCP);
        let words = 5 + options.len() as u8 / 4;
        self.put(&source.to_be_bytes())
            .put(&destination.to_be_bytes())
            .put(&[0, 0, 0, 1, 0, 0, 0, 0, words << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0])
            .put(options)
    }

    /// UDP.
    pub fn udp(mut self, source: u16, destination: u16) -> Self {
        self.known(UDP);
        let at = self.bytes.len();
        self.lengths.push((at + 4, at));
        self.put(&source.to_be_bytes()).put(&destination.to_be_bytes()).put(&[0, 8, 0, 0])
    }

    /// ICMP or ICMPv6 (`protocol`) with eight bytes of header.
    pub fn icmp(mut self, protocol: u8, kind: u8, code: u8) -> Self {
        self.known(protocol);
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
        for at in std::mem::take(&mut self.headers) {
            sum_ipv4(&mut self.bytes[at..]);
        }
        // The inner before the outer, whose checksum covers it.
        for (protocol, at, pseudo) in std::mem::take(&mut self.uppers).into_iter().rev() {
            sum_upper(&mut self.bytes[at..], protocol, pseudo);
        }
        if let Some(at) = self.broken {
            self.bytes[at + 10] ^= 0x55;
        }
        self.bytes
    }

    /// The finished frame, filled up to `len` bytes as a NIC does; what is filled belongs to no header.
    pub fn build_padded(self, len: usize) -> Vec<u8> {
        let mut frame = self.build();
        frame.resize(frame.len().max(len), 0);
        frame
    }

    fn known(&mut self, protocol: u8) {
        self.protocol(protocol);
        self.uppers.push((protocol, self.bytes.len(), self.pseudo));
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

/// An untagged IPv4 frame with the checksum that its header should have, as far as it is there.
pub fn resummed(mut frame: Vec<u8>) -> Vec<u8> {
    sum_ipv4(&mut frame[14..]);
    frame
}

/// Fill in the checksum of the IPv4 header that `bytes` begin with.
fn sum_ipv4(bytes: &mut [u8]) {
    let len = usize::from(bytes[0] & 0xf) * 4;
    let Some(header) = bytes.get_mut(..len).filter(|header| header.len() >= 20) else { return };
    header[10..12].fill(0);
    let sum = folded(words_of(header));
    header[10..12].copy_from_slice(&(!sum).to_be_bytes());
}

/// Fill in the checksum of the header that `bytes` begin with and all that follows it.
fn sum_upper(bytes: &mut [u8], protocol: u8, pseudo: u32) {
    let at = match protocol {
        TCP => 16,
        UDP => 6,
        _ => 2,
    };
    bytes[at..at + 2].fill(0);
    let pseudo = if protocol == ICMP { 0 } else { pseudo + u32::from(protocol) + bytes.len() as u32 };
    let sum = !folded(pseudo + words_of(bytes));
    // RFC 768: a sum of zero is sent as its other form.
    let sum = if protocol == UDP && sum == 0 { 0xffff } else { sum };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn words_of(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low))).sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
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
