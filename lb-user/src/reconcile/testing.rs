//! Configs for the tests of this folder and its neighbours.

use crate::config::*;
use crate::datapath::*;
use crate::ocsp::staple::{Staple, fingerprint};
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
        routes: vec![api::Route { name: DEFAULT_ROUTE.into(), ..api::Route::default() }],
        timeouts: api::ClientTimeouts { handshake: second, header: second, idle: second },
        max_connections_per_thread: 10,
        access_log: None,
        ..api::Service::default()
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
            state_history: 100,
            state_sessions: 100,
            max_services: 16,
            max_addresses: 64,
            max_connections: 1000,
            open_files: 1_048_576,
            max_health_checks: 16,
            log: "info".into(),
            packet_log_sample: 0,
            tuning: Default::default(),
            life: Default::default(),
        },
        admin: Admin {
            socket: "/nonexistent/admin.sock".into(),
            access: Default::default(),
            read_only: None,
            max_connections: 32,
            metrics: None,
        },
        dns: Dns::default(),
        tls: Tls::default(),
        certificates: vec![],
        services: services.iter().enumerate().map(service).collect(),
        authorizers: vec![],
        access_logs: vec![],
        forwards: vec![],
        limits: BTreeMap::new(),
        prefixes: Default::default(),
        pools: vec![Pool {
            name: "p".into(),
            backends,
            names: vec![],
            found: BTreeMap::new(),
            roles: BTreeMap::new(),
            marks: BTreeMap::new(),
            balance: api::Balance::RoundRobin,
            balancing: Default::default(),
            limits: Default::default(),
            multiplex: Default::default(),
            retry: Default::default(),
            retry_budget: Default::default(),
            hedge: None,
            outliers: None,
            max_idle: 1,
            timeouts: api::BackendTimeouts { connect: second, response: second, idle: second, keepalive: second },
            tls: None,
            persistence: Some(api::Persistence {
                by: api::PersistBy::AppCookie("sid".into()),
                timeout: second,
                max_entries: 9,
                drain_timeout: second,
            }),
            proxy_version: None,
            drain_timeout: Duration::from_secs(9),
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
        checking: Default::default(),
        generation: 1,
        ids: super::ServiceIds::default(),
        datapath: Default::default(),
        counters: Default::default(),
        worker: Default::default(),
        reloads: (0, 0),
        upgrades: (0, 0),
        tls: Default::default(),
        history: Default::default(),
        book: Default::default(),
        changes: (0, 0),
        aside: None,
        names: Default::default(),
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

/// A self-signed certificate for `NAME.example`.
pub(crate) fn certificate(name: &str) -> Certificate {
    let names = vec![format!("{name}.example")];
    let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    Certificate {
        facts: crate::cert::Facts::of(made.cert.der()).unwrap(),
        certificate: api::Certificate {
            name: name.into(),
            names,
            chain: vec![api::Der(made.cert.der().to_vec())],
            key: api::Secret::new(made.signing_key.serialize_der()),
            staple: None,
        },
        source: CertificateSource::Files {
            chain: format!("/etc/{name}.pem").into(),
            key: format!("/etc/{name}.key").into(),
        },
        stapling: true,
        responder: Some("http://ocsp.example/".into()),
        issuer: Some(api::Der(made.cert.der().to_vec())),
    }
}

/// An edge that ends TLS, with everything that can be known of it: `shop` has a staple, `old` is stale and has none.
pub(crate) fn ending_tls() -> super::State {
    let mut state = state(SocketAddr::from(([10, 0, 0, 1], 443)));
    let mut config = Config::clone(&state.config);
    let now = std::time::SystemTime::now();
    config.certificates = vec![certificate("shop"), certificate("old")];
    let rules = api::ClientCertRules {
        mode: api::ClientCertMode::Required,
        roots: vec![api::Der(vec![1])],
        depth: 4,
        crls: vec![],
        expired_crl: api::ExpiredCrl::Deny,
        ocsp: api::OcspMode::Optional,
        ocsp_responder: None,
    };
    config.services[0].mode = api::Mode::Https;
    config.services[0].tls = Some(api::ServerTls {
        policies: vec![
            api::SniPolicy { certificates: vec![0], hsts: Some("max-age=31536000".into()), ..Default::default() },
            api::SniPolicy {
                names: vec!["admin.example".into()],
                certificates: vec![1],
                client_cert: Some(rules),
                ..Default::default()
            },
        ],
        strict_sni: true,
        alpn: vec!["h2".into(), "http/1.1".into()],
    });
    config.pools[0].tls = Some(api::UpstreamTls {
        pins: vec![[0; 32]],
        certificate: Some(config.certificates[0].certificate.clone()),
        alpn: vec!["h2".into()],
        ..Default::default()
    });
    let good = Staple {
        response: Some(api::Der(vec![1])),
        valid_until: Some(now + Duration::from_secs(7200)),
        this_update: Some(now - Duration::from_secs(3600)),
        status: Some(api::OcspStatus::Good),
        problem: None,
    };
    let none = Staple { problem: Some("the responder answers tryLater".into()), ..Staple::default() };
    let mut problems = Problems::new(std::path::Path::new("/etc/old.pem"), "");
    problems.push(Problem::error(0..0, "no certificate in it").help("write a PEM file"));
    let stale = Stale { kind: FileKind::Certificate, name: "old".into(), problem: problems.views().remove(0) };
    let of = |index: usize| fingerprint(&config.certificates[index].certificate);
    state.tls = super::TlsNotes {
        stale: [stale].into(),
        refused: None,
        refreshes: (3, 1),
        staples: std::sync::Arc::new([(of(0), good), (of(1), none)].into()),
        tickets_since: Some(now),
        ocsp: Default::default(),
    };
    let count = |word: &str| vec![(word.to_owned(), 2)];
    state.worker.report = std::sync::Arc::new(api::Report {
        services: vec![api::ServiceReport {
            service: "web".into(),
            handshakes: count("1.3"),
            sessions: count("resumed"),
            groups: count("X25519MLKEM768"),
            handshake_failures: count("no_shared_cipher"),
            handshakes_refused: count("per_source"),
            client_certs: count("verified"),
            ..Default::default()
        }],
        ..Default::default()
    });
    state.config = config.into();
    state
}
