//! From the reconciler's picture to metric families. Pure. Names, types and labels are those of docs/metrics.md; a
//! test holds the two together.

use super::family::{Family, Labels};
use super::{
    families_authorizer, families_bounds, families_compression, families_edge, families_forward, families_health,
    families_http, families_life, families_log, families_names, families_pool, families_routes, families_session,
    families_state, families_tls,
};
use crate::admin::view::state_word;
use crate::reconcile::{State, state};
use prometheus::proto::MetricFamily;
use std::collections::BTreeMap;
use tls_worker::api::{BackendState, Histogram, ServiceReport};

/// Everything that is exposed; families without a row are left out.
pub fn families(edge: &State) -> Vec<MetricFamily> {
    let mut all = edge_families(edge);
    all.extend(packet_families(edge));
    all.extend(families_forward::families(edge));
    all.extend(families_tls::families(edge));
    all.extend(families_http::families(edge));
    all.extend(families_session::families(edge));
    all.extend(families_state::families(edge));
    all.extend(families_log::families(edge));
    all.extend(families_authorizer::families(edge));
    all.extend(families_compression::families(edge));
    all.extend(families_life::families(edge));
    all.extend(thread_families(edge));
    all.extend(service_families(edge));
    all.extend(families_edge::families(edge));
    all.extend(families_bounds::families(edge));
    all.extend(request_families(edge));
    all.extend(families_routes::families(edge));
    all.extend(pool_families(edge));
    all.extend(families_pool::families(edge));
    all.extend(families_health::families(edge));
    all.extend(families_names::families(edge));
    all.into_iter().filter_map(Family::finish).collect()
}

fn edge_families(edge: &State) -> Vec<Family> {
    let mut build = Family::gauge("bailey_build_info", "Release of the daemon, always 1.");
    build.add([("version", env!("CARGO_PKG_VERSION").into())], 1);
    let mut confined =
        Family::gauge("bailey_worker_confined", "1 where every layer of the worker's confinement is in force.");
    if let Some(confinement) = &edge.worker.report.confinement {
        confined.add([], u64::from(confinement.missing.is_empty()));
    }
    let mut generation = Family::gauge("bailey_config_generation", "Generation in force.");
    generation.add([], edge.generation);
    let mut reloads = Family::counter("bailey_config_reloads_total", "Reloads of the config file, by result.");
    reloads.add([("result", "applied".into())], edge.reloads.0);
    reloads.add([("result", "refused".into())], edge.reloads.1);
    vec![build, confined, generation, reloads]
}

fn packet_families(edge: &State) -> Vec<Family> {
    let mut packets = Family::counter("bailey_packets_total", "Packets that XDP met, by service and verdict.");
    let mut bytes = Family::counter("bailey_packet_bytes_total", "Bytes of packets that XDP met.");
    for row in &edge.counters.packets {
        // Id 0 stands for no service; an id that nobody has any more was given again or never known.
        let service = edge.ids.name(row.service).unwrap_or_default().to_owned();
        let labels = [("service", service), ("verdict", row.verdict.to_owned())];
        packets.add(labels.clone(), row.packets);
        bytes.add(labels, row.bytes);
    }
    let mut flows = Family::counter("bailey_steered_flows_total", "Connections that sk_lookup assigned to a worker.");
    for (worker, count) in &edge.counters.worker_flows {
        flows.add([("worker", worker.to_string())], *count);
    }
    vec![packets, bytes, flows]
}

fn thread_families(edge: &State) -> Vec<Family> {
    let mut all = Family::counter("bailey_worker_connections_total", "Connections accepted by a worker thread.");
    let mut own = Family::counter(
        "bailey_worker_connections_on_cpu_total",
        "Connections that the kernel delivered on the worker's own CPU.",
    );
    let mut unknown =
        Family::counter("bailey_worker_connections_unknown_total", "Connections to an address of no service.");
    let mut generation = Family::gauge("bailey_worker_generation", "Generation that the thread serves by.");
    for thread in &edge.worker.report.threads {
        let cpu = thread.cpu.map(|cpu| cpu.to_string()).unwrap_or_default();
        let labels = [("worker", thread.index.to_string()), ("cpu", cpu)];
        all.add(labels.clone(), thread.connections);
        own.add(labels.clone(), thread.connections_on_cpu);
        unknown.add(labels.clone(), thread.connections_unknown);
        generation.add(labels, thread.generation);
    }
    vec![all, own, unknown, generation]
}

