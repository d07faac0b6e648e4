//! Configs for the tests of this folder and its neighbours.

use crate::config::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tls_worker::api;
use tokio::time::Instant;

/// Services of these names, each on a port of its own, all to the pool `p`.
pub(crate) fn config(services: &[&str], backends: BTreeMap<SocketAddr, u16>) -> Config {
    let second = Duration::from_secs(1);
    let service = |(n, name): (usize, &&str)| api::Service {
        name: name.to_string(),
        addresses: vec![api::ListenAddress { address: [127, 0, 0, 1].into(), port: Some(8000 + n as u16) }],
        mode: api::Mode::Http,
        tls: None,
        routes: vec![api::Route { name: DEFAULT_ROUTE.into(), hosts: vec![], path_prefix: None, pool: 0 }],
        timeouts: api::ClientTimeouts { handshake: second, header: second, idle: second },
        served_by_header: None,
        max_connections_per_thread: 10,
    };
    Config {
        edge: Edge {
            name: "test".into(),
            datapath: DatapathKind::Sockets,
            interfaces: vec![],
            steering: Steering::Auto,
            cpus: vec![0],
            user: None,
            worker_binary: None,
            max_services: 16,
            max_addresses: 64,
            log: "info".into(),
            packet_log_sample: 0,
            tuning: Default::default(),
        },
        admin: Admin { socket: "/nonexistent/admin.sock".into(), metrics: None },
        certificates: vec![],
        services: services.iter().enumerate().map(service).collect(),
        forwards: vec![],
        limits: BTreeMap::new(),
        prefixes: Default::default(),
        pools: vec![Pool {
            name: "p".into(),
            backends,
            balance: api::Balance::RoundRobin,
            max_idle: 1,
            timeouts: api::BackendTimeouts { connect: second, response: second, idle: second, keepalive: second },
            tls: None,
            health: None,
        }],
    }
}

/// An edge with one service and one backend, and no worker yet.
pub(crate) fn state(backend: SocketAddr) -> super::State {
    super::State {
        started: Instant::now(),
        config: config(&["web"], [(backend, 1)].into()).into(),
        warnings: [].into(),
        overlay: super::Overlay::default(),
        health: BTreeMap::new(),
        checks: BTreeMap::new(),
        generation: 1,
        ids: super::ServiceIds::default(),
        datapath: Default::default(),
        counters: Default::default(),
        worker: Default::default(),
        reloads: (0, 0),
    }
}
