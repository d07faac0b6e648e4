//! Where it is measured: a client that makes the traffic, an edge, a backend that drops everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use lb_tests::flood::{self, Sink};
use lb_tests::lab::{CLIENT4, CLIENT6, Lab};

/// Backends that are neighbours of the edge.
pub(crate) const NEAR: u16 = 16;
/// Backends behind one router, in a /16 and a /64.
const FAR4: &str = "10.200.0.0/16";
const FAR6: &str = "fd20::/64";

pub(crate) struct Stage {
    pub(crate) lab: Lab,
    /// MAC address of the edge towards the client.
    pub(crate) mac: [u8; 6],
    /// At the backend.
    pub(crate) _sink: Sink,
}

impl Stage {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::forwarding(1)?;
        lab.leave(&lab.backends[0]);
        let sink = Sink::attach(&lab.backends[0], "eth0")?;
        let (client, backend) = (flood::mac(&lab.client, "eth0")?, flood::mac(&lab.backends[0], "eth0")?);
        let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let know = |address: IpAddr, mac, device: &str| {
            let family = if address.is_ipv4() { "-4" } else { "-6" };
            lab.edge.ip(&format!("{family} neigh replace {address} lladdr {} nud permanent dev {device}", text(mac)))
        };
        // Nothing is to be asked for while it is measured.
        know(CLIENT4.into(), client, "wan")?;
        know(CLIENT6.into(), client, "wan")?;
        know([10, 78, 1, 2].into(), backend, "dmz1")?;
        know("fd78:1::2".parse()?, backend, "dmz1")?;
        for number in 0..NEAR {
            near(number, 0).iter().try_for_each(|address| know(address.ip(), backend, "dmz1"))?;
        }
        lab.edge.ip(&format!("route add default via {CLIENT4}"))?;
        lab.edge.ip(&format!("-6 route add default via {CLIENT6}"))?;
        lab.edge.ip(&format!("route add {FAR4} via 10.78.1.2"))?;
        lab.edge.ip(&format!("-6 route add {FAR6} via fd78:1::2"))?;
        let mac = flood::mac(&lab.edge, "wan")?;
        Ok(Self { lab, mac, _sink: sink })
    }
}

/// A backend that is a neighbour, of either family.
pub(crate) fn near(number: u16, port: u16) -> [SocketAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd78, 1, 0, 0, 0, 0, 1, number);
    [(Ipv4Addr::new(10, 78, 1, 10 + number as u8), port).into(), (v6, port).into()]
}

/// A backend behind the router, of either family.
pub(crate) fn far(number: u16, port: u16) -> [SocketAddr; 2] {
    let [high, low] = (number + 1).to_be_bytes();
    let v6 = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 1, number);
    [(Ipv4Addr::new(10, 200, high, low), port).into(), (v6, port).into()]
}