fn service_families(edge: &State) -> Vec<Family> {
    let counter = |name, help, value: fn(&ServiceReport) -> u64| {
        let mut family = Family::counter(name, help);
        for service in &edge.worker.report.services {
            family.add([("service", service.service.clone())], value(service));
        }
        family
    };
    let labelled = |name, help, label, value: fn(&ServiceReport) -> &[(String, u64)]| {
        let mut family = Family::counter(name, help);
        for service in &edge.worker.report.services {
            for (word, count) in value(service) {
                family.add([("service", service.service.clone()), (label, word.clone())], *count);
            }
        }
        family
    };
    let mut active = Family::gauge("bailey_connections_active", "Client connections open now.");
    let mut handshake =
        Family::histogram("bailey_tls_handshake_duration_seconds", "From accept to the end of the TLS handshake.");
    for service in &edge.worker.report.services {
        let labels = [("service", service.service.clone())];
        active.add(labels.clone(), service.connections_active);
        if service.handshake_seconds.count() > 0 {
            handshake.add_histogram(labels, &service.handshake_seconds);
        }
    }
    vec![
        counter("bailey_connections_total", "Client connections accepted.", |s| s.connections),
        active,
        counter("bailey_connections_refused_total", "Closed at accept because of max_connections.", |s| {
            s.connections_refused
        }),
        counter("bailey_received_bytes_total", "Bytes from clients.", |s| s.received_bytes),
        counter("bailey_sent_bytes_total", "Bytes to clients.", |s| s.sent_bytes),
        labelled("bailey_tls_handshakes_total", "TLS handshakes done.", "version", |s| &s.handshakes),
        labelled("bailey_tls_sessions_total", "TLS handshakes done, by how.", "session", |s| &s.sessions),
        labelled("bailey_tls_groups_total", "Full TLS handshakes done, by key exchange group.", "group", |s| &s.groups),
        labelled(
            "bailey_tls_handshakes_refused_total",
            "Connections closed at accept by a bound of handshakes.",
            "reason",
            |s| &s.handshakes_refused,
        ),
        labelled("bailey_tls_client_certs_total", "Client certificates asked for, by result.", "result", |s| {
            &s.client_certs
        }),
        labelled("bailey_tls_handshake_failures_total", "TLS handshakes failed.", "reason", |s| &s.handshake_failures),
        handshake,
        labelled("bailey_http_rejected_total", "Requests refused before routing.", "reason", |s| &s.rejected),
        labelled("bailey_client_timeouts_total", "Connections ended at a deadline.", "deadline", |s| &s.timeouts),
    ]
}

fn request_families(edge: &State) -> Vec<Family> {
    let mut requests = Family::counter("bailey_http_requests_total", "Requests answered.");
    let mut durations = Family::histogram(
        "bailey_http_request_duration_seconds",
        "From a request's header read to its response's header sent.",
    );
    let mut by_route: BTreeMap<(&str, &str, &str), Histogram> = BTreeMap::new();
    for row in &edge.worker.report.requests {
        let backend = row.backend.map(|backend| backend.to_string()).unwrap_or_default();
        requests.add(
            [
                ("service", row.service.clone()),
                ("route", row.route.clone()),
                ("pool", row.pool.clone()),
                ("backend", backend),
                ("code", format!("{}xx", row.code_class)),
            ],
            row.seconds.count(),
        );
        by_route.entry((&row.service, &row.route, &row.pool)).or_default().merge(&row.seconds);
    }
    for ((service, route, pool), seconds) in by_route {
        durations
            .add_histogram([("service", service.into()), ("route", route.into()), ("pool", pool.into())], &seconds);
    }
    vec![requests, durations]
}

fn pool_families(edge: &State) -> Vec<Family> {
    let mut up = Family::gauge("bailey_backend_up", "1 when a backend's checks pass or there are none.");
    let mut states = Family::gauge("bailey_backend_state", "1 for the state in force.");
    let mut weight = Family::gauge("bailey_backend_weight", "Share of a backend.");
    for pool in &edge.config.pools {
        for backend in edge.overlay.effective(pool) {
            let key = (pool.name.clone(), backend.address);
            let labels = || [("pool", pool.name.clone()), ("backend", backend.address.to_string())];
            let checked = edge.health.get(&key).map(|note| note.up);
            up.add(labels(), u64::from(checked.unwrap_or(true)));
            weight.add(labels(), u64::from(backend.weight));
            let in_force = state(backend.mark, checked);
            for state in [BackendState::Up, BackendState::Down, BackendState::Draining, BackendState::Disabled] {
                let [pool, backend] = labels();
                states.add([pool, backend, ("state", state_word(state).into())], u64::from(state == in_force));
            }
        }
    }
    let mut active = Family::gauge("bailey_backend_requests_active", "Requests and tunnels in flight.");
    let mut opened = Family::counter("bailey_backend_connections_total", "Connections opened to a backend.");
    let mut open = Family::gauge("bailey_backend_connections_open", "Connections to a backend open now.");
    let mut failures = Family::counter("bailey_backend_failures_total", "Failures towards a backend.");
    for row in &edge.worker.report.backends {
        let labels: Labels<2> = [("pool", row.pool.clone()), ("backend", row.backend.to_string())];
        active.add(labels.clone(), row.active);
        opened.add(labels.clone(), row.connections);
        open.add(labels.clone(), row.connections_open);
        for (kind, count) in &row.failures {
            let [pool, backend] = labels.clone();
            failures.add([pool, backend, ("kind", kind.clone())], *count);
        }
    }
    vec![up, states, weight, active, opened, open, failures]
}
