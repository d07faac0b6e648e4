//! What a snapshot is refused for, and what of the last one is kept.

use super::*;
use crate::api::*;
use crate::tls::tests::certificate;
use std::time::Duration;

fn snapshot(generation: u64, certificates: Vec<Certificate>) -> Snapshot {
    let second = Duration::from_secs(1);
    Snapshot {
        generation,
        services: vec![Service {
            access_log: None,
            name: "web".into(),
            addresses: vec![ListenAddress { address: "192.0.2.1".parse().unwrap(), port: Some(443) }],
            mode: Mode::Https,
            tls: Some(ServerTls {
                policies: vec![SniPolicy { certificates: (0..certificates.len()).collect(), ..SniPolicy::default() }],
                strict_sni: false,
                alpn: vec!["h2".into(), "http/1.1".into()],
            }),
            routes: vec![Route { name: "0".into(), ..Route::default() }],
            timeouts: ClientTimeouts { handshake: second, header: second, idle: second },
            served_by_header: Some("x-served-by".into()),
            max_connections_per_thread: 10,
            ..Service::default()
        }],
        pools: vec![Pool {
            name: "app".into(),
            backends: vec![Backend {
                address: "192.0.2.9:80".parse().unwrap(),
                weight: 1,
                state: BackendState::Up,
                role: BackendRole::default(),
                server_name: None,
                drain_timeout: None,
            }],
            timeouts: BackendTimeouts { connect: second, response: second, idle: second, keepalive: second },
            max_idle_per_thread: 4,
            ..Pool::default()
        }],
        certificates,
        tickets: TicketKeys { keys: vec![Secret::new(vec![7; 48])], lifetime_seconds: 3600 },
        ..Snapshot::default()
    }
}

fn one_certificate() -> Vec<Certificate> {
    vec![certificate(&["a.test"]).0]
}

