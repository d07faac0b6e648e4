//! From the reconciler's picture to what is shown. Pure.

use super::api::*;
use super::view_certificates as tls_view;
use super::view_forward as forward;
pub use super::view_forward::{MAX_RULES_SHOWN, rules};
use super::view_health as health;
use super::{sessions, view_names};
use crate::config::Pool;
use crate::datapath::Protocol;
use crate::reconcile::{Mark, Overlay, State, state};
use crate::supervisor::SeatView;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;
use tls_worker::api::{self, BackendReport, BackendState, Balance, ListenAddress, Mode};

/// The edge at a glance.
pub fn status(edge: &State) -> Status {
    let worker = &edge.worker;
    let pools: Vec<PoolView> = edge.config.pools.iter().map(|pool| pool_view(edge, pool)).collect();
    let mut troubles = Vec::new();
    let (living, all) = (worker.living(), worker.seats.len());
    if living == 0 || living < all {
        let why = worker.last_error.as_deref().unwrap_or("not started");
        let whose =
            if living == 0 { "no worker serves".into() } else { format!("{living} of {all} worker processes serve") };
        troubles.push(format!("{whose}: {why}"));
    }
    let forwarded = edge.config.forwards.iter().map(|forward| forward.pool);
    let used: Vec<usize> = edge.config.routed_pools().chain(forwarded).collect();
    for (index, (pool, view)) in edge.config.pools.iter().zip(&pools).enumerate() {
        if used.contains(&index) {
            troubles.extend(health::troubles(pool, view));
        }
    }
    troubles.extend(view_names::troubles(edge));
    troubles.extend(forward::troubles(edge));
    troubles.extend(tls_view::troubles(edge, SystemTime::now()));
    troubles.extend(state_troubles(edge));
    let process = |seat: &SeatView| ProcessStatus {
        pid: seat.pid,
        uptime_seconds: seat.since.map(|since| since.elapsed().as_secs()),
        adopted: seat.adopted,
        threads: seat.threads.clone(),
    };
    let processes: Vec<ProcessStatus> = worker.seats.iter().map(process).collect();
    let threads = worker.report.threads.iter().map(|thread| ThreadStatus {
        index: thread.index,
        cpu: thread.cpu,
        generation: thread.generation,
        connections: thread.connections,
        connections_on_cpu: thread.connections_on_cpu,
        connections_active: thread.connections_active,
    });
    let datapath = &edge.datapath;
    let interface = |(name, mode): &(String, String)| InterfaceStatus { name: name.clone(), mode: mode.clone() };
    Status {
        name: edge.config.edge.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        healthy: troubles.is_empty(),
        troubles,
        generation: edge.generation,
        uptime_seconds: edge.started.elapsed().as_secs(),
        datapath: DatapathStatus {
            kind: datapath.datapath.clone(),
            steering: datapath.steering.clone(),
            interfaces: datapath.interfaces.iter().map(interface).collect(),
            pins: datapath.pins.clone(),
            addresses: datapath.addresses.clone(),
        },
        worker: WorkerStatus {
            up: living > 0,
            pid: worker.pid(),
            uptime_seconds: processes.iter().find_map(|process| process.uptime_seconds),
            restarts: worker.restarts,
            last_error: worker.last_error.clone(),
            processes,
            unconfined: worker.report.confinement.as_ref().map(|confinement| confinement.missing.clone()),
            threads: threads.collect(),
        },
        services: services(edge),
        pools: pools.into_iter().map(|view| view.row).collect(),
        near_bounds: super::bounds::near(edge),
        warnings: warnings(edge),
        state: StateStatus {
            directory: edge.book.place.as_ref().map(|place| place.display().to_string()),
            last_change: edge.history.last(),
            differences: Overlay::default().delta(&edge.overlay).len() as u64,
        },
    }
}

/// Where changes are kept, and why not.
fn state_troubles(edge: &State) -> impl Iterator<Item = String> {
    let place = edge.book.place.as_ref().map(|place| place.display().to_string()).unwrap_or_default();
    let unwritable =
        edge.book.trouble.as_ref().map(|why| format!("changes are refused, as {place} is no place for them: {why}"));
    let lost = edge.book.lost.as_ref().map(|what| format!("{place}: {what}"));
    let aside = edge.aside.as_ref().map(|why| {
        format!(
            "what operators had changed is not in force, as it does not go with the file: {why}; see bailey history"
        )
    });
    [unwritable, lost, aside].into_iter().flatten()
}

