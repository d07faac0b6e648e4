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
    ways: BTreeMap<IpAddr, Result<Way, String>>,
}

/// A route, with what its interface says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    route: Route,
    interface_name: String,
    /// Bytes of a packet at the most, by route and interface.
    mtu: u32,
}

impl Reach {
    pub(super) fn new(interfaces: BTreeMap<u32, String>) -> Self {
        Self { interfaces, ways: BTreeMap::new() }
    }

    /// Look at the way to each of `addresses`, and have its next hop asked for.
    pub(super) async fn look(&mut self, netlink: &Netlink, addresses: &BTreeSet<IpAddr>) {
        if addresses.is_empty() {
            self.ways.clear();
            return;
        }
        let interfaces = match netlink.interfaces().await {
            Ok(interfaces) => interfaces,
            Err(error) => return tracing::warn!(%error, "the ways to backends are not looked at"),
        };
        let mut ways = BTreeMap::new();
        for address in addresses {
            let route = netlink.route_to(*address).await;
            if let Ok(route) = &route
                && self.interfaces.contains_key(&route.interface)
            {
                let wanted = route.gateway.unwrap_or(*address);
                // Who does not answer is seen by its checks, and by packets that find no neighbour.
                let _ = netlink.ask_for_neighbour(route.interface, wanted).await;
            }
            let way = |route: Route| {
                let interface = interfaces.values().find(|interface| interface.index == route.interface);
                let interface_name = interface.map_or_else(|| route.interface.to_string(), |i| i.name.clone());
                let mtu = interface.and_then(|interface| interface.mtu).into_iter().chain(route.mtu).min();
                Way { route, interface_name, mtu: mtu.unwrap_or(u32::MAX) }
            };
            ways.insert(*address, route.map(way).map_err(|e| e.to_string()));
        }
        self.ways = ways;
    }

    /// Why packets of this service do not reach a backend.
    pub(super) fn trouble(&self, forward: &DesiredForward, backend: IpAddr) -> Option<String> {
        match self.ways.get(&backend)? {
            Err(why) => Some(format!("unreachable by route: {why}")),
            Ok(way) => trouble(forward, way, &self.interfaces, backend),
        }
    }
}

fn trouble(forward: &DesiredForward, way: &Way, interfaces: &BTreeMap<u32, String>, backend: IpAddr) -> Option<String> {
    let Way { route, interface_name, mtu } = way;
    if route.local {
        return Some("it is an address of this host, which forwarding does not reach".to_owned());
    }
    if !interfaces.contains_key(&route.interface) {
        let known: Vec<&str> = interfaces.values().map(String::as_str).collect();
        return Some(format!(
            "its route leads out of interface {interface_name}, which the edge is not attached to; add it to \
             `interfaces` under [edge] (they are: {})",
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
        if *mtu < least + outer {
            return Some(format!(
                "the MTU of its route, {mtu}, cannot hold the encapsulation: {} is needed",
                least + outer
            ));
        }
        if let Some(set) = forward.outer_mtu.filter(|set| set > mtu) {
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

    fn way(gateway: Option<&str>, mtu: u32) -> Way {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        let route = Route { interface: 7, gateway, mtu: None, local: false };
        Way { route, interface_name: "dmz".to_owned(), mtu }
    }

    fn said(forward: &DesiredForward, way: &Way, backend: &str) -> String {
        let interfaces = BTreeMap::from([(7, "dmz".to_owned())]);
        trouble(forward, way, &interfaces, backend.parse().unwrap()).unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_with_a_way_is_told() {
        let nat = forward(ForwardMode::Nat, "192.0.2.1", None);
        assert_eq!(said(&nat, &way(Some("10.0.0.1"), 1500), "10.1.0.1"), "");
        let mut local = way(None, 1500);
        local.route.local = true;
        assert!(said(&nat, &local, "10.1.0.1").contains("this host"));
        let mut elsewhere = Way { interface_name: "lan".to_owned(), ..way(None, 1500) };
        elsewhere.route.interface = 8;
        let text = said(&nat, &elsewhere, "10.1.0.1");
        assert!(text.contains("lan") && text.contains("dmz"), "{text}");
        let l2 = forward(ForwardMode::L2, "192.0.2.1", None);
        assert!(said(&l2, &way(Some("10.0.0.1"), 1500), "10.1.0.1").contains("10.0.0.1"));
        assert_eq!(said(&l2, &way(None, 1500), "10.1.0.1"), "");
    }

    #[test]
    fn an_mtu_that_cannot_hold_the_outer_header_is_told() {
        let v4 = forward(ForwardMode::Ipip, "192.0.2.1", None);
        assert!(said(&v4, &way(None, 595), "10.1.0.1").contains("596"));
        assert_eq!(said(&v4, &way(None, 596), "10.1.0.1"), "");
        let v6 = forward(ForwardMode::Ipip, "2001:db8::1", None);
        assert!(said(&v6, &way(None, 1319), "fd00::1").contains("1320"));
        let set = forward(ForwardMode::Ipip, "192.0.2.1", Some(9000));
        assert!(said(&set, &way(None, 1500), "10.1.0.1").contains("9000"));
    }
}
