//! How near each bound of the edge is: what `status` tells of those that are, and metrics of all. Pure.

use super::api::BoundView;
use crate::datapath::Ports;
use crate::reconcile::State;

/// From so many percent on a bound is near.
const NEAR: u64 = 80;

/// Every bound that is known, with what is used of it.
pub fn bounds(edge: &State) -> Vec<BoundView> {
    let config = &edge.config;
    let report = &edge.worker.report;
    let bound = |name: &str, used: u64, limit: u64, key: &str| BoundView {
        name: name.to_owned(),
        used,
        limit,
        raise: key.to_owned(),
    };
    let clients: u64 = report.threads.iter().map(|thread| thread.connections_active).sum();
    let backends: u64 = report.backends.iter().map(|backend| backend.connections_open).sum();
    let handshakes: u64 = report.threads.iter().map(|thread| thread.handshakes_active).sum();
    let threads = config.edge.cpus.len() as u64;
    let mut all = vec![
        bound("connections", clients, config.edge.max_connections.into(), "`max_connections` under [edge]"),
        bound(
            "handshakes",
            handshakes,
            u64::from(config.tls.handshakes.at_once) * threads,
            "`max_handshakes` under [tls]",
        ),
        bound("open_files", clients + backends, config.edge.open_files, "LimitNOFILE= in the unit"),
    ];
    for sessions in &report.sessions {
        let pool = config.pool(&sessions.pool).and_then(|pool| pool.persistence.as_ref());
        if let Some(persistence) = pool {
            let key = format!("`max_entries` under [pool.{}.persistence]", sessions.pool);
            let name = format!("sessions of pool {}", sessions.pool);
            all.push(bound(&name, sessions.entries, persistence.max_entries.into(), &key));
        }
    }
    if config.edge.filters() {
        let services = config.services.len() + config.forwards.len();
        all.push(bound("services", services as u64, config.edge.max_services.into(), "`max_services` under [edge]"));
        let terminated: usize = config.services.iter().map(|service| service.addresses.len()).sum();
        let forwarded: u64 = config.forwards.iter().map(entries).sum();
        let addresses = terminated as u64 + forwarded;
        all.push(bound("addresses", addresses, config.edge.max_addresses.into(), "`max_addresses` under [edge]"));
        let numbered: usize = edge.counters.forwards.iter().map(|forward| forward.backends.len()).sum();
        let most = config.edge.tuning.max_backends.into();
        all.push(bound("l4_backends", numbered as u64, most, "`max_backends` under [edge]"));
    }
    all
}

/// Sentences about those that are near.
pub fn near(edge: &State) -> Vec<String> {
    let near = bounds(edge).into_iter().filter(|bound| bound.percent() >= NEAR);
    near.map(|bound| {
        let (percent, BoundView { name, used, limit, raise }) = (bound.percent(), bound);
        format!("{name}: {used} of {limit} ({percent} %); raise {raise}")
    })
    .collect()
}

impl BoundView {
    /// Used, of the limit.
    pub fn percent(&self) -> u64 {
        self.used.saturating_mul(100) / self.limit.max(1)
    }
}

/// Rows that a forwarded service takes in the kernel's table.
fn entries(forward: &crate::config::Forward) -> u64 {
    let ports = |ports| match ports {
        Ports::All => 1,
        Ports::Range(first, last) => u64::from(last - first) + 1,
    };
    let rows: u64 = forward.addresses.iter().map(|address| ports(address.ports)).sum();
    rows * forward.protocols.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing;
    use tls_worker::api::{SessionReport, ThreadReport};

    #[test]
    fn what_is_near_is_told_with_its_key() {
        let mut edge = testing::forwarding();
        assert_eq!(near(&edge), Vec::<String>::new());
        let report = std::sync::Arc::make_mut(&mut edge.worker.report);
        report.threads = vec![ThreadReport { connections_active: 900, ..ThreadReport::default() }];
        report.sessions = vec![SessionReport { pool: "p".into(), entries: 9, ..SessionReport::default() }];
        assert_eq!(
            near(&edge),
            [
                "connections: 900 of 1000 (90 %); raise `max_connections` under [edge]",
                "sessions of pool p: 9 of 9 (100 %); raise `max_entries` under [pool.p.persistence]",
            ]
        );
    }

    #[test]
    fn every_row_of_a_forwarded_service_counts() {
        let edge = testing::forwarding();
        let addresses = bounds(&edge).into_iter().find(|bound| bound.name == "addresses").unwrap();
        // One terminated; one port and every port, each by two protocols.
        assert_eq!((addresses.used, addresses.limit), (5, 64));
    }
}