/// What serves, and could be better.
fn warnings(edge: &State) -> Vec<String> {
    let confinement = edge.worker.report.confinement.iter();
    let unconfined = confinement.flat_map(|confinement| &confinement.missing);
    let unconfined = unconfined.map(|lack| format!("the worker is confined less than it is meant to be: {lack}"));
    edge.warnings.iter().map(ToString::to_string).chain(unconfined).collect()
}

/// All services.
pub fn services(edge: &State) -> Vec<ServiceRow> {
    let terminated = edge.config.services.iter().map(|service| service_row(edge, service));
    terminated.chain(edge.config.forwards.iter().map(|service| forward::row(edge, service))).collect()
}

/// One service.
pub fn service(edge: &State, name: &str) -> Option<ServiceView> {
    if let Some(service) = edge.config.forwards.iter().find(|service| service.name == name) {
        return Some(forward::view(edge, service));
    }
    let service = edge.config.services.iter().find(|service| service.name == name)?;
    let report = edge.worker.report.services.iter().find(|report| report.service == name);
    let sum = |list: &[(String, u64)]| list.iter().map(|(_, n)| n).sum();
    let tls = service.tls.as_ref();
    let policy = tls.and_then(|tls| tls.policies.first());
    let route = |route: &api::Route| RouteView {
        name: route.name.clone(),
        hosts: route.hosts.clone(),
        path: route.path.shown(),
        pool: edge.config.leads_to(route),
    };
    let certificate = |index: &usize| edge.config.certificates.get(*index).map(|one| one.name().to_owned());
    Some(ServiceView {
        row: service_row(edge, service),
        id: edge.ids.id(name),
        certificates: policy.iter().flat_map(|policy| &policy.certificates).filter_map(certificate).collect(),
        min_tls: policy.map(|policy| tls_view::version(policy.protocol.min_version).into()),
        http2: tls.map(|tls| tls.alpn.iter().any(|name| name == "h2")),
        routes: service.routes.iter().map(route).collect(),
        connections_refused: report.map_or(0, |r| r.connections_refused),
        received_bytes: report.map_or(0, |r| r.received_bytes),
        sent_bytes: report.map_or(0, |r| r.sent_bytes),
        handshakes: report.map_or(0, |r| sum(&r.handshakes)),
        handshake_failures: report.map_or(0, |r| sum(&r.handshake_failures)),
        handshake_counts: tls_view::handshakes(report),
        policies: tls.iter().flat_map(|tls| &tls.policies).map(|one| tls_view::policy(edge, one)).collect(),
        strict_sni: tls.is_some_and(|tls| tls.strict_sni),
        alpn: tls.map(|tls| tls.alpn.clone()).unwrap_or_default(),
        forward: None,
        verdicts: forward::verdicts(edge, name),
        limits: forward::limits(edge, name),
        flooded: forward::flooded(edge, name),
    })
}

/// All pools.
pub fn pools(edge: &State) -> Vec<PoolRow> {
    edge.config.pools.iter().map(|pool| pool_view(edge, pool).row).collect()
}

/// One pool.
pub fn pool(edge: &State, name: &str) -> Option<PoolView> {
    edge.config.pool(name).map(|pool| pool_view(edge, pool))
}

/// The word for a state, in tables and metrics.
pub fn state_word(state: BackendState) -> &'static str {
    match state {
        BackendState::Up => "up",
        BackendState::Down => "down",
        BackendState::Draining => "draining",
        BackendState::Disabled => "disabled",
    }
}

fn service_row(edge: &State, service: &api::Service) -> ServiceRow {
    let report = edge.worker.report.services.iter().find(|report| report.service == service.name);
    let requests = edge.worker.report.requests.iter().filter(|r| r.service == service.name);
    ServiceRow {
        name: service.name.clone(),
        mode: match service.mode {
            Mode::Http => "http".into(),
            Mode::Https => "https".into(),
            Mode::Tls => "tls".into(),
            Mode::Passthrough => "passthrough".into(),
            Mode::Tcp => "tcp".into(),
        },
        addresses: service.addresses.iter().map(listen_address).collect(),
        protocols: vec![Protocol::Tcp],
        packets: forward::packets(edge, &service.name, false),
        packets_dropped: forward::packets(edge, &service.name, true),
        connections: report.map_or(0, |r| r.connections),
        connections_active: report.map_or(0, |r| r.connections_active),
        requests: requests.map(|r| r.seconds.count()).sum(),
    }
}