fn tell(snapshot: &mut Snapshot, name: &str) {
    let header = ClientCertHeader { name: name.into(), value: ClientCertField::Subject };
    snapshot.services[0].routes[0].client_cert.push(header);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    type Change = fn(&mut Snapshot);
    let table: [(&str, Change); 17] = [
        ("generation 0 is not above 0", |s| s.generation = 0),
        ("route \"0\" points to pool 7 of 1", |s| s.services[0].routes[0].pool = 7),
        ("points to certificate 3 of 1", |s| s.services[0].tls.as_mut().unwrap().policies[0].certificates = vec![3]),
        ("no certificate", |s| s.services[0].tls.as_mut().unwrap().policies[0].certificates.clear()),
        ("mode is http, but", |s| s.services[0].mode = Mode::Http),
        ("there is no TLS table", |s| s.services[0].tls = None),
        ("route \"0\": client certificate header \"x cert\" is no header name", |s| tell(s, "x cert")),
        ("client certificate header \"Host\" belongs to the message", |s| tell(s, "Host")),
        ("no certificate authority is given", |s| {
            let policies = &mut s.services[0].tls.as_mut().unwrap().policies;
            policies[0].client_cert = Some(ClientCertRules {
                mode: ClientCertMode::Required,
                roots: vec![],
                depth: 1,
                crls: vec![],
                expired_crl: ExpiredCrl::Deny,
                ocsp: OcspMode::Off,
                ocsp_responder: None,
            });
        }),
        ("\"x served\" is no header name", |s| s.services[0].served_by_header = Some("x served".into())),
        ("service \"web\": is there twice", |s| s.services.push(s.services[0].clone())),
        ("pool \"app\": is there twice", |s| s.pools.push(s.pools[0].clone())),
        ("192.0.2.1 port 443 is already that of service \"web\"", |s| {
            let mut second = s.services[0].clone();
            second.name = "other".into();
            s.services.push(second);
        }),
        ("weight 257 is not within 1 to 256", |s| s.pools[0].backends[0].weight = 257),
        ("backend 192.0.2.9:80 is there twice", |s| {
            let backend = s.pools[0].backends[0].clone();
            s.pools[0].backends.push(backend);
        }),
        ("certificate \"a.test\": the chain is empty", |s| s.certificates[0].chain.clear()),
        ("certificate \"a.test\": the private key is neither", |s| s.certificates[0].key = Secret::new(vec![1, 2, 3])),
    ];
    for (expected, change) in table {
        let mut s = snapshot(1, one_certificate());
        change(&mut s);
        let error = Compiled::new(s, &Compiled::default()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let mut certificates = one_certificate();
    certificates[0].key = certificate(&["b.test"]).0.key;
    let error = Compiled::new(snapshot(1, certificates), &Compiled::default()).unwrap_err().to_string();
    assert!(error.starts_with("certificate \"a.test\": keys may not be consistent"), "{error}");
}

#[test]
fn bad_backend_tls_is_refused() {
    for (verify, roots, name, expected) in [
        (true, vec![], None, "pool \"app\": tls: roots:"),
        (true, vec![Der(vec![0])], None, "pool \"app\": tls: root 0:"),
        (false, vec![], Some("not a name".to_string()), "server_name \"not a name\" is no host name"),
    ] {
        let mut s = snapshot(1, one_certificate());
        s.pools[0].tls = Some(api::UpstreamTls { verify, roots, server_name: name, ..Default::default() });
        let error = Compiled::new(s, &Compiled::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
}

#[test]
fn what_did_not_change_is_taken_over_and_what_did_is_not() {
    let certificates = one_certificate();
    let mut first = snapshot(1, certificates.clone());
    first.pools[0].tls = Some(api::UpstreamTls::default());
    let old = Compiled::new(first.clone(), &Compiled::default()).unwrap();

    let mut same = first.clone();
    same.generation = 2;
    same.pools[0].backends[0].state = BackendState::Down;
    let new = Compiled::new(same, &old).unwrap();
    let tls = |c: &Compiled| c.services[0].tls.as_ref().unwrap().policy(0).clone();
    // rustls keeps no ticket of what it is: whether one opens another's is told by opening it.
    let opens = |a: &Compiled, b: &Compiled| {
        let ticket = tls(a).config.ticketer.encrypt(b"session").unwrap();
        tls(b).config.ticketer.decrypt(&ticket).is_some()
    };
    let identity = |c: &Compiled| c.pools[0].tls.as_ref().unwrap().id;
    assert!(Arc::ptr_eq(&tls(&old), &tls(&new)));
    assert_eq!(identity(&old), identity(&new));

    let mut other = first.clone();
    other.generation = 3;
    other.services[0].tls.as_mut().unwrap().policies[0].protocol.min_version = TlsVersion::V13;
    other.pools[0].tls.as_mut().unwrap().server_name = Some("b.test".into());
    let newer = Compiled::new(other, &new).unwrap();
    assert!(!Arc::ptr_eq(&tls(&new), &tls(&newer)));
    assert!(opens(&new, &newer), "sessions survive a change of policy");
    assert_ne!(identity(&new), identity(&newer));
}

#[test]
fn a_service_is_found_by_the_most_exact_address() {
    let mut s = snapshot(1, one_certificate());
    let mut add = |name: &str, address: &str, port| {
        let mut service = s.services[0].clone();
        service.name = name.into();
        service.addresses = vec![ListenAddress { address: address.parse().unwrap(), port }];
        s.services.push(service);
    };
    add("every-port", "192.0.2.1", None);
    add("v6", "2001:db8::1", Some(443));
    add("any-v4", "0.0.0.0", Some(443));
    add("any-v6", "::", None);
    let compiled = Compiled::new(s, &Compiled::default()).unwrap();
    for (address, expected) in [
        ("192.0.2.1:443", Some("web")),
        ("[::ffff:192.0.2.1]:443", Some("web")),
        ("192.0.2.1:8443", Some("every-port")),
        ("[2001:db8::1]:443", Some("v6")),
        ("192.0.2.2:443", Some("any-v4")),
        ("192.0.2.2:80", None),
        ("[2001:db8::2]:80", Some("any-v6")),
    ] {
        let found = compiled.service_at(address.parse().unwrap()).map(|i| &*compiled.services[i].name);
        assert_eq!(found, expected, "{address}");
    }
}
