//! Bounds that only show when tables are seen together.

use super::model::{Config, DatapathKind};
use super::overlap::{self, Claim};
use super::problem::{Problem, Problems};
use crate::datapath::{Ports, Protocol};
use ipnet::IpNet;

/// Bounds and conflicts over the whole.
pub(super) fn whole(config: &Config, claims: &[Claim], p: &mut Problems) {
    let total = overlap::entries(claims);
    let bound = config.edge.max_addresses as usize;
    let end = claims.last().map_or(0..0, |claim| claim.span.clone());
    if total > bound {
        p.push(
            Problem::error(
                end.clone(),
                format!("{total} addresses, each port and protocol counted, are over the bound of {bound}"),
            )
            .help("raise `max_addresses` under [edge]; \"IP:*\" counts as one"),
        );
    }
    let (services, bound) = (config.service_names().count(), config.edge.max_services);
    if services > bound as usize {
        p.push(
            Problem::error(end, format!("{services} services are over the bound of {bound}"))
                .help("raise `max_services` under [edge]"),
        );
    }
    if services == 0 {
        p.push(Problem::warning(0..0, "there is no service").help("add a table [service.NAME]"));
    }
    prefixes(config, p);
    metrics(config, claims, p);
}

fn prefixes(config: &Config, p: &mut Problems) {
    let count = |v4: bool| {
        let networks = config.prefixes.values().flat_map(|rules| rules.keys());
        networks.filter(|network| matches!(network, IpNet::V4(_)) == v4).count()
    };
    let bound = config.edge.tuning.max_prefixes as usize;
    for (family, count) in [("IPv4", count(true)), ("IPv6", count(false))] {
        if count > bound {
            p.push(
                Problem::error(0..0, format!("{count} {family} prefixes are over the bound of {bound}"))
                    .help("raise `max_prefixes` under [edge]"),
            );
        }
    }
}

fn metrics(config: &Config, claims: &[Claim], p: &mut Problems) {
    let Some(metrics) = config.admin.metrics else { return };
    for claim in claims.iter().filter(|claim| claim.protocol == Protocol::Tcp) {
        let address = claim.at.address;
        let same_port = match claim.at.ports {
            Ports::All => true,
            Ports::Range(first, last) => (first..=last).contains(&metrics.port()),
        };
        let every = config.edge.datapath == DatapathKind::Sockets
            && (address.is_unspecified() || metrics.ip().is_unspecified());
        if same_port && (address == metrics.ip() || every) {
            p.push(
                Problem::error(claim.span.clone(), format!("[admin] metrics has {metrics} already"))
                    .help("give one of the two another port"),
            );
        }
    }
}
