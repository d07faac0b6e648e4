//! From a frame to a service: what is no service's passes untouched; a packet of a flow of a service, or an ICMP
//! error about one, goes on to be steered.

use aya_ebpf::programs::XdpContext;
use lb_common::Verdict;
use lb_common::abi::{
    Config, FEATURE_NAT, KIND_FORWARDED, NO_SERVICE, PROTO_TCP, PROTO_UDP, SERVICE_LIMITS, ServiceValue, VIP_ALL_PORTS,
    VIP_FORWARDED,
};
use lb_common::select::Opening;

use crate::family::{Family, V4, V6};
use crate::finish::Exit;
use crate::forward::{self, Quote};
use crate::maps::{self, AddressWords};
use crate::packet::{self, Icmp, Ipv4, Ipv6, Packet, Piece, Ports, Tcp, Udp};
use crate::shield;
use crate::steer;

/// A datagram, from its upper header on.
#[derive(Clone, Copy)]
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
    /// Flags of the destination in `VIPS`; 0: no service's address.
    pub(crate) vip_flags: u32,
}

/// Where `edge` begins.
#[inline(always)]
pub(crate) fn packet(ctx: &XdpContext, config: &Config) -> Exit {
    let packet = Packet::new(ctx);
    // No closure: as a function of its own it would give its result through a pointer to the stack, which the verifier
    // does not allow.
    let exit = match packet::ethernet(&packet) {
        Ok((packet::ETHERTYPE_IPV4, offset)) => ipv4(ctx, packet, config, packet::unknown(offset)),
        Ok((packet::ETHERTYPE_IPV6, offset)) => ipv6(ctx, packet, config, packet::unknown(offset)),
        Ok(_) => Err(Verdict::NotIp),
        Err(verdict) => Err(verdict),
    };
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
    let source = maps::mapped(ip.source);
    let upper = packet::unknown(offset + header_len);
    let piece = ip.piece();
    let mut datagram = Datagram { ctx, packet, config, ip: offset, upper, end, source, destination, vip_flags: 0 };
    let found = if maps::may_be_vip(&destination) { datagram.find(ip.protocol, piece) } else { None };
    let Some(Found { vip_flags, service }) = found else {
        return forward::from_backend::<V4>(&datagram, ip.protocol, piece);
    };
    datagram.vip_flags = vip_flags;
    shield::ipv4(&packet, offset, &ip)?;
    datagram.classify::<V4>(ip.protocol, piece, service)
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
    let Ipv6 { source, destination, .. } = ip;
    let may_be_vip = maps::may_be_vip(&destination);
    if !may_be_vip && config.features & FEATURE_NAT == 0 {
        return Err(Verdict::NotVip);
    }
    let (protocol, upper, piece) = match packet::behind_extensions(&packet, ip.next, payload, end) {
        Ok(behind) => behind,
        Err(verdict) if vip(&destination).is_some() => {
            shield::ipv6(&ip)?;
            return Err(verdict);
        }
        Err(_) => return Err(Verdict::NotVip),
    };
    let upper = packet::unknown(upper);
    let mut datagram = Datagram { ctx, packet, config, ip: offset, upper, end, source, destination, vip_flags: 0 };
    let found = if may_be_vip { datagram.find(protocol, piece) } else { None };
    let Some(Found { vip_flags, service }) = found else {
        return forward::from_backend::<V6>(&datagram, protocol, piece);
    };
    datagram.vip_flags = vip_flags;
    shield::ipv6(&ip)?;
    datagram.classify::<V6>(protocol, piece, service)
}

/// A service's address was met.
struct Found {
    vip_flags: u32,
    /// The service of exactly this port, which was looked for first; then the flags are not known. Else [`UNKNOWN`]: an
    /// `Option` has bytes without a value, which the compiler copies and the verifier does not.
    service: ServiceValue,
}

/// Stands for no service.
const UNKNOWN: ServiceValue = ServiceValue { id: NO_SERVICE, kind: 0, mode: 0, hash: 0, flags: 0 };

