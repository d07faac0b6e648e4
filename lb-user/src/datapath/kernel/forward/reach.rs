//! How backends are reached: routes are looked at, next hops are asked for again and again, so that `edge` finds their MAC
//! addresses known; what is wrong is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::datapath::kernel::events::WantedNeighbour;
use crate::datapath::kernel::netlink::{Netlink, Route};
use crate::datapath::{DatapathError, DesiredForward, ForwardMode};

/// The smallest IPv6 packet that every link carries (RFC 8200, 5), and what IPv4 hosts must take (RFC 791).
const LEAST_V6: u32 = 1280;
const LEAST_V4: u32 = 576;

/// What is wrong with the way to a backend, by address and mode.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Interfaces that the edge is attached to.
    interfaces: BTreeMap<u32, String>,
    ways: BTreeMap<IpAddr, Result<Route, String>>,
}

impl Reach {
    pub(super) fn new(interfaces: BTreeMap<u32, String>) -> Self {
        Self { interfaces, ways: BTreeMap::new() }
    }

    /// Look at the way to each of `addresses`, and have its next hop asked for.
    pub(super) async fn look(&mut self, netlink: &Netlink, addresses: &BTreeSet<IpAddr>) {
        let mut ways = BTreeMap::new();
        for address in addresses {
            let way = netlink.route_to(*address).await;
            if let Ok(route) = &way
                && self.interfaces.contains_key(&route.interface)
            {
                let wanted = route.gateway.unwrap_or(*address);
                // Who does not answer is seen by its checks, and by packets that find no neighbour.
                let _ = netlink.ask_for_neighbour(route.interface, wanted).await;
            }
            ways.insert(*address, way.map_err(|e| e.to_string()));
        }
        self.ways = ways;
    }

    /// Why packets of this service do not reach a backend.
    pub(super) fn trouble(&self, forward: &DesiredForward, backend: IpAddr) -> Option<String> {
        match self.ways.get(&backend)? {
            Err(why) => Some(format!("unreachable by route: {why}")),
            Ok(route) => trouble(forward, route, &self.interfaces, backend),
        }
    }
}

fn trouble(
    forward: &DesiredForward,
    route: &Route,
    interfaces: &BTreeMap<u32, String>,
    backend: IpAddr,
) -> Option<String> {
    if route.local {
        return Some("it is an address of this host, which forwarding does not reach".to_owned());
    }
    if !interfaces.contains_key(&route.interface) {
        let known: Vec<&str> = interfaces.values().map(String::as_str).collect();
        return Some(format!(
            "its route leads out of interface {}, which the edge is not attached to; add it to `interfaces` under \
             [edge] (they are: {})",
            route.interface_name,
            known.join(", ")
        ));
    }
    if forward.mode == ForwardMode::L2
        && let Some(gateway) = route.gateway
    {
        return Some(format!("it is behind the router {gateway}; `forward = \"l2\"` reaches neighbours only"));
    }
    if forward.mode == ForwardMode::Ipip {
        let outer = if backend.is_ipv4() { 20 } else { 40 };
        let v6 = forward.addresses.iter().any(|listen| listen.address.is_ipv6()) && backend.is_ipv6();
        let least = if v6 { LEAST_V6 } else { LEAST_V4 };
        let mtu = route.mtu.unwrap_or(u32::MAX);
        if mtu < least + outer {
            return Some(format!(
                "the MTU of its route, {mtu}, cannot hold the encapsulation: {} is needed",
                least + outer
            ));
        }
        if let Some(set) = forward.outer_mtu.filter(|set| *set > mtu) {
            return Some(format!("`outer_mtu` is {set}, and its route carries {mtu}; the smaller one is used"));
        }
    }
    None
}

/// Asks for the next hops that `edge` found unknown.
pub(in crate::datapath::kernel) fn ask(
    mut wanted: mpsc::Receiver<WantedNeighbour>,
) -> Result<JoinHandle<()>, DatapathError> {
    let netlink = Netlink::open()?;
    Ok(tokio::spawn(async move {
        while let Some(WantedNeighbour { interface, address }) = wanted.recv().await {
            if let Err(error) = netlink.ask_for_neighbour(interface, address).await {
                tracing::debug!(%address, interface, %error, "a neighbour could not be asked for");
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::{ForwardHash, Ports, Protocol, ServiceAddress};
    use std::time::Duration;

    fn forward(mode: ForwardMode, address: &str, outer_mtu: Option<u32>) -> DesiredForward {
        DesiredForward {
            id: 1,
            name: "s".to_owned(),
            addresses: vec![ServiceAddress { address: address.parse().unwrap(), ports: Ports::All }],
            protocols: vec![Protocol::Tcp],
            mode,
            hash: ForwardHash::Flow,
            slots: 13,
            drain: Duration::from_secs(1),
            udp_idle: Duration::from_secs(1),
            outer_mtu,
            backends: Vec::new(),
        }
    }

    fn route(gateway: Option<&str>, mtu: u32) -> Route {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        Route { interface: 7, interface_name: "dmz".to_owned(), gateway, mtu: Some(mtu), local: false }
    }

    fn said(forward: &DesiredForward, route: &Route, backend: &str) -> String {
        let interfaces = BTreeMap::from([(7, "dmz".to_owned())]);
        trouble(forward, route, &interfaces, backend.parse().unwrap()).unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_with_a_way_is_told() {
        let nat = forward(ForwardMode::Nat, "192.0.2.1", None);
        assert_eq!(said(&nat, &route(Some("10.0.0.1"), 1500), "10.1.0.1"), "");
        let local = Route { local: true, ..route(None, 1500) };
        assert!(said(&nat, &local, "10.1.0.1").contains("this host"));
        let elsewhere = Route { interface: 8, interface_name: "lan".to_owned(), ..route(None, 1500) };
        let text = said(&nat, &elsewhere, "10.1.0.1");
        assert!(text.contains("lan") && text.contains("dmz"), "{text}");
        let l2 = forward(ForwardMode::L2, "192.0.2.1", None);
        assert!(said(&l2, &route(Some("10.0.0.1"), 1500), "10.1.0.1").contains("10.0.0.1"));
        assert_eq!(said(&l2, &route(None, 1500), "10.1.0.1"), "");
    }

    #[test]
    fn an_mtu_that_cannot_hold_the_outer_header_is_told() {
        let v4 = forward(ForwardMode::Ipip, "192.0.2.1", None);
        assert!(said(&v4, &route(None, 595), "10.1.0.1").contains("596"));
        assert_eq!(said(&v4, &route(None, 596), "10.1.0.1"), "");
        let v6 = forward(ForwardMode::Ipip, "2001:db8::1", None);
        assert!(said(&v6, &route(None, 1319), "fd00::1").contains("1320"));
        let set = forward(ForwardMode::Ipip, "192.0.2.1", Some(9000));
        assert!(said(&set, &route(None, 1500), "10.1.0.1").contains("9000"));
    }
}
