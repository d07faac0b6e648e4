//! Bounds that only show when tables are seen together.

use super::forward;
use super::model::{Config, DatapathKind};
use super::overlap::{self, Claim};
use super::pool;
use super::problem::{Problem, Problems};
use super::service::Terminated;
use super::tls::service::word;
use crate::datapath::{Ports, Protocol};
use ipnet::IpNet;
use tls_worker::api::{Mode, PersistBy};

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

/// Pools whose words do not go with a service that leads to them.
pub(super) fn pools(pools: &[pool::Parsed], services: &[Terminated], forwards: &[forward::Parsed], p: &mut Problems) {
    for (index, pool) in pools.iter().enumerate() {
        let leads =
            |parsed: &&Terminated| parsed.service.routes.iter().any(|route| route.pools().any(|pool| pool == index));
        let of_http = |mode: Mode| matches!(mode, Mode::Http | Mode::Https);
        let http = services.iter().filter(leads).find(|parsed| of_http(parsed.service.mode));
        let l4 = forwards.iter().find(|parsed| parsed.forward.pool == index);
        let first = http.map(|parsed| (&parsed.service.name, word(parsed.service.mode), &parsed.span));
        let first = first.or(l4.map(|parsed| (&parsed.forward.name, "l4", &parsed.pool)));
        if let (true, Some((name, mode, span))) = (pool.pool.proxy_version.is_some(), first) {
            p.push(
                Problem::error(
                    pool.proxy.clone(),
                    format!("`proxy_protocol` does not go with service {name:?} of mode {mode:?}"),
                )
                .also(span.clone(), "it leads here")
                .help("modes \"tls\", \"passthrough\" and \"tcp\" send it; to HTTP backends clients' addresses go in headers"),
            );
        }
        let stream = services.iter().filter(leads).find(|parsed| !of_http(parsed.service.mode));
        if let (true, Some(stream)) = (pool.pool.balancing.hash_key.is_some(), stream) {
            p.push(
                Problem::error(
                    pool.hash_key.clone(),
                    format!(
                        "service {:?} of mode {:?} has no requests",
                        stream.service.name,
                        word(stream.service.mode)
                    ),
                )
                .also(stream.span.clone(), "it leads here")
                .help("leave `hash_key` out: the key is the client's address; or give the service a pool of its own"),
            );
        }
        let bare = |parsed: &&Terminated| matches!(parsed.service.mode, Mode::Tls | Mode::Passthrough | Mode::Tcp);
        let bare = services.iter().filter(leads).find(bare);
        let first = bare.map(|parsed| (&parsed.service.name, word(parsed.service.mode), &parsed.span));
        let alone = l4.filter(|_| http.is_none());
        let first = first.or(alone.map(|parsed| (&parsed.forward.name, "l4", &parsed.pool)));
        let by = pool.pool.persistence.as_ref().map(|persistence| &persistence.by);
        let (goes, help) = match by {
            None => (true, ""),
            Some(PersistBy::Source { .. }) if alone.is_none() => (true, ""),
            Some(_) if alone.is_some() => (false, "hash = \"source\" of the service keeps a client where it is"),
            Some(_) => (false, "without HTTP, type = \"source\" is all that can be seen"),
        };
        if let (false, Some((name, mode, span))) = (goes, first) {
            p.push(
                Problem::error(
                    pool.sessions.clone(),
                    format!("this persistence does not go with service {name:?} of mode {mode:?}"),
                )
                .also(span.clone(), "it leads here")
                .help(help),
            );
        }
        let spoken =
            pool.pool.tls.iter().flat_map(|tls| &tls.alpn).find(|name| !["h2", "http/1.1"].contains(&&***name));
        if let (Some(protocol), Some(http)) = (spoken, http) {
            p.push(
                Problem::error(
                    pool.alpn.clone(),
                    format!("requests of service {:?} cannot be sent by {protocol:?}", http.service.name),
                )
                .also(http.span.clone(), "it leads here")
                .help("write \"h2\", \"http/1.1\" or both"),
            );
        }
    }
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
