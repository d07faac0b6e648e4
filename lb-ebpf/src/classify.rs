//! From a frame to a service: what is no service's passes untouched; a packet of a flow of a service, or an ICMP
//! error about one, goes on to be steered.

use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::{
    Config, KIND_FORWARDED, KIND_TERMINATED, PROTO_TCP, PROTO_UDP, SERVICE_LIMITS, ServiceValue, VIP_ALL_PORTS,
};
use lb_common::flow;
use lb_common::select::Opening;

use crate::finish::Exit;
use crate::forward;
use crate::maps::{self, AddressWords};
use crate::packet::{self, Icmp, Ipv4, Ipv6, Packet, Ports, Tcp, Udp};
use crate::shield;
use crate::steer;

/// A datagram to an address that services have, from its upper header on.
pub(crate) struct Datagram<'a> {
    pub(crate) ctx: &'a XdpContext,
    pub(crate) packet: Packet,
    pub(crate) config: &'a Config,
    /// Offset of the IP header.
    pub(crate) ip: usize,
    /// Offset of the TCP, UDP or ICMP header.
    pub(crate) upper: usize,
    /// Offset of the datagram's end; what lies behind is padding.
    pub(crate) end: usize,
    pub(crate) source: AddressWords,
    pub(crate) destination: AddressWords,
    /// Flags of the destination in `VIPS`.
    vip_flags: u32,
}

/// Address family, known when the program is compiled.
pub(crate) trait Family {
    const V6: bool;
    const PROTO_ICMP: u8;
    /// Whether a message of this type is about another packet, and quotes it.
    fn is_error(icmp_type: u8) -> bool;
    /// Source, destination, protocol and offset of the upper header of a quoted packet; none when it is cut short.
    fn quoted(packet: &Packet, offset: usize, end: usize) -> Option<(AddressWords, AddressWords, u8, usize)>;
    /// The flow hash; ports in host order.
    fn hash(seed: u64, source: &AddressWords, destination: &AddressWords, ports: (u16, u16), protocol: u8) -> u32;
}

/// Where `edge` begins.
#[inline(always)]
pub(crate) fn packet(ctx: &XdpContext, config: &Config) -> Exit {
    let packet = Packet::new(ctx);
    let exit = packet::ethernet(&packet).and_then(|(ethertype, offset)| match ethertype {
        packet::ETHERTYPE_IPV4 => ipv4(ctx, packet, config, offset),
        packet::ETHERTYPE_IPV6 => ipv6(ctx, packet, config, offset),
        _ => Err(Verdict::NotIp),
    });
    exit.unwrap_or_else(Exit::of_no_service)
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, packet: Packet, config: &Config, offset: usize) -> Result<Exit, Verdict> {
    let ip: Ipv4 = packet.read(offset).ok_or(Verdict::TruncatedL3)?;
    let header_len = ip.header_len().ok_or(Verdict::BadIp)?;
    if ip.total_len() < header_len {
        return Err(Verdict::BadIp);
    }
    let end = offset + ip.total_len();
    if end > packet.len() {
        return Err(Verdict::TruncatedL3);
    }
    let destination = maps::mapped(ip.destination);
    let vip_flags = vip(&destination).ok_or(Verdict::NotVip)?;
    shield::ipv4(&packet, offset, &ip)?;
    if ip.is_fragment() {
        return Err(Verdict::Fragment);
    }
    let source = maps::mapped(ip.source);
    let upper = offset + header_len;
    Datagram { ctx, packet, config, ip: offset, upper, end, source, destination, vip_flags }.classify::<V4>(ip.protocol)
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, packet: Packet, config: &Config, offset: usize) -> Result<Exit, Verdict> {
    let ip: Ipv6 = packet.read(offset).ok_or(Verdict::TruncatedL3)?;
    if !ip.is_version_6() {
        return Err(Verdict::BadIp);
    }
    let payload = offset + size_of::<Ipv6>();
    let end = payload + ip.payload_len().ok_or(Verdict::BadIp)?;
    if end > packet.len() {
        return Err(Verdict::TruncatedL3);
    }
    let vip_flags = vip(&ip.destination).ok_or(Verdict::NotVip)?;
    shield::ipv6(&ip)?;
    let (protocol, upper) = packet::behind_extensions(&packet, ip.next, payload, end)?;
    let Ipv6 { source, destination, .. } = ip;
    Datagram { ctx, packet, config, ip: offset, upper, end, source, destination, vip_flags }.classify::<V6>(protocol)
}

