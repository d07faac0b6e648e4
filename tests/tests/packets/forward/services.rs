//! The forwarded services that these packets meet, and the frames to and from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use lb_tests::packet::{CLIENT4, CLIENT6, Packet, patched};
use lb_user::datapath::probe::{Hop, LOOPBACK, Probe};
use lb_user::datapath::{
    Desired, DesiredForward, DesiredService, ForwardBackend, ForwardHash, ForwardMode, Ports, Protocol, ServiceAddress,
};
use tls_worker::api::{BackendState, ListenAddress};

/// What the next hops look like.
pub(crate) const TO: [u8; 6] = [2, 0, 0, 0, 0x0b, 1];
pub(crate) const FROM: [u8; 6] = [2, 0, 0, 0, 0x0e, 1];
pub(crate) const MTU: u32 = 1500;

/// Services by what they are; the last octet of their addresses is their id.
pub(crate) const NAT: u32 = 10;
pub(crate) const NAT_ALL: u32 = 11;
pub(crate) const IPIP4: u32 = 12;
pub(crate) const IPIP6: u32 = 13;
pub(crate) const L2: u32 = 14;
pub(crate) const IPIP_ALL: u32 = 15;
pub(crate) const NAT_RANGE: u32 = 16;
pub(crate) const EMPTY: u32 = 17;
pub(crate) const OUTER_MTU: u32 = 18;
pub(crate) const NO_DEVICE: u32 = 19;
pub(crate) const NO_ROUTE: u32 = 20;
pub(crate) const MIXED: u32 = 21;
pub(crate) const L2_ALL: u32 = 23;
/// Terminated, on an address of [`MIXED`].
pub(crate) const TERMINATED: u32 = 22;

pub(crate) const PORT: u16 = 80;
pub(crate) const BACKEND_PORT: u16 = 8080;

pub(crate) fn vip4(id: u32) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 100 + id as u8)
}

pub(crate) fn vip6(id: u32) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xf0, 0, 0, 0, 0, id as u16)
}

pub(crate) fn backend4(id: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, id as u8)
}

pub(crate) fn backend6(id: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, id as u16)
}

pub(crate) fn up(address: impl Into<IpAddr>) -> ForwardBackend {
    let address = SocketAddr::new(address.into(), BACKEND_PORT);
    ForwardBackend { address, weight: 1, state: BackendState::Up }
}

pub(crate) fn forward(id: u32, mode: ForwardMode, ports: Ports, backends: Vec<ForwardBackend>) -> DesiredForward {
    let listen = |address| ServiceAddress { address, ports };
    DesiredForward {
        id,
        name: format!("forward-{id}"),
        addresses: vec![listen(vip4(id).into()), listen(vip6(id).into())],
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        mode,
        hash: if ports == Ports::All { ForwardHash::Source } else { ForwardHash::Flow },
        slots: 251,
        drain: Duration::from_secs(3600),
        udp_idle: Duration::from_secs(3600),
        outer_mtu: None,
        backends,
    }
}

fn desired() -> Desired {
    let both = |id| vec![up(backend4(id)), up(backend6(id))];
    let one = Ports::Range(PORT, PORT);
    use ForwardMode::{Ipip, L2 as ByMac, Nat};
    Desired {
        services: vec![DesiredService {
            id: TERMINATED,
            name: "terminated".to_owned(),
            addresses: vec![ListenAddress { address: vip4(MIXED).into(), port: Some(443) }],
        }],
        forwards: vec![
            forward(NAT, Nat, one, both(NAT)),
            forward(NAT_ALL, Nat, Ports::All, both(NAT_ALL)),
            forward(IPIP4, Ipip, one, vec![up(backend4(IPIP4))]),
            forward(IPIP6, Ipip, one, vec![up(backend6(IPIP6))]),
            forward(L2, ByMac, one, vec![up(backend4(L2))]),
            forward(IPIP_ALL, Ipip, Ports::All, vec![up(backend6(IPIP_ALL))]),
            forward(NAT_RANGE, Nat, Ports::Range(1000, 1010), both(NAT_RANGE)),
            forward(EMPTY, Nat, one, vec![]),
            DesiredForward { outer_mtu: Some(1400), ..forward(OUTER_MTU, Ipip, one, vec![up(backend6(OUTER_MTU))]) },
            forward(NO_DEVICE, ByMac, one, vec![up(backend4(NO_DEVICE))]),
            forward(NO_ROUTE, ByMac, one, vec![up(backend4(NO_ROUTE))]),
            forward(MIXED, ByMac, one, vec![up(backend4(MIXED))]),
            forward(L2_ALL, ByMac, Ports::All, vec![up(backend4(L2_ALL))]),
        ],
        ..Desired::default()
    }
}