fn pool_view(edge: &State, pool: &Pool) -> PoolView {
    let removed = edge.overlay.removed(pool);
    let effective = edge.overlay.effective(pool);
    let draining: Vec<SocketAddr> =
        effective.iter().filter(|backend| backend.mark == Mark::Draining).map(|backend| backend.address).collect();
    let sessions = sessions::leading_to(edge, pool, &draining);
    let backends: Vec<_> = effective
        .into_iter()
        .map(|backend| {
            let key = (pool.name.clone(), backend.address);
            let note = edge.health.get(&key);
            let report = backend_report(edge, &pool.name, backend.address);
            let requests = edge.worker.report.requests.iter();
            let ours = requests.filter(|r| r.pool == pool.name && r.backend == Some(backend.address));
            BackendView {
                address: backend.address,
                weight: backend.weight,
                state: state_word(state(backend.mark, note.map(|note| note.up))).into(),
                mark: backend.mark,
                health: match (&pool.health, note) {
                    (None, _) => "unchecked",
                    (Some(_), None) => "unknown",
                    (Some(_), Some(note)) if note.up => "up",
                    (Some(_), Some(_)) => "down",
                }
                .into(),
                cause: note.map(|note| note.cause.clone()),
                since_seconds: note.map(|note| note.since.elapsed().as_secs()),
                name: pool.name_of(&backend.address).map(ToString::to_string),
                active: report.map_or(0, |r| r.active),
                tunnels: report.map_or(0, |r| r.tunnels),
                sessions: sessions.get(&backend.address).copied(),
                drain_left_seconds: report.map(|r| r.drain_left_ms.div_ceil(1000)).filter(|left| *left > 0),
                cut_requests: report.map_or(0, |r| r.cut_requests),
                cut_tunnels: report.map_or(0, |r| r.cut_tunnels),
                connections_open: report.map_or(0, |r| r.connections_open),
                requests: ours.map(|r| r.seconds.count()).sum(),
                failures: report.map_or(0, |r| r.failures.iter().map(|(_, n)| n).sum()),
                in_file: backend.in_file,
                changed: backend.changed,
                forwarded: forward::to_backend(edge, &pool.name, backend.address),
                standing: health::view(edge, &key, backend.mark, note, report),
            }
        })
        .collect();
    PoolView {
        row: PoolRow {
            name: pool.name.clone(),
            balance: match pool.balance {
                Balance::RoundRobin => "round_robin".into(),
                Balance::LeastConnections => "least_connections".into(),
                Balance::LeastRequests => "least_requests".into(),
                Balance::PeakEwma => "peak_ewma".into(),
                Balance::Random => "random".into(),
                Balance::Hash => "hash".into(),
            },
            up: backends.iter().filter(|backend| backend.state == "up").count(),
            total: backends.len(),
            active: backends.iter().map(|backend| backend.active).sum(),
            changed: !removed.is_empty() || backends.iter().any(|backend| backend.changed),
        },
        health: pool.health.as_ref().map(|check| check.words()),
        tls: pool.tls.as_ref().map(tls_view::upstream),
        backends,
        drain_seconds: pool.drain_timeout.as_secs(),
        names: view_names::names(edge, pool),
        removed,
    }
}

fn backend_report<'s>(edge: &'s State, pool: &str, address: SocketAddr) -> Option<&'s BackendReport> {
    edge.worker.report.backends.iter().find(|report| report.pool == pool && report.backend == address)
}

fn listen_address(listen: &ListenAddress) -> String {
    match (listen.address, listen.port) {
        (address, Some(port)) => SocketAddr::new(address, port).to_string(),
        (IpAddr::V4(address), None) => format!("{address}:*"),
        (IpAddr::V6(address), None) => format!("[{address}]:*"),
    }
}
