//! Configs for the tests of this folder and its neighbours.

use crate::config::*;
use crate::datapath::*;
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
        routes: vec![api::Route {
            name: DEFAULT_ROUTE.into(),
            hosts: vec![],
            path_prefix: None,
            alpn: vec![],
            pool: 0,
            client_cert: vec![],
        }],
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
            state: None,
            max_services: 16,
            max_addresses: 64,
            log: "info".into(),
            packet_log_sample: 0,
            tuning: Default::default(),
        },
        admin: Admin { socket: "/nonexistent/admin.sock".into(), metrics: None },
        tls: Tls::default(),
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
            proxy_v2: false,
            health: None,
        }],
        origin: Origin { path: "/nonexistent/bailey.toml".into(), text: "".into() },
        files: vec![],
        contents: FileContents::default(),
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

/// An edge that forwards `dns` to the pool `q`, with everything that can be known of it.
pub(crate) fn forwarding() -> super::State {
    let backend = SocketAddr::from(([10, 0, 0, 7], 5353));
    let mut state = state(SocketAddr::from(([10, 0, 0, 1], 80)));
    let mut config = Config::clone(&state.config);
    config.edge.datapath = DatapathKind::Native;
    config.pools.push(Pool { name: "q".into(), backends: [(backend, 1)].into(), ..config.pools[0].clone() });
    config.forwards.push(Forward {
        name: "dns".into(),
        addresses: vec![
            ServiceAddress { address: [192, 0, 2, 53].into(), ports: Ports::Range(53, 53) },
            ServiceAddress { address: "2001:db8::53".parse().unwrap(), ports: Ports::All },
        ],
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        pool: 1,
        mode: ForwardMode::Nat,
        hash: ForwardHash::Source,
        slots: 100,
        drain: Duration::from_secs(900),
        udp_idle: Duration::from_secs(120),
        outer_mtu: None,
    });
    let limits = Limits {
        source_packets: Some(Rate { per_second: 10, burst: 20 }),
        source_connections: None,
        packets: None,
        connections: None,
        source_v4: 32,
        source_v6: 64,
        syn_cookies: SynCookies::Auto { on: 2, off: 1, hold: Duration::from_secs(1) },
    };
    config.limits.insert("web".into(), limits);
    config.limits.insert("dns".into(), Limits { syn_cookies: SynCookies::Never, ..limits });
    state.config = config.into();
    state.ids = super::ServiceIds::of(&[("web", 1), ("dns", 2)]);
    state.counters = Counters {
        packets: vec![PacketCounter { service: 2, verdict: "denied", packets: 8, bytes: 900 }],
        forwards: vec![ForwardState {
            service: 2,
            slots: 100,
            moved: 3,
            watched: 4,
            remembered: 5,
            evicted: 6,
            dead: 7,
            backends: vec![ForwardBackendState {
                address: backend,
                slots: 25,
                packets: 7,
                bytes: 700,
                flows: 2,
                trouble: Some("unreachable by route".into()),
            }],
        }],
        shield: ShieldState { prefixes: 9, flooded: vec![1], events_lost: 10 },
        ..Counters::default()
    };
    state
}