pub(crate) fn hop(interface: u32) -> Hop {
    Hop { interface, mtu: MTU, to: TO, from: FROM }
}

/// One for all; its counters are looked at under its lock.
pub(crate) fn bench() -> Result<&'static Mutex<Probe>, String> {
    static BENCH: OnceLock<Result<Mutex<Probe>, String>> = OnceLock::new();
    let open = || {
        let desired = desired();
        let mut probe = Probe::open(false, &[], &desired)?;
        for forward in desired.forwards.iter().filter(|forward| forward.id != NO_ROUTE) {
            let interface = if forward.id == NO_DEVICE { 7777 } else { LOOPBACK };
            for backend in &forward.backends {
                probe.set_backend_hop(forward.id, backend.address, hop(interface))?;
            }
        }
        for client in [IpAddr::from(CLIENT4), CLIENT6.into()] {
            probe.set_client_hop(client, hop(LOOPBACK))?;
        }
        Ok(Mutex::new(probe))
    };
    let open = || open().map_err(|e: lb_user::datapath::DatapathError| e.to_string());
    BENCH.get_or_init(open).as_ref().map_err(Clone::clone)
}

/// The frame with the next hop's MAC addresses.
pub(crate) fn addressed(frame: Vec<u8>) -> Vec<u8> {
    patched(frame, 0, &[TO, FROM].concat())
}

/// Hops left, in an untagged frame.
pub(crate) fn hops4(frame: Vec<u8>, hops: u8) -> Vec<u8> {
    patched(frame, 22, &[hops])
}

pub(crate) fn hops6(frame: Vec<u8>, hops: u8) -> Vec<u8> {
    patched(frame, 21, &[hops])
}

/// From the client to an address, and whatever else between two addresses.
pub(crate) fn to4(address: Ipv4Addr) -> Packet {
    between4(CLIENT4, address)
}

pub(crate) fn to6(address: Ipv6Addr) -> Packet {
    between6(CLIENT6, address)
}

pub(crate) fn between4(from: Ipv4Addr, to: Ipv4Addr) -> Packet {
    Packet::ethernet().ipv4(from, to, &[])
}

pub(crate) fn between6(from: Ipv6Addr, to: Ipv6Addr) -> Packet {
    Packet::ethernet().ipv6(from, to)
}

/// The outer packet of `ipip` around the datagram of a frame whose hops are counted already. `entropy` is the last word
/// of the outer source.
pub(crate) fn in_ipv6(frame: &[u8], to: Ipv6Addr, entropy: [u8; 4], protocol: u8, class: u8) -> Vec<u8> {
    let mut source = [0; 16];
    source[0] = 1;
    source[12..].copy_from_slice(&entropy);
    let outer = between6(source.into(), to).upper(protocol, &frame[14..]).build();
    let label = [0x60 | class >> 4, class << 4, 0, 0];
    addressed(patched(outer, 14, &label))
}

pub(crate) fn in_ipv4(frame: &[u8], to: Ipv4Addr, entropy: [u8; 2], tos: u8) -> Vec<u8> {
    let source = Ipv4Addr::new(198, 18, entropy[0], entropy[1]);
    let outer = between4(source, to).upper(4, &frame[14..]).build();
    addressed(patched(patched(outer, 15, &[tos]), 18, &[0, 0]))
}
