//! What only shows when a forwarded service is seen with its pool and with other services.

use super::forward::Parsed;
use super::model::{Config, Forward};
use super::problem::{Problem, Problems};
use crate::datapath::{ForwardMode, Ports, Protocol, ServiceAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// A backend that a service cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Service.
    pub service: String,
    /// What cannot be.
    pub why: String,
    /// What to do.
    pub help: String,
}

/// Backends that cannot be had, as the file has them or as operators changed them. `backends` gives those of a pool.
pub fn conflicts(config: &Config, backends: impl Fn(usize) -> Vec<SocketAddr>) -> Vec<Conflict> {
    let mut found = Vec::new();
    let forwarded =
        config.forwards.iter().flat_map(|f| f.addresses.iter().map(move |at| (at.address, f.name.as_str())));
    let terminated =
        config.services.iter().flat_map(|s| s.addresses.iter().map(move |at| (at.address, s.name.as_str())));
    let vips: BTreeMap<IpAddr, &str> = forwarded.chain(terminated).collect();
    let mut replies: BTreeMap<(IpAddr, Protocol), Vec<(Ports, &str)>> = BTreeMap::new();
    for forward in &config.forwards {
        let pool = backends(forward.pool);
        let mut conflict = |why: String, help: &str| {
            found.push(Conflict { service: forward.name.clone(), why, help: help.into() });
        };
        if let Some((a, b)) = same_host(forward, &pool) {
            let why = format!("backends {a} and {b} are one host to service {:?}", forward.name);
            let help = match forward.mode {
                ForwardMode::Nat => "a service of several ports keeps the port: name the host once, with any port",
                _ => "packets reach it with the service's own address and port: name the host once",
            };
            conflict(why, help);
        }
        if forward.mode != ForwardMode::Nat {
            continue;
        }
        for backend in &pool {
            if let Some(owner) = vips.get(&backend.ip()) {
                let why = format!("backend {backend} has an address of service {owner:?}");
                conflict(why, "a packet sent there would come back to the edge: name the host's own address");
                continue;
            }
            if !forward.addresses.iter().any(|at| at.address.is_ipv4() == backend.is_ipv4()) {
                let why = format!("backend {backend} is of no family that service {:?} has", forward.name);
                conflict(
                    why,
                    "\"nat\" does not translate between IPv4 and IPv6: name a backend of the service's family",
                );
                continue;
            }
            for protocol in &forward.protocols {
                let others = replies.entry((backend.ip(), *protocol)).or_default();
                let ports = reply_ports(forward, *backend);
                match others.iter().find(|(theirs, owner)| meet(*theirs, ports) && *owner != forward.name) {
                    Some((_, owner)) => {
                        let why = format!(
                            "backend {backend} ({protocol}) belongs to services {owner:?} and {:?}, both with forward = \"nat\"",
                            forward.name
                        );
                        conflict(
                            why,
                            "a reply is translated by the address and port that it comes from: give one of the services another port on the host",
                        );
                    }
                    None => others.push((ports, &forward.name)),
                }
            }
        }
    }
    found
}

/// Whether packets keep their destination port.
fn keeps_port(forward: &Forward) -> bool {
    forward.mode != ForwardMode::Nat
        || forward.addresses.iter().any(|at| !matches!(at.ports, Ports::Range(first, last) if first == last))
}

/// Two backends that packets cannot tell apart.
fn same_host(forward: &Forward, pool: &[SocketAddr]) -> Option<(SocketAddr, SocketAddr)> {
    if !keeps_port(forward) {
        return None;
    }
    let mut hosts: BTreeMap<IpAddr, SocketAddr> = BTreeMap::new();
    pool.iter().find_map(|backend| hosts.insert(backend.ip(), *backend).map(|first| (first, *backend)))
}

/// Ports that a backend's replies come from.
fn reply_ports(forward: &Forward, backend: SocketAddr) -> Ports {
    if !keeps_port(forward) {
        return Ports::Range(backend.port(), backend.port());
    }
    let ours = forward.addresses.iter().find(|at| at.address.is_ipv4() == backend.is_ipv4());
    ours.map_or(Ports::All, |at| at.ports)
}

