//! A bounds-checked cursor over one frame, and the headers it reads: Ethernet, up to two VLAN tags, IPv4, IPv6 and
//! its extension headers, TCP, UDP, ICMP. Says where a header ends or why it cannot be read; knows no service.

use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;

/// EtherTypes (IEEE 802 numbers).
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// VLAN tags that are followed: a service tag around a customer tag.
const MAX_VLAN_TAGS: usize = 2;

/// Bytes of an Ethernet header without tags.
pub(crate) const ETHERNET_LEN: usize = size_of::<Ethernet>();

/// IANA protocol numbers.
pub(crate) const PROTO_ICMP: u8 = 1;
pub(crate) const PROTO_ICMPV6: u8 = 58;
const EXT_HOP_BY_HOP: u8 = 0;
const EXT_ROUTING: u8 = 43;
const EXT_FRAGMENT: u8 = 44;
const EXT_DESTINATION: u8 = 60;
/// IPv6 extension headers that are followed. RFC 8200 (4.1) names each of the four kinds once, destination options twice.
const MAX_EXTENSIONS: usize = 6;

/// A header whose every bit pattern is a value, so that it can be read from any bytes.
///
/// # Safety
/// Only for `repr(C)` structs of unsigned integers and arrays of them, without padding.
pub(crate) unsafe trait Header: Copy {}

/// One frame. Offsets count from its first byte.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { start: ctx.data(), end: ctx.data_end() }
    }

    /// Bytes in the frame.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The header at `offset`, none when the frame ends before the header does.
    #[inline(always)]
    pub(crate) fn read<H: Header>(&self, offset: usize) -> Option<H> {
        let at = self.start + hidden(offset);
        if at + size_of::<H>() > self.end {
            return None;
        }
        // SAFETY: the bytes at..at+size lie within the frame, and a `Header` is valid for any bytes. The address need
        // not be a multiple of the struct's alignment: the kernel refuses the program where the CPU cannot do that,
        // and an unaligned read would be compiled to one load a byte.
        Some(unsafe { *(at as *const H) })
    }

    /// Put `value` at `offset`, none when the frame ends before it does.
    #[inline(always)]
    pub(crate) fn write<H: Header>(&self, offset: usize, value: H) -> Option<()> {
        let at = self.start + hidden(offset);
        if at + size_of::<H>() > self.end {
            return None;
        }
        // SAFETY: as in `read`; a frame belongs to the program while it runs.
        unsafe { *(at as *mut H) = value };
        Some(())
    }
}

// SAFETY: integers and arrays of them.
unsafe impl Header for u8 {}
// SAFETY: as above.
unsafe impl Header for u16 {}
// SAFETY: as above.
unsafe impl Header for u32 {}
// SAFETY: as above.
unsafe impl Header for [u32; 4] {}
// SAFETY: as above.
unsafe impl Header for [u8; 12] {}
// SAFETY: as above.
unsafe impl Header for [u32; 7] {}

/// The same offset, of which the compiler knows nothing: it would leave out a check that an earlier one implies, of which
/// the verifier, which follows pointers and not what they were added up from, has not heard. Costs a move.
#[inline(always)]
fn hidden(offset: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut offset = offset;
        // SAFETY: a register moved to itself. Without an instruction there would be two line records for one address,
        // which the kernel refuses.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) offset, options(pure, nomem, nostack, preserves_flags)) };
        offset
    }
    #[cfg(not(target_arch = "bpf"))]
    offset
}

/// The same offset, of which the verifier knows only that it is within a frame. Without this it follows everything behind
/// a header once for each way that led there (tags, options, extension headers) and gives up; so it finds that it has
/// been there. Written by bytes and read as a word, for which it keeps no value.
#[inline(always)]
pub(crate) fn unknown(offset: usize) -> usize {
    /// Above every frame that XDP gets in one piece.
    const MASK: u16 = 0x3fff;
    let mut word = 0u16;
    let bytes = (&raw mut word).cast::<u8>();
    let [first, second] = (offset as u16).to_ne_bytes();
    // SAFETY: both bytes are the word's.
    unsafe {
        bytes.write_volatile(first);
        bytes.add(1).write_volatile(second);
        usize::from((&raw const word).read_volatile() & MASK)
    }
}

/// Ethernet II.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ethernet {
    addresses: [u16; 6],
    ethertype: u16,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Ethernet {}

/// What follows a tag's EtherType: the tag, and the next EtherType.
#[repr(C)]
#[derive(Clone, Copy)]
struct VlanTag {
    tag: u16,
    ethertype: u16,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for VlanTag {}

/// A datagram, or a piece of one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Whole,
    /// The fragment that holds the beginning.
    First,
    /// A fragment that does not.
    Later,
}

/// RFC 791, 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_len: u16,
    pub(crate) id: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    /// IANA number of what is carried.
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    /// As it stands in the packet.
    pub(crate) source: u32,
    /// As it stands in the packet.
    pub(crate) destination: u32,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Ipv4 {}

impl Ipv4 {
    /// Bytes of header and options; none for a version or length that cannot be.
    #[inline(always)]
    pub(crate) fn header_len(&self) -> Option<usize> {
        let len = (self.version_ihl & 0xf) as usize * 4;
        (self.version_ihl >> 4 == 4 && len >= size_of::<Self>()).then_some(len)
    }

    /// Bytes of the whole datagram.
    #[inline(always)]
    pub(crate) fn total_len(&self) -> usize {
        u16::from_be(self.total_len) as usize
    }

