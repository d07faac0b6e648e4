//! What only shows when tables are seen together.

use super::model::{Config, DatapathKind};
use super::problem::{Problem, Problems};
use super::service::Parsed;
use std::collections::HashMap;
use std::ops::Range;
use tls_worker::api::ListenAddress;

/// Every address with its port belongs to one service. An exact port beside `*` is none twice: it goes first.
pub(super) fn addresses(services: &[Parsed], p: &mut Problems) {
    let mut owners: HashMap<ListenAddress, (&str, Range<usize>)> = HashMap::new();
    for parsed in services {
        let name = parsed.service.name.as_str();
        for at in &parsed.places {
            match owners.get(&at.value) {
                None => {
                    owners.insert(at.value, (name, at.span.clone()));
                }
                Some((owner, first)) => {
                    let whose = if *owner == name {
                        format!("stands twice in service {name:?}")
                    } else {
                        format!("belongs to service {owner:?} already")
                    };
                    let port = at.value.port.map_or("*".into(), |port| port.to_string());
                    p.push(
                        Problem::error(at.span.clone(), format!("{} port {port} {whose}", at.value.address))
                            .label("again")
                            .also(first.clone(), "first here")
                            .help("an address with its port belongs to one service: remove one of the two"),
                    );
                }
            }
        }
    }
}

/// Bounds and conflicts over the whole.
pub(super) fn whole(config: &Config, places: &[Parsed], p: &mut Problems) {
    let total: usize = config.services.iter().map(|s| s.addresses.len()).sum();
    let bound = config.edge.max_addresses as usize;
    let end = places.last().and_then(|parsed| parsed.places.last()).map_or(0..0, |at| at.span.clone());
    if total > bound {
        p.push(
            Problem::error(end.clone(), format!("{total} addresses are over the bound of {bound}"))
                .help("raise `max_addresses` under [edge]"),
        );
    }
    if config.services.len() > config.edge.max_services as usize {
        p.push(
            Problem::error(
                end,
                format!("{} services are over the bound of {}", config.services.len(), config.edge.max_services),
            )
            .help("raise `max_services` under [edge]"),
        );
    }
    if config.services.is_empty() {
        p.push(Problem::warning(0..0, "there is no service").help("add a table [service.NAME]"));
    }
    let Some(metrics) = config.admin.metrics else { return };
    for at in places.iter().flat_map(|parsed| &parsed.places) {
        let same_port = at.value.port.is_none_or(|port| port == metrics.port());
        let every = config.edge.datapath == DatapathKind::Sockets
            && (at.value.address.is_unspecified() || metrics.ip().is_unspecified());
        if same_port && (at.value.address == metrics.ip() || every) {
            p.push(
                Problem::error(at.span.clone(), format!("[admin] metrics has {metrics} already"))
                    .help("give one of the two another port"),
            );
        }
    }
}
