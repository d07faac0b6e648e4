//! Packets of forwarded services: to a backend and, for `nat`, back.
//!
//! `choose` says which backend, `hop` how to get there, `nat`, `ipip` and `send` put the packet on the way, `message`
//! makes the ICMP errors of a router. Everything that can be refused is found out before a byte is written.

mod choose;
mod hop;
mod ipip;
pub(crate) mod maps;
mod message;
mod nat;
mod quote;
mod reply;
mod send;

use lb_common::Verdict;
use lb_common::abi::{
    HASH_FLOW, KIND_FORWARDED, MODE_IPIP, MODE_NAT, PROTO_TCP, PROTO_UDP, ServiceValue, VIP_ALL_PORTS, VIP_TERMINATED,
};
use lb_common::select::Opening;

use crate::classify::Datagram;
use crate::family::Family;
use crate::finish::Exit;
use crate::packet::ETHERNET_LEN;
use choose::Chosen;
use hop::Miss;

pub(crate) use quote::{Quote, about_forwarded};
pub(crate) use reply::from_backend;

/// What is sent on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// A packet with its ports.
    Packet,
    /// A fragment that begins with the upper header.
    FirstFragment,
    /// One that does not.
    LaterFragment,
}

/// A packet of a flow of `service`; ports in host order.
#[inline(always)]
pub(crate) fn packet<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    ports: (u16, u16),
    protocol: u8,
    opening: Opening,
) -> Result<Exit, Verdict> {
    if datagram.ip != ETHERNET_LEN {
        return Err(Verdict::TaggedForward);
    }
    let chosen = choose::with_memory::<F>(datagram, service, ports, protocol, opening)?;
    to_backend::<F>(datagram, service, &chosen, protocol, Sort::Packet)
}

/// A fragment to an address that has forwarded services. One whose service takes every port and looks at addresses
/// alone goes where the whole would; the stack puts together what may be of a terminated one.
#[inline(always)]
pub(crate) fn fragment<F: Family>(datagram: &Datagram<'_>, protocol: u8, first: bool) -> Result<Exit, Verdict> {
    let service = match protocol {
        PROTO_TCP | PROTO_UDP if datagram.vip_flags & VIP_ALL_PORTS != 0 => datagram.service(0, protocol),
        _ => None,
    };
    let service = match service {
        Some(service) if service.kind == KIND_FORWARDED => service,
        _ if datagram.vip_flags & VIP_TERMINATED != 0 => return Err(Verdict::Fragment),
        _ => return Err(Verdict::FragmentForward),
    };
    if service.hash == HASH_FLOW {
        return Ok(Exit::of(service.id, Verdict::FragmentForward));
    }
    Ok(whole_service_fragment::<F>(datagram, &service, protocol, first)
        .unwrap_or_else(|verdict| Exit::of(service.id, verdict)))
}

#[inline(always)]
fn whole_service_fragment<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    protocol: u8,
    first: bool,
) -> Result<Exit, Verdict> {
    crate::shield::admit::<F>(datagram.config, service, &datagram.source, false)?;
    if datagram.ip != ETHERNET_LEN {
        return Err(Verdict::TaggedForward);
    }
    let chosen = choose::without_memory::<F>(datagram, service, (0, 0), protocol)?;
    let sort = if first { Sort::FirstFragment } else { Sort::LaterFragment };
    let exit = to_backend::<F>(datagram, service, &chosen, protocol, sort)?;
    Ok(match exit.verdict {
        Verdict::ForwardNat | Verdict::ForwardIpip | Verdict::ForwardL2 => {
            Exit { verdict: Verdict::ForwardFragment, ..exit }
        }
        _ => exit,
    })
}

#[inline(always)]
fn to_backend<F: Family>(
    datagram: &Datagram<'_>,
    service: &ServiceValue,
    chosen: &Chosen,
    protocol: u8,
    sort: Sort,
) -> Result<Exit, Verdict> {
    let hop = hop::of_backend(datagram, chosen).map_err(Miss::verdict)?;
    if let Some(exit) = send::refused_by_way::<F>(datagram, service, chosen, hop)? {
        return Ok(exit);
    }
    let bytes = datagram.packet.len();
    let sent = send::way_out(datagram.ctx, hop)?;
    let verdict = match service.mode {
        MODE_NAT => {
            nat::destination::<F>(datagram, service, chosen, protocol, sort)?;
            Verdict::ForwardNat
        }
        MODE_IPIP => {
            ipip::encapsulate::<F>(datagram, chosen, hop)?;
            choose::count(chosen, bytes);
            return Ok(Exit { sent, ..Exit::of(service.id, Verdict::ForwardIpip) });
        }
        _ => {
            send::count_hop::<F>(datagram)?;
            Verdict::ForwardL2
        }
    };
    send::address(&datagram.packet, hop)?;
    choose::count(chosen, bytes);
    Ok(Exit { sent, ..Exit::of(service.id, verdict) })
}