    /// Which piece of a datagram this is.
    #[inline(always)]
    pub(crate) fn piece(&self) -> Piece {
        if self.fragment & 0x3fff_u16.to_be() == 0 {
            Piece::Whole
        } else if self.fragment & 0x1fff_u16.to_be() == 0 {
            Piece::First
        } else {
            Piece::Later
        }
    }
}

/// RFC 8200, 3.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv6 {
    pub(crate) version_class_label: u32,
    pub(crate) payload_len: u16,
    /// IANA number of the next header.
    pub(crate) next: u8,
    pub(crate) hop_limit: u8,
    /// As it stands in the packet.
    pub(crate) source: [u32; 4],
    /// As it stands in the packet.
    pub(crate) destination: [u32; 4],
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Ipv6 {}

impl Ipv6 {
    #[inline(always)]
    pub(crate) fn is_version_6(&self) -> bool {
        self.version_class_label & 0xf000_0000_u32.to_be() == 0x6000_0000_u32.to_be()
    }

    /// Bytes after the fixed header; none for a jumbogram (RFC 2675), which no service takes.
    #[inline(always)]
    pub(crate) fn payload_len(&self) -> Option<usize> {
        let len = u16::from_be(self.payload_len) as usize;
        (len != 0 || self.next != EXT_HOP_BY_HOP).then_some(len)
    }
}

/// The first eight bytes of an extension header (RFC 8200, 4.3 to 4.6).
#[repr(C)]
#[derive(Clone, Copy)]
struct Extension {
    next: u8,
    /// In units of eight bytes, the first not counted. Reserved in the fragment header.
    len: u8,
    /// Offset, reserved bits and M in the fragment header; type and segments left in the routing header.
    word: [u8; 2],
    rest: u32,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Extension {}

/// RFC 9293, 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    /// Ports.
    pub(crate) ports: Ports,
    sequence: u32,
    acknowledgment: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Tcp {}

impl Tcp {
    /// Bytes of header and options, as the header says.
    #[inline(always)]
    pub(crate) fn header_len(&self) -> usize {
        (self.data_offset >> 4) as usize * 4
    }

    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN, from the highest bit on.
    #[inline(always)]
    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether this asks for a new connection: SYN without ACK.
    #[inline(always)]
    pub(crate) fn is_opening(&self) -> bool {
        self.flags & 0x12 == 0x02
    }
}

/// RFC 768.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Udp {
    /// Ports.
    pub(crate) ports: Ports,
    len: u16,
    checksum: u16,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Udp {}

impl Udp {
    /// Bytes of header and data, as the header says.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        u16::from_be(self.len) as usize
    }
}

/// What TCP and UDP begin with; all that an ICMP error must quote of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    source: u16,
    destination: u16,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Ports {}

impl Ports {
    #[inline(always)]
    pub(crate) fn source(&self) -> u16 {
        u16::from_be(self.source)
    }
    #[inline(always)]
    pub(crate) fn destination(&self) -> u16 {
        u16::from_be(self.destination)
    }
}

/// RFC 792 and RFC 4443: what every message begins with. An error quotes the packet it is about right after.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Icmp {
    /// Message type.
    pub(crate) kind: u8,
    code: u8,
    checksum: u16,
    rest: u32,
}
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Icmp {}

/// EtherType behind the tags, and the offset of what it names.
#[inline(always)]
pub(crate) fn ethernet(packet: &Packet) -> Result<(u16, usize), Verdict> {
    let header: Ethernet = packet.read(0).ok_or(Verdict::TruncatedL2)?;
    let mut ethertype = u16::from_be(header.ethertype);
    let mut offset = size_of::<Ethernet>();
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        let tag: VlanTag = packet.read(offset).ok_or(Verdict::TruncatedL2)?;
        ethertype = u16::from_be(tag.ethertype);
        offset += size_of::<VlanTag>();
    }
    Ok((ethertype, offset))
}

/// Protocol behind the extension headers, its offset, and which piece of a datagram it is; what is behind a fragment's
/// header is not followed. `next` is the first header, at `offset`; `end` is where the datagram ends.
#[inline(always)]
pub(crate) fn behind_extensions(
    packet: &Packet,
    mut next: u8,
    mut offset: usize,
    end: usize,
) -> Result<(u8, usize, Piece), Verdict> {
    for followed in 0..=MAX_EXTENSIONS {
        if !matches!(next, EXT_HOP_BY_HOP | EXT_ROUTING | EXT_FRAGMENT | EXT_DESTINATION) {
            break;
        }
        if followed == MAX_EXTENSIONS {
            return Err(Verdict::TooManyHeaders);
        }
        let header: Extension = packet.read(offset).ok_or(Verdict::TruncatedL3)?;
        let mut len = (header.len as usize + 1) * 8;
        if next == EXT_FRAGMENT {
            // All but the two reserved bits: offset and M. Zero is an atomic fragment (RFC 6946), which is whole.
            if header.word[0] != 0 || header.word[1] & 0b1111_1001 != 0 {
                let piece =
                    if header.word[0] == 0 && header.word[1] & 0b1111_1000 == 0 { Piece::First } else { Piece::Later };
                return Ok((header.next, offset + size_of::<Extension>(), piece));
            }
            len = size_of::<Extension>();
        }
        if next == EXT_ROUTING && header.word[1] != 0 {
            return Err(Verdict::SegmentsLeft);
        }
        offset += len;
        if offset > end {
            return Err(Verdict::TruncatedL3);
        }
        next = header.next;
    }
    Ok((next, offset, Piece::Whole))
}
