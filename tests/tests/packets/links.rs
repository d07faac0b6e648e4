//! Ethernet and VLAN tags.

use lb_common::Verdict::*;
use lb_tests::packet::*;

use crate::setup::*;
use crate::{Case, Ends};

fn syn4(packet: Packet) -> Packet {
    packet.ipv4(CLIENT4, VIP4, &[]).tcp(40000, HTTPS, &[])
}

fn syn6(packet: Packet) -> Packet {
    packet.ipv6(CLIENT6, VIP6).tcp(40000, HTTPS, &[])
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, frame, ends| Case { name, frame, ends };
    let eth = Packet::ethernet;
    let one = || eth().tag(VLAN, 100);
    let two = || eth().tag(QINQ, 7).tag(VLAN, 100);
    let three = || eth().tag(QINQ, 7).tag(QINQ, 8).tag(VLAN, 100);
    vec![
        case("untagged IPv4", syn4(eth()).build(), Ends::Flow(1)),
        case("untagged IPv6", syn6(eth()).build(), Ends::Flow(1)),
        case("one VLAN tag, IPv4", syn4(one()).build(), Ends::Flow(1)),
        case("one VLAN tag, IPv6", syn6(one()).build(), Ends::Flow(1)),
        case("one service tag, IPv4", syn4(eth().tag(QINQ, 9)).build(), Ends::Flow(1)),
        case("two VLAN tags, IPv4", syn4(two()).build(), Ends::Flow(1)),
        case("two VLAN tags, IPv6", syn6(two()).build(), Ends::Flow(1)),
        case("three VLAN tags, IPv4", syn4(three()).build(), Ends::As(NotIp)),
        case("three VLAN tags, IPv6", syn6(three()).build(), Ends::As(NotIp)),
        case("Ethernet padding behind a short datagram", syn4(eth()).build_padded(60), Ends::Flow(1)),
        case("ARP", eth().ethertype(0x0806, &[0; 46]).build(), Ends::As(NotIp)),
        case("LLDP", eth().ethertype(0x88cc, &[0; 46]).build(), Ends::As(NotIp)),
        case("ARP behind a tag", one().ethertype(0x0806, &[0; 46]).build(), Ends::As(NotIp)),
        case("a length instead of an EtherType", eth().ethertype(46, &[0; 46]).build(), Ends::As(NotIp)),
        case("IPv4 named, nothing there", cut(syn4(eth()).build(), 14), Ends::As(TruncatedL3)),
        case("IPv6 named, nothing there", cut(syn6(eth()).build(), 14), Ends::As(TruncatedL3)),
        case("cut before the first tag", cut(syn4(one()).build(), 14), Ends::As(TruncatedL2)),
        case("cut within the first tag", cut(syn4(one()).build(), 17), Ends::As(TruncatedL2)),
        case("cut before the second tag", cut(syn4(two()).build(), 18), Ends::As(TruncatedL2)),
        case("cut within the second tag", cut(syn4(two()).build(), 21), Ends::As(TruncatedL2)),
        case("cut behind the second tag", cut(syn4(two()).build(), 22), Ends::As(TruncatedL3)),
    ]
}
