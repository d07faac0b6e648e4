//! Snapshots with sensible defaults, to be changed where a test is about something else.

use super::ca::Ca;
use std::net::SocketAddr;
use std::time::Duration;
use tls_worker::api::*;

/// `d("100")`: milliseconds.
pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One clear-text service with one pool of these backends.
pub(crate) fn http(at: SocketAddr, backends: &[SocketAddr]) -> Snapshot {
    Snapshot {
        generation: 0,
        services: vec![service("web", at, vec![route("all", &[], None, 0)])],
        pools: vec![pool("app", backends)],
        certificates: vec![],
        tickets: TicketKeys { keys: vec![Secret::new(vec![7; 48])], lifetime_seconds: 3600 },
        ..Snapshot::default()
    }
}

/// TLS with these certificates, one policy for every name.
pub(crate) fn tls(certificates: Vec<usize>) -> ServerTls {
    ServerTls {
        policies: vec![SniPolicy { certificates, ..SniPolicy::default() }],
        strict_sni: false,
        alpn: vec!["h2".into(), "http/1.1".into()],
    }
}

/// One HTTPS service with one pool of these backends.
pub(crate) fn https(at: SocketAddr, certificates: Vec<Certificate>, backends: &[SocketAddr]) -> Snapshot {
    let mut snapshot = http(at, backends);
    snapshot.services[0].mode = Mode::Https;
    snapshot.services[0].tls = Some(tls((0..certificates.len()).collect()));
    snapshot.certificates = certificates;
    snapshot
}

/// A client's certificate of one of these authorities.
pub(crate) fn client_cert(mode: ClientCertMode, authorities: &[&Ca]) -> Option<ClientCertRules> {
    Some(ClientCertRules {
        mode,
        roots: authorities.iter().map(|ca| Der(ca.der.clone())).collect(),
        depth: 4,
        crls: vec![],
        expired_crl: ExpiredCrl::Deny,
        ocsp: OcspMode::Off,
        ocsp_responder: None,
    })
}

/// One service that passes TLS through to one pool of these backends.
pub(crate) fn passthrough(at: SocketAddr, backends: &[SocketAddr]) -> Snapshot {
    let mut snapshot = http(at, backends);
    snapshot.services[0].mode = Mode::Passthrough;
    snapshot
}

/// One service that ends TLS and passes on what is in it.
pub(crate) fn tls_mode(at: SocketAddr, certificate: Certificate, alpn: &[&str], backends: &[SocketAddr]) -> Snapshot {
    let mut snapshot = https(at, vec![certificate], backends);
    snapshot.services[0].mode = Mode::Tls;
    if let Some(tls) = &mut snapshot.services[0].tls {
        tls.alpn = alpn.iter().map(|name| name.to_string()).collect();
    }
    snapshot
}

pub(crate) fn service(name: &str, at: SocketAddr, routes: Vec<Route>) -> Service {
    Service {
        name: name.into(),
        addresses: vec![ListenAddress { address: at.ip(), port: Some(at.port()) }],
        routes,
        timeouts: ClientTimeouts { handshake: ms(20_000), header: ms(20_000), idle: ms(60_000) },
        max_connections_per_thread: 1000,
        ..Service::default()
    }
}

pub(crate) fn route(name: &str, hosts: &[&str], path: Option<&str>, pool: usize) -> Route {
    let hosts = hosts.iter().map(|h| h.to_string()).collect();
    let path = path.map_or(PathMatch::Any, |path| PathMatch::Prefix(path.to_owned()));
    Route { name: name.into(), hosts, path, pool, ..Route::default() }
}

pub(crate) fn pool(name: &str, backends: &[SocketAddr]) -> Pool {
    let backend = |a: &SocketAddr| Backend {
        address: *a,
        weight: 1,
        state: BackendState::Up,
        role: BackendRole::default(),
        server_name: None,
        drain_timeout: None,
    };
    Pool {
        name: name.into(),
        backends: backends.iter().map(backend).collect(),
        timeouts: BackendTimeouts {
            connect: ms(20_000),
            response: ms(20_000),
            idle: ms(20_000),
            keepalive: ms(60_000),
        },
        max_idle_per_thread: 64,
        ..Pool::default()
    }
}