impl Datagram<'_> {
    /// The service of the port, or what is known of the address; none when it is no service's. Most packets are for a
    /// service of one port, so that one look is enough.
    #[inline(always)]
    fn find(&self, protocol: u8, piece: Piece) -> Option<Found> {
        if piece == Piece::Whole
            && (protocol == PROTO_TCP || protocol == PROTO_UDP)
            && let Some(ports) = self.packet.read::<Ports>(self.upper)
            && let Some(service) = maps::service(&self.destination, ports.destination(), protocol)
        {
            return Some(Found { vip_flags: 0, service });
        }
        vip(&self.destination).map(|vip_flags| Found { vip_flags, service: UNKNOWN })
    }

    #[inline(always)]
    fn classify<F: Family>(&self, protocol: u8, piece: Piece, exact: ServiceValue) -> Result<Exit, Verdict> {
        if piece != Piece::Whole || (protocol != PROTO_TCP && protocol != PROTO_UDP) {
            // Of no one service yet: what is denied to all is denied here, too.
            shield::admit::<F>(self.config, &UNKNOWN, &self.source, false)?;
        }
        if piece != Piece::Whole {
            if self.vip_flags & VIP_FORWARDED == 0 {
                return Err(Verdict::Fragment);
            }
            return forward::fragment::<F>(self, protocol, piece == Piece::First);
        }
        match protocol {
            PROTO_TCP => self.tcp::<F>(exact),
            PROTO_UDP => self.udp::<F>(exact),
            p if p == F::PROTO_ICMP => self.icmp::<F>(),
            _ => Err(Verdict::NoService),
        }
    }

    #[inline(always)]
    fn tcp<F: Family>(&self, exact: ServiceValue) -> Result<Exit, Verdict> {
        let tcp: Tcp = self.packet.read(self.upper).ok_or(Verdict::TruncatedL4)?;
        if self.upper + size_of::<Tcp>() > self.end {
            return Err(Verdict::TruncatedL4);
        }
        if tcp.header_len() < size_of::<Tcp>() || self.upper + tcp.header_len() > self.end {
            return Err(Verdict::BadTcp);
        }
        let service = self.or_of_all_ports(exact, PROTO_TCP).ok_or(Verdict::NoService)?;
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
    fn udp<F: Family>(&self, exact: ServiceValue) -> Result<Exit, Verdict> {
        let udp: Udp = self.packet.read(self.upper).ok_or(Verdict::TruncatedL4)?;
        if self.upper + size_of::<Udp>() > self.end {
            return Err(Verdict::TruncatedL4);
        }
        let service = self.or_of_all_ports(exact, PROTO_UDP).ok_or(Verdict::NoService)?;
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
        if self.upper + size_of::<Icmp>() > self.end {
            return Err(Verdict::TruncatedL4);
        }
        if !F::is_error(icmp.kind) {
            return Err(Verdict::Icmp);
        }
        self.quoted_flow::<F>().ok_or(Verdict::IcmpErrorOther)
    }

    /// The error is about a packet that we sent: its source is ours, its destination the client. Turned around, it
    /// has the hash of the packets that the client sends.
    #[inline(always)]
    fn quoted_flow<F: Family>(&self) -> Option<Exit> {
        let quote = self.quote::<F>()?;
        if quote.source != self.destination {
            return None;
        }
        let service = self.service(quote.ports.0, quote.protocol)?;
        if service.kind == KIND_FORWARDED {
            return Some(forward::about_forwarded::<F>(self, &service, &quote));
        }
        let ports = (quote.ports.1, quote.ports.0);
        let hash = F::hash(self.config.seed, &quote.destination, &quote.source, ports, quote.protocol);
        Some(Exit::of(service.id, steer::icmp_error(self.config, hash)))
    }

    /// The TCP or UDP packet that this ICMP error quotes, if its ports are there.
    #[inline(always)]
    pub(crate) fn quote<F: Family>(&self) -> Option<Quote> {
        let icmp: Icmp = self.packet.read(self.upper)?;
        let ip = self.upper + size_of::<Icmp>();
        if !F::is_error(icmp.kind) {
            return None;
        }
        let (source, destination, protocol, upper) = F::quoted(&self.packet, ip, self.end)?;
        if protocol != PROTO_TCP && protocol != PROTO_UDP {
            return None;
        }
        let ports: Ports = self.packet.read(upper)?;
        if upper + size_of::<Ports>() > self.end {
            return None;
        }
        let ports = (ports.source(), ports.destination());
        Some(Quote { ip, upper, protocol, source, destination, ports })
    }

    /// The service at this datagram's destination address: the one of the port, or the one of all ports.
    #[inline(always)]
    pub(crate) fn service(&self, port: u16, protocol: u8) -> Option<ServiceValue> {
        maps::service(&self.destination, port, protocol).or_else(|| self.of_all_ports(protocol))
    }

    #[inline(always)]
    fn or_of_all_ports(&self, exact: ServiceValue, protocol: u8) -> Option<ServiceValue> {
        if exact.id != NO_SERVICE { Some(exact) } else { self.of_all_ports(protocol) }
    }

    #[inline(always)]
    fn of_all_ports(&self, protocol: u8) -> Option<ServiceValue> {
        if self.vip_flags & VIP_ALL_PORTS == 0 {
            return None;
        }
        maps::service(&self.destination, 0, protocol)
    }
}

#[inline(always)]
fn vip(address: &AddressWords) -> Option<u32> {
    // SAFETY: an entry that is replaced meanwhile is read as one of the two values: it is one aligned word.
    unsafe { maps::VIPS.get(address) }.map(|value| value.flags)
}