impl Datagram<'_> {
    #[inline(always)]
    fn classify<F: Family>(&self, protocol: u8) -> Result<Exit, Verdict> {
        match protocol {
            PROTO_TCP => self.tcp::<F>(),
            PROTO_UDP => self.udp::<F>(),
            p if p == F::PROTO_ICMP => self.icmp::<F>(),
            _ => Err(Verdict::NoService),
        }
    }

    #[inline(always)]
    fn tcp<F: Family>(&self) -> Result<Exit, Verdict> {
        let tcp: Tcp = self.packet.read(self.upper).ok_or(Verdict::TruncatedL4)?;
        if self.upper + size_of::<Tcp>() > self.end {
            return Err(Verdict::TruncatedL4);
        }
        if tcp.header_len() < size_of::<Tcp>() || self.upper + tcp.header_len() > self.end {
            return Err(Verdict::BadTcp);
        }
        let service = self.service(tcp.ports.destination(), PROTO_TCP).ok_or(Verdict::NoService)?;
        Ok(self.segment::<F>(&service, &tcp).unwrap_or_else(|verdict| Exit::of(service.id, verdict)))
    }

    /// A TCP segment to `service`.
    #[inline(always)]
    fn segment<F: Family>(&self, service: &ServiceValue, tcp: &Tcp) -> Result<Exit, Verdict> {
        shield::tcp(tcp)?;
        let opening = tcp.is_opening();
        shield::admit::<F>(self.config, service, &self.source, opening)?;
        let ports = (tcp.ports.source(), tcp.ports.destination());
        if service.kind == KIND_FORWARDED {
            let opening = if opening { Opening::Begins } else { Opening::Goes };
            return forward::packet::<F>(self, service, ports, PROTO_TCP, opening);
        }
        if opening
            && service.flags & SERVICE_LIMITS != 0
            && let Some(sent) = shield::cookie::answer::<F>(self.ctx, self.config, service, self.ip, self.upper)
        {
            return Ok(Exit { sent, ..Exit::of(service.id, Verdict::SynCookie) });
        }
        let hash = F::hash(self.config.seed, &self.source, &self.destination, ports, PROTO_TCP);
        Ok(Exit::of(service.id, steer::packet(self.config, hash)))
    }

    #[inline(always)]
    fn udp<F: Family>(&self) -> Result<Exit, Verdict> {
        let udp: Udp = self.packet.read(self.upper).ok_or(Verdict::TruncatedL4)?;
        if self.upper + size_of::<Udp>() > self.end {
            return Err(Verdict::TruncatedL4);
        }
        let service = self.service(udp.ports.destination(), PROTO_UDP).ok_or(Verdict::NoService)?;
        Ok(self.message::<F>(&service, &udp).unwrap_or_else(|verdict| Exit::of(service.id, verdict)))
    }

    /// A UDP datagram to `service`.
    #[inline(always)]
    fn message<F: Family>(&self, service: &ServiceValue, udp: &Udp) -> Result<Exit, Verdict> {
        if udp.len() < size_of::<Udp>() || self.upper + udp.len() > self.end {
            return Err(Verdict::BadUdp);
        }
        shield::admit::<F>(self.config, service, &self.source, false)?;
        let ports = (udp.ports.source(), udp.ports.destination());
        forward::packet::<F>(self, service, ports, PROTO_UDP, Opening::Unsaid)
    }

    #[inline(always)]
    fn icmp<F: Family>(&self) -> Result<Exit, Verdict> {
        let icmp: Icmp = self.packet.read(self.upper).ok_or(Verdict::TruncatedL4)?;
        let quote = self.upper + size_of::<Icmp>();
        if quote > self.end {
            return Err(Verdict::TruncatedL4);
        }
        if !F::is_error(icmp.kind) {
            return Err(Verdict::Icmp);
        }
        self.quoted_flow::<F>(quote).ok_or(Verdict::IcmpErrorOther)
    }

    /// The error is about a packet that we sent: its source is ours, its destination the client. Turned around, it
    /// has the hash of the packets that the client sends.
    #[inline(always)]
    fn quoted_flow<F: Family>(&self, quote: usize) -> Option<Exit> {
        let (source, client, protocol, upper) = F::quoted(&self.packet, quote, self.end)?;
        if source != self.destination || protocol != PROTO_TCP {
            return None;
        }
        let ports: Ports = self.packet.read(upper)?;
        if upper + size_of::<Ports>() > self.end {
            return None;
        }
        let service = self.service(ports.source(), protocol).filter(|service| service.kind == KIND_TERMINATED)?;
        let hash = F::hash(self.config.seed, &client, &source, (ports.destination(), ports.source()), protocol);
        Some(Exit::of(service.id, steer::icmp_error(self.config, hash)))
    }

    /// The service at this datagram's destination address: the one of the port, or the one of all ports.
    #[inline(always)]
    fn service(&self, port: u16, protocol: u8) -> Option<ServiceValue> {
        let exact = maps::service(&self.destination, port, protocol);
        match exact {
            None if self.vip_flags & VIP_ALL_PORTS != 0 => maps::service(&self.destination, 0, protocol),
            exact => exact,
        }
    }
}

#[inline(always)]
fn vip(address: &AddressWords) -> Option<u32> {
    // SAFETY: an entry that is replaced meanwhile is read as one of the two values: it is one aligned word.
    unsafe { maps::VIPS.get(address) }.map(|value| value.flags)
}

pub(crate) struct V4;

impl Family for V4 {
    const V6: bool = false;
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
        if ip.is_later_fragment() {
            return None;
        }
        Some((maps::mapped(ip.source), maps::mapped(ip.destination), ip.protocol, offset + header_len))
    }

    #[inline(always)]
    fn hash(seed: u64, source: &AddressWords, destination: &AddressWords, ports: (u16, u16), protocol: u8) -> u32 {
        flow::hash_v4(seed, u32::from_be(source[3]), u32::from_be(destination[3]), ports.0, ports.1, protocol)
    }
}

pub(crate) struct V6;

impl Family for V6 {
    const V6: bool = true;
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
        let (protocol, upper) = packet::behind_extensions(packet, ip.next, offset + size_of::<Ipv6>(), end).ok()?;
        Some((ip.source, ip.destination, protocol, upper))
    }

    #[inline(always)]
    fn hash(seed: u64, source: &AddressWords, destination: &AddressWords, ports: (u16, u16), protocol: u8) -> u32 {
        let source = source.map(u32::from_be);
        let destination = destination.map(u32::from_be);
        flow::hash_v6(seed, source, destination, ports.0, ports.1, protocol)
    }
}
