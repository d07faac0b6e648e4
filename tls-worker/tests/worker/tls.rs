//! TLS towards clients.

use crate::local;
use crate::support::backend::Backend;
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::{snap, tls};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};
use tls_worker::api::{Certificate, SniPolicy, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) async fn serving(
    certificates: Vec<Certificate>,
) -> (Worker, std::net::SocketAddr, tls_worker::api::Snapshot, Backend) {
    let backend = Backend::says("hello").await;
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let snapshot = snap::https(at, certificates, &[backend.address]);
    worker.apply(&snapshot).await;
    (worker, at, snapshot, backend)
}

#[test]
fn both_versions_are_spoken_and_the_lower_one_can_be_refused() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (mut worker, at, mut snapshot, _backend) = serving(vec![certificate.clone()]).await;
        for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
            let config = tls::client(&[&certificate], &["http/1.1"], &[version]);
            let stream = try_tls(at, "a.test", config).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
            assert_eq!(ask(&mut h1_on(stream).await, get("a.test", "/")).await.body, "hello");
        }
        snapshot.services[0].tls.as_mut().unwrap().policies[0].protocol.min_version = TlsVersion::V13;
        worker.apply(&snapshot).await;
        assert!(try_tls(at, "a.test", tls::client(&[&certificate], &[], &[&TLS12])).await.is_err());
        assert!(try_tls(at, "a.test", tls::client(&[&certificate], &[], &[&TLS13])).await.is_ok());
        // None of the application protocols offered is served.
        let config = tls::client(&[&certificate], &["gopher"], &[&TLS13]);
        assert!(try_tls(at, "a.test", config).await.is_err());
        // The client hears of it before it is counted.
        crate::support::until("both failures are counted", async || {
            worker.report().await.services[0].handshake_failures.len() == 2
        })
        .await;
        let service = &worker.report().await.services[0];
        assert_eq!(service.handshakes, [("1.2".to_string(), 1), ("1.3".to_string(), 2)]);
        assert_eq!(service.handshake_failures, [("no_shared_protocol".into(), 1), ("no_shared_version".into(), 1)]);
        assert_eq!(service.handshake_seconds.count(), 3);
    });
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    local(async {
        let first = tls::certificate(&["first.test"]);
        let wildcard = tls::certificate(&["*.wild.test"]);
        let exact = tls::certificate(&["exact.wild.test"]);
        let (_worker, at, _, _backend) = serving(vec![first.clone(), wildcard.clone(), exact.clone()]).await;
        for (name, want) in
            [("first.test", &first), ("FIRST.test", &first), ("x.wild.test", &wildcard), ("exact.wild.test", &exact)]
        {
            let stream = client::tls(at, name, want, &["http/1.1"]).await;
            let got = &stream.get_ref().1.peer_certificates().unwrap()[0];
            assert_eq!(got.as_ref(), want.chain[0].0, "{name}");
        }
        // No name of ours, and no name at all: the first one.
        for name in ["unknown.test", "127.0.0.1"] {
            let error = try_tls(at, name, tls::client(&[&first], &[], rustls::ALL_VERSIONS)).await.unwrap_err();
            assert!(error.to_string().contains("not valid for name"), "{error}");
        }
    });
}

#[test]
fn the_application_protocol_is_what_is_spoken() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (mut worker, at, mut snapshot, _backend) = serving(vec![certificate.clone()]).await;
        let offered: &[&str] = &["h2", "http/1.1"];
        let stream = client::tls(at, "a.test", &certificate, offered).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(ask2(&mut h2_on(stream).await, get2("a.test", "/")).await.body, "hello");
        let stream = client::tls(at, "a.test", &certificate, &[]).await;
        assert_eq!(ask(&mut h1_on(stream).await, get("a.test", "/")).await.body, "hello");
        snapshot.services[0].tls.as_mut().unwrap().alpn = vec!["http/1.1".into()];
        worker.apply(&snapshot).await;
        let stream = client::tls(at, "a.test", &certificate, offered).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(ask(&mut h1_on(stream).await, get("a.test", "/")).await.body, "hello");
    });
}

#[test]
fn a_session_is_resumed_even_after_a_new_snapshot() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (mut worker, at, mut snapshot, _backend) = serving(vec![certificate.clone()]).await;
        for version in [&TLS12, &TLS13] {
            let config = tls::client(&[&certificate], &["http/1.1"], &[version]);
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut stream = try_tls(at, "a.test", config.clone()).await.unwrap();
                let request = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
                stream.write_all(request).await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.unwrap();
                kinds.push(stream.get_ref().1.handshake_kind().unwrap());
                snapshot.pools[0].backends[0].weight += 1;
                worker.apply(&snapshot).await;
            }
            assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed], "{version:?}");
        }
    });
}

#[test]
fn what_is_no_tls_is_said_so_and_counted() {
    local(async {
        let certificate = tls::certificate(&["a.test"]);
        let (mut worker, at, _, _backend) = serving(vec![certificate.clone()]).await;
        let answer = bare(at, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nThis is a TLS port: use https:// to speak to it"), "{answer}");
        assert_eq!(bare(at, "\0nonsense").await, "");
        // A record that begins like a handshake and is none.
        bare(at, "\x16\x03\x01\x00\x05nonsense that goes on").await;
        // Gone without a word.
        drop(tokio::net::TcpStream::connect(at).await.unwrap());
        // A client that does not trust us says why it leaves.
        let distrust = tls::client(&[&tls::certificate(&["a.test"])], &[], &[&TLS13]);
        assert!(try_tls(at, "a.test", distrust).await.is_err());
        let mut failures = Vec::new();
        crate::support::until("all are counted", async || {
            failures = worker.report().await.services[0].handshake_failures.clone();
            failures.iter().map(|(_, n)| n).sum::<u64>() >= 4
        })
        .await;
        let of = |reason: &str| failures.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n);
        assert_eq!((of("plain_http"), of("not_tls"), of("closed")), (1, 1, 1), "{failures:?}");
    });
}

#[test]
fn every_response_says_what_the_policy_says_of_strict_transport_security() {
    local(async {
        let certificate = tls::certificate(&["a.test", "b.test"]);
        let (mut worker, at, mut snapshot, backend) = serving(vec![certificate.clone()]).await;
        let policies = &mut snapshot.services[0].tls.as_mut().unwrap().policies;
        policies.push(SniPolicy { names: vec!["b.test".into()], ..policies[0].clone() });
        policies[0].hsts = Some("max-age=31536000".into());
        worker.apply(&snapshot).await;
        let says = async |name: &str, path: &str| {
            let stream = client::tls(at, name, &certificate, &["http/1.1"]).await;
            let response = ask(&mut h1_on(stream).await, get(name, path)).await;
            response.header("strict-transport-security").map(str::to_owned)
        };
        assert_eq!(says("a.test", "/").await.as_deref(), Some("max-age=31536000"));
        assert_eq!(says("b.test", "/").await, None);
        // The edge's own answers, too.
        drop(backend);
        assert_eq!(says("a.test", "/").await.as_deref(), Some("max-age=31536000"));
    });
}
