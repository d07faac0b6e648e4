//! Every address, port and protocol belongs to one service. An exact port beside `*` is none twice: it goes first.

use super::forward;
use super::problem::{Problem, Problems};
use super::service::Terminated;
use crate::datapath::{Ports, Protocol, ServiceAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use tls_worker::api::ListenAddress;

/// An address that a service has, and where that is written.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) service: String,
    pub(super) at: ServiceAddress,
    pub(super) protocol: Protocol,
    pub(super) span: Range<usize>,
}

/// What all services claim, in the order of the text.
pub(super) fn claims(terminated: &[Terminated], forwarded: &[forward::Parsed]) -> Vec<Claim> {
    let ports = |listen: ListenAddress| listen.port.map_or(Ports::All, |port| Ports::Range(port, port));
    let mut claims = Vec::new();
    for parsed in terminated {
        claims.extend(parsed.places.iter().map(|at| Claim {
            service: parsed.service.name.clone(),
            at: ServiceAddress { address: at.value.address, ports: ports(at.value) },
            protocol: Protocol::Tcp,
            span: at.span.clone(),
        }));
    }
    for parsed in forwarded {
        for at in &parsed.places {
            claims.extend(parsed.forward.protocols.iter().map(|protocol| Claim {
                service: parsed.forward.name.clone(),
                at: at.value,
                protocol: *protocol,
                span: at.span.clone(),
            }));
        }
    }
    claims.sort_by_key(|claim| (claim.span.start, claim.protocol));
    claims
}

/// Entries in the kernel's table.
pub(super) fn entries(claims: &[Claim]) -> usize {
    let ports = |claim: &Claim| match claim.at.ports {
        Ports::All => 1,
        Ports::Range(first, last) => usize::from(last - first) + 1,
    };
    claims.iter().map(ports).sum()
}

/// Tell of what two have.
pub(super) fn addresses(claims: &[Claim], p: &mut Problems) {
    let mut told = BTreeSet::new();
    for (first, again) in overlaps(claims) {
        let (first, again) = (&claims[first], &claims[again]);
        // Both protocols of one line are one mistake.
        if !told.insert((first.span.start, again.span.start)) {
            continue;
        }
        let whose = if first.service == again.service {
            format!("stands twice in service {:?}", again.service)
        } else {
            format!("belongs to service {:?} already", first.service)
        };
        let ports = match (first.at.ports, again.at.ports) {
            (Ports::Range(a, b), Ports::Range(c, d)) => match (a.max(c), b.min(d)) {
                (first, last) if first == last => format!("port {first}"),
                (first, last) => format!("ports {first}-{last}"),
            },
            _ => "port *".into(),
        };
        p.push(
            Problem::error(again.span.clone(), format!("{} {ports} {whose}", again.at.address))
                .label("again")
                .also(first.span.clone(), "first here")
                .help("an address with its port and protocol belongs to one service: remove one of the two"),
        );
    }
}

/// Pairs of claims that share a port, the earlier first; at least one for each claim that shares with an earlier one
/// in the order of ports.
fn overlaps(claims: &[Claim]) -> Vec<(usize, usize)> {
    type Place = (IpAddr, Protocol);
    let mut groups: BTreeMap<Place, Vec<(u16, u16, usize)>> = BTreeMap::new();
    let mut all: BTreeMap<Place, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let key = (claim.at.address, claim.protocol);
        match claim.at.ports {
            Ports::Range(first, last) => groups.entry(key).or_default().push((first, last, index)),
            Ports::All => match all.get(&key) {
                Some(first) => found.push((*first, index)),
                None => {
                    all.insert(key, index);
                }
            },
        }
    }
    for ranges in groups.values_mut() {
        ranges.sort_unstable();
        // The range that reaches furthest so far.
        let mut reach: Option<(u16, usize)> = None;
        for (first, last, index) in ranges.iter().copied() {
            match reach {
                Some((end, other)) if first <= end => {
                    found.push((other.min(index), other.max(index)));
                    if last > end {
                        reach = Some((last, index));
                    }
                }
                _ => reach = Some((last, index)),
            }
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim() -> impl Strategy<Value = Claim> {
        let ports = prop_oneof![
            1 => Just(Ports::All),
            4 => (1u16..30, 0u16..4).prop_map(|(first, more)| Ports::Range(first, first + more)),
        ];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        (0u8..3, ports, protocol).prop_map(|(host, ports, protocol)| Claim {
            service: "s".into(),
            at: ServiceAddress { address: [10, 0, 0, host].into(), ports },
            protocol,
            span: 0..0,
        })
    }

    /// Port by port.
    fn shares(a: &Claim, b: &Claim) -> bool {
        let has = |claim: &Claim, port: u16| match claim.at.ports {
            Ports::All => port == 0,
            Ports::Range(first, last) => (first..=last).contains(&port),
        };
        (a.at.address, a.protocol) == (b.at.address, b.protocol) && (0..64).any(|port| has(a, port) && has(b, port))
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_two_have(claims in prop::collection::vec(claim(), 0..12)) {
            let found = overlaps(&claims);
            for (a, b) in &found {
                prop_assert!(a < b && shares(&claims[*a], &claims[*b]));
            }
            for (b, again) in claims.iter().enumerate() {
                for (a, _) in claims.iter().enumerate().take(b).filter(|(_, first)| shares(first, again)) {
                    let told = found.iter().any(|(x, y)| [*x, *y].contains(&a) || [*x, *y].contains(&b));
                    prop_assert!(told, "{a} and {b} share a port: {claims:?} {found:?}");
                }
            }
        }
    }
}
