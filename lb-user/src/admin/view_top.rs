//! Counters of one moment, for `bailey top`. Pure.

use super::api::{Top, TopBackend, TopService};
use super::view;
use crate::reconcile::State;
use tls_worker::api::RequestReport;

/// All that rates are made from.
pub(super) fn top(edge: &State) -> Top {
    let status = view::status(edge);
    let report = &edge.worker.report;
    let seconds = |ours: &dyn Fn(&RequestReport) -> bool| -> f64 {
        report.requests.iter().filter(|report| ours(report)).map(|report| report.seconds.sum).sum()
    };
    let services = status.services.into_iter().map(|row| {
        let own = report.services.iter().find(|report| report.service == row.name);
        let failed = report.requests.iter().filter(|r| r.service == row.name && r.code_class == 5);
        TopService {
            errors: failed.map(|report| report.seconds.count()).sum(),
            seconds: seconds(&|report| report.service == row.name),
            received_bytes: own.map_or(0, |own| own.received_bytes),
            sent_bytes: own.map_or(0, |own| own.sent_bytes),
            name: row.name,
            mode: row.mode,
            active: row.connections_active,
            connections: row.connections,
            requests: row.requests,
            packets: row.packets,
            dropped: row.packets_dropped,
        }
    });
    let pools = edge.config.pools.iter().filter_map(|pool| view::pool(edge, &pool.name));
    let backends = pools.flat_map(|pool| {
        let name = pool.row.name;
        pool.backends.into_iter().map(move |backend| TopBackend {
            pool: name.clone(),
            address: backend.address.to_string(),
            state: backend.state,
            active: backend.active,
            requests: backend.requests,
            failures: backend.failures,
            seconds: seconds(&|report| report.pool == name && report.backend == Some(backend.address)),
            packets: backend.forwarded.iter().map(|view| view.packets).sum(),
        })
    });
    Top {
        name: status.name,
        healthy: status.healthy,
        generation: status.generation,
        uptime_ms: edge.started.elapsed().as_millis() as u64,
        services: services.collect(),
        backends: backends.collect(),
    }
}
