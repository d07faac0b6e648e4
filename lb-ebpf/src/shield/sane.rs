//! Packets that nobody who means well sends.

use lb_common::Verdict;

use crate::packet::{Header, Ipv4, Ipv6, Packet, Tcp};

/// An IPv4 header without options, for its sum.
#[repr(C)]
#[derive(Clone, Copy)]
struct Words([u32; 5]);
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Words {}

/// One word of options.
#[repr(C)]
#[derive(Clone, Copy)]
struct Word(u32);
// SAFETY: repr(C), integers, no padding.
unsafe impl Header for Word {}

/// Words of an IPv4 header at the most (RFC 791, 3.1).
const MAX_WORDS: usize = 15;

/// TCP flags (RFC 9293, 3.1).
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// All but the two of ECN (RFC 3168, 6.1).
const NOT_ECN: u8 = 0x3f;

/// The IPv4 header at `offset`, to a service's address.
#[inline(always)]
pub(crate) fn ipv4(packet: &Packet, offset: usize, ip: &Ipv4) -> Result<(), Verdict> {
    let len = ip.header_len().ok_or(Verdict::BadIp)?;
    if sum(packet, offset, len).ok_or(Verdict::TruncatedL3)? != 0xffff {
        return Err(Verdict::BadIpChecksum);
    }
    if ip.source == ip.destination {
        return Err(Verdict::Land);
    }
    let source = u32::from_be(ip.source);
    // 0/8 (RFC 1122, 3.2.1.3), 127/8, 224/4, 255.255.255.255.
    if matches!(source >> 24, 0 | 127 | 224..=239) || source == u32::MAX {
        return Err(Verdict::BadSource);
    }
    Ok(())
}

/// An IPv6 header to a service's address.
#[inline(always)]
pub(crate) fn ipv6(ip: &Ipv6) -> Result<(), Verdict> {
    if ip.source == ip.destination {
        return Err(Verdict::Land);
    }
    let [a, b, c, d] = ip.source;
    let multicast = a & 0xff00_0000_u32.to_be() == 0xff00_0000_u32.to_be();
    // :: and ::1, and the mapped form (RFC 4291, 2.5.5.2), which no packet has.
    let unspecified_or_loopback = a | b | c == 0 && d & !1_u32.to_be() == 0;
    let mapped = a | b == 0 && c == 0xffff_u32.to_be();
    if multicast || unspecified_or_loopback || mapped {
        return Err(Verdict::BadSource);
    }
    Ok(())
}

/// A TCP header to a service.
#[inline(always)]
pub(crate) fn tcp(tcp: &Tcp) -> Result<(), Verdict> {
    let flags = tcp.flags() & NOT_ECN;
    let open_and_end = flags & SYN != 0 && flags & (FIN | RST) != 0;
    let end_and_abort = flags & (FIN | RST) == FIN | RST;
    let end_of_nothing = flags & (FIN | ACK) == FIN;
    if flags == 0 || open_and_end || end_and_abort || end_of_nothing {
        return Err(Verdict::BadTcpFlags);
    }
    Ok(())
}

/// The ones' complement sum of an IPv4 header of `len` bytes: 0xffff where its checksum is right.
#[inline(always)]
fn sum(packet: &Packet, offset: usize, len: usize) -> Option<u64> {
    let Words(words) = packet.read(offset)?;
    let mut sum = 0u64;
    for word in words {
        sum += u64::from(word);
    }
    if len > size_of::<Words>() {
        for index in words.len()..MAX_WORDS {
            if index * 4 >= len {
                break;
            }
            let Word(word) = packet.read(offset + index * 4)?;
            sum += u64::from(word);
        }
    }
    // At most 15 words of 32 bits: two folds leave 17 bits, the third 16.
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    Some((sum & 0xffff) + (sum >> 16))
}
