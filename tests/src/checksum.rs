//! Checksums of a whole frame, summed from nothing: what the edge updates by difference must come out the same.

use crate::packet::{ICMP, ICMPV6, TCP, UDP};

const IPV4_IN: u8 = 4;
const IPV6_IN: u8 = 41;

/// Fill in every checksum of an Ethernet frame: of IPv4 headers, TCP, UDP, ICMP, of packets within packets, and of what
/// ICMP errors quote as far as the quote is whole. A UDP checksum of 0 in IPv4 stays: it says that there is none.
pub fn filled(mut frame: Vec<u8>) -> Vec<u8> {
    let mut at = 12;
    while matches!(frame[at..], [0x81, 0x00, ..] | [0x88, 0xa8, ..]) {
        at += 4;
    }
    match frame[at..] {
        [0x08, 0x00, ..] => ipv4(&mut frame[at + 2..]),
        [0x86, 0xdd, ..] => ipv6(&mut frame[at + 2..]),
        _ => {}
    }
    frame
}

fn ipv4(packet: &mut [u8]) {
    if packet.len() < 20 {
        return;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    let end = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if packet.len() < header {
        return;
    }
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..header], 0);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    if end > packet.len() || fragment {
        return;
    }
    let protocol = packet[9];
    let addresses = packet[12..20].to_vec();
    upper(protocol, &addresses, &mut packet[header..end]);
}

fn ipv6(packet: &mut [u8]) {
    if packet.len() < 40 {
        return;
    }
    let end = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let addresses = packet[8..40].to_vec();
    let (mut next, mut at) = (packet[6], 40);
    while let 0 | 43 | 60 = next
        && let Some([following, units]) = packet.get(at..at + 2)
    {
        (next, at) = (*following, at + 8 + usize::from(*units) * 8);
    }
    if end <= packet.len() && at <= end {
        upper(next, &addresses, &mut packet[at..end]);
    }
}

fn upper(protocol: u8, addresses: &[u8], bytes: &mut [u8]) {
    let at = match protocol {
        TCP if bytes.len() >= 20 => 16,
        UDP if bytes.len() >= 8 => 6,
        ICMP if bytes.len() >= 8 => {
            if matches!(bytes[0], 3 | 11 | 12) {
                ipv4(&mut bytes[8..]);
            }
            2
        }
        ICMPV6 if bytes.len() >= 8 => {
            if bytes[0] < 128 {
                ipv6(&mut bytes[8..]);
            }
            2
        }
        IPV4_IN => return ipv4(bytes),
        IPV6_IN => return ipv6(bytes),
        _ => return,
    };
    bytes[at..at + 2].fill(0);
    let pseudo = match protocol {
        ICMP => 0,
        _ => u32::from(sum(addresses, 0)) + bytes.len() as u32 + u32::from(protocol),
    };
    let mut checksum = !sum(bytes, pseudo);
    if protocol == UDP && checksum == 0 {
        checksum = 0xffff;
    }
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// RFC 1071.
fn sum(bytes: &[u8], from: u32) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = from + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{CLIENT4, Packet};

    #[test]
    fn a_known_frame_has_its_known_checksums() {
        // The example header of RFC 1071's readers: 45 00 00 3c 1c 46 40 00 40 06 b1 e6 ac 10 0a 63 ac 10 0a 0c.
        let mut frame = Packet::ethernet().ipv4([172, 16, 10, 99].into(), [172, 16, 10, 12].into(), &[]).build();
        frame[16..20].copy_from_slice(&[0, 0x3c, 0x1c, 0x46]);
        frame[23] = 6;
        assert_eq!(filled(frame)[24..26], [0xb1, 0xe6]);
    }

    #[test]
    fn what_is_filled_sums_to_zero() {
        let frame = filled(Packet::ethernet().ipv4(CLIENT4, CLIENT4, &[]).tcp(1, 2, &[]).put(&[7; 33]).build());
        let length = (frame.len() - 34) as u32;
        assert_eq!(sum(&frame[14..34], 0), 0xffff);
        assert_eq!(sum(&frame[34..], u32::from(sum(&frame[26..34], 0)) + length + 6), 0xffff);
    }
}