fn meet(a: Ports, b: Ports) -> bool {
    match (a, b) {
        (Ports::Range(a, b), Ports::Range(c, d)) => a <= d && c <= b,
        _ => true,
    }
}

/// Tell of everything about forwarded services that cannot be or will not serve.
pub(super) fn check(config: &Config, parsed: &[Parsed], p: &mut Problems) {
    let backends =
        |pool: usize| config.pools.get(pool).map_or_else(Vec::new, |pool| pool.backends.keys().copied().collect());
    for conflict in conflicts(config, backends) {
        let span =
            parsed.iter().find(|parsed| parsed.forward.name == conflict.service).map(|parsed| parsed.pool.clone());
        p.push(Problem::error(span.unwrap_or_default(), conflict.why).help(conflict.help));
    }
    for parsed in parsed {
        translatable(parsed, p);
        let pool = backends(parsed.forward.pool);
        if !pool.is_empty() {
            families(parsed, &pool, p);
        }
        outer_mtu(parsed, &pool, p);
    }
    let total: usize = config.forwards.iter().map(|forward| backends(forward.pool).len()).sum();
    let bound = config.edge.tuning.max_backends as usize;
    if total > bound {
        let span = parsed.last().map(|parsed| parsed.pool.clone()).unwrap_or_default();
        p.push(
            Problem::error(span, format!("{total} backends of \"l4\" services are over the bound of {bound}"))
                .help("raise `max_backends` under [edge]"),
        );
    }
}

/// A reply is translated without a flow's memory, so that its source alone says what it is a reply of.
fn translatable(parsed: &Parsed, p: &mut Problems) {
    if parsed.forward.mode != ForwardMode::Nat {
        return;
    }
    const WHY: &str = "a reply is translated without memory of its flow, so each backend stands for one address of a family and for the same ports: make this a service of its own";
    let mut families: BTreeMap<bool, &ServiceAddress> = BTreeMap::new();
    for at in &parsed.places {
        let message = match families.get(&at.value.address.is_ipv4()) {
            Some(first) => {
                format!("forward = \"nat\" takes one address of each family, and {first} stands here already")
            }
            None if families.values().any(|other| other.ports != at.value.ports) => {
                "forward = \"nat\" takes the same ports at both families".into()
            }
            None => {
                families.insert(at.value.address.is_ipv4(), &at.value);
                continue;
            }
        };
        p.push(Problem::error(at.span.clone(), message).help(WHY));
    }
}

/// Packets of a family need backends of it.
fn families(parsed: &Parsed, pool: &[SocketAddr], p: &mut Problems) {
    let forward = &parsed.forward;
    let families: BTreeSet<bool> = forward.addresses.iter().map(|at| at.address.is_ipv4()).collect();
    for v4 in families {
        // An IPv4 packet can be put into either.
        let good = |backend: &&SocketAddr| backend.is_ipv4() == v4 || (v4 && forward.mode == ForwardMode::Ipip);
        if pool.iter().find(good).is_none() {
            let family = if v4 { "IPv4" } else { "IPv6" };
            let message =
                format!("service {:?} has an {family} address, and its pool no {family} backend", forward.name);
            p.push(
                Problem::warning(parsed.pool.clone(), message)
                    .help(format!("{family} packets are dropped (no_backend): add a backend, or remove the address")),
            );
        }
    }
}

/// What must fit whole: what every host takes (RFC 791, RFC 8200), and the outer header.
fn outer_mtu(parsed: &Parsed, pool: &[SocketAddr], p: &mut Problems) {
    let forward = &parsed.forward;
    let Some(mtu) = forward.outer_mtu.filter(|_| forward.mode == ForwardMode::Ipip) else { return };
    let needed = |at: &ServiceAddress| match (at.address.is_ipv4(), pool.iter().any(SocketAddr::is_ipv6)) {
        (true, false) => 576 + 20,
        (true, true) => 576 + 40,
        (false, _) => 1280 + 40,
    };
    let least = forward.addresses.iter().map(needed).max().unwrap_or_default();
    if mtu < least {
        let message = format!("an outer packet of {mtu} bytes cannot hold what every host may send");
        p.push(
            Problem::error(parsed.outer_mtu.clone(), message).help(format!("write {least} or more, or leave it out")),
        );
    }
}
