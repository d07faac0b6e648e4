//! Clients' certificates: who is let in, what backends are told, and that a session carries nobody past the rules.

use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::ca::{Ca, Issued, hour, self_signed};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::{snap, soon, tls, until};
use http::Response;
use http_body_util::BodyExt;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tls_worker::api::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A backend that answers with the header of the request it got, a line each, and the names of its trailers.
pub(crate) async fn telling() -> Backend {
    Backend::http(|request| async move {
        let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            format!("{name}: {}\n", value.to_str().unwrap_or("not ASCII"))
        };
        let mut told: String = request.headers().iter().map(line).collect();
        let body = request.into_body().collect().await.unwrap();
        for name in body.trailers().iter().flat_map(|trailers| trailers.keys()) {
            told += &format!("trailer {name}\n");
        }
        Response::new(full(told))
    })
    .await
}

/// A service for `a.test` that asks for certificates by these rules, and tells the backend all about them.
pub(crate) struct Site {
    pub(crate) worker: Worker,
    pub(crate) at: SocketAddr,
    pub(crate) snapshot: Snapshot,
    pub(crate) certificate: Certificate,
    _backend: Backend,
}

impl Site {
    pub(crate) async fn start(rules: Option<ClientCertRules>) -> Site {
        let backend = telling().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let certificate = tls::certificate(&["a.test", "127.0.0.1"]);
        let mut snapshot = snap::https(at, vec![certificate.clone()], &[backend.address]);
        snapshot.services[0].tls.as_mut().unwrap().policies[0].client_cert = rules;
        let told = [("x-verify", ClientCertField::Verify), ("x-subject", ClientCertField::Subject)];
        let header = |(name, value): (&str, ClientCertField)| ClientCertHeader { name: name.into(), value };
        snapshot.services[0].routes[0].client_cert = told.map(header).to_vec();
        worker.apply(&snapshot).await;
        Site { worker, at, snapshot, certificate, _backend: backend }
    }

    /// A client without a certificate, or with one.
    pub(crate) fn client(&self, version: &'static SupportedProtocolVersion, own: Option<&Issued>) -> ClientConfig {
        let config = tls::client(&[&self.certificate], &["http/1.1"], &[version]);
        match own {
            Some(own) => tls::showing(config, own),
            None => config,
        }
    }

    pub(crate) async fn apply(&mut self) {
        self.worker.apply(&self.snapshot).await;
    }

    pub(crate) fn rules(&mut self) -> &mut ClientCertRules {
        self.snapshot.services[0].tls.as_mut().unwrap().policies[0].client_cert.as_mut().unwrap()
    }

    /// Wait until this is what came of asking for certificates, and of handshakes that failed: clients hear of it before
    /// it is counted.
    pub(crate) async fn counts(&mut self, certs: &[(&str, u64)], failures: &[(&str, u64)]) {
        let same = |counted: &[(String, u64)], expected: &[(&str, u64)]| {
            counted.iter().map(|(name, n)| (name.as_str(), *n)).eq(expected.iter().copied())
        };
        until(&format!("{certs:?}, {failures:?}"), async || {
            let service = &self.worker.report().await.services[0];
            same(&service.client_certs, certs) && same(&service.handshake_failures, failures)
        })
        .await;
    }
}

/// One request on a connection of its own: how its handshake was done, and the answer, or what the server said instead.
pub(crate) async fn try_get(at: SocketAddr, config: ClientConfig) -> Result<(HandshakeKind, String), String> {
    let mut stream = try_tls(at, "a.test", config).await.map_err(|e| e.to_string())?;
    // TLS 1.3: the server may refuse what the client takes for done.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await;
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.map_err(|e| e.to_string())?;
    Ok((stream.get_ref().1.handshake_kind().unwrap(), answer))
}

/// What no one can read, shown by somebody who has a key.
fn nonsense() -> Issued {
    Issued { der: vec![0x30, 3, 1, 1, 0], ..self_signed(|_| {}) }
}

#[test]
fn required_lets_in_good_certificates_and_tells_the_others_what_is_wrong() {
    local(async {
        let (ca, other) = (Ca::new("ca"), Ca::new("other"));
        let mut rules = snap::client_cert(ClientCertMode::Required, &[&ca]).unwrap();
        let revoked = ca.issue(|l| l.serial = 7);
        rules.crls = vec![Der(ca.crl(&[7], hour(-1), hour(1)))];
        let mut site = Site::start(Some(rules)).await;
        for version in [&TLS12, &TLS13] {
            let good = ca.issue(|_| {});
            let (_, answer) = try_get(site.at, site.client(version, Some(&good))).await.unwrap();
            assert!(answer.contains("x-verify: SUCCESS\n") && answer.contains("x-subject: CN=client\n"), "{answer}");
            for (bad, alert) in [
                (Some(ca.issue(|l| l.not_after = hour(-1))), "CertificateExpired"),
                (Some(ca.issue(|l| l.not_before = hour(1))), "CertificateExpired"),
                (Some(other.issue(|_| {})), "UnknownCA"),
                (Some(self_signed(|_| {})), "UnknownCA"),
                (Some(ca.issue(|l| l.for_servers = true)), "UnsupportedCertificate"),
                (Some(Issued { der: revoked.der.clone(), key: revoked.key.clone() }), "CertificateRevoked"),
                (None, "CertificateRequired"),
                (Some(nonsense()), "BadCertificate"),
            ] {
                let error = try_get(site.at, site.client(version, bad.as_ref())).await.unwrap_err();
                assert!(error.contains(alert), "{alert} is not in {error:?} ({version:?})");
            }
        }
        let all = [("none", 2), ("verified", 2), ("unknown_ca", 4), ("expired", 4), ("revoked", 2), ("bad", 4)];
        let failed =
            [("client_cert_missing", 2), ("unknown_ca", 4), ("expired", 4), ("revoked", 2), ("client_cert_bad", 4)];
        site.counts(&all, &failed).await;
    });
}

#[test]
fn optional_serves_everybody_and_tells_of_good_certificates_alone() {
    local(async {
        let (ca, other) = (Ca::new("ca"), Ca::new("other"));
        let mut site = Site::start(snap::client_cert(ClientCertMode::Optional, &[&ca])).await;
        for version in [&TLS12, &TLS13] {
            for (own, verify, told) in [
                (Some(ca.issue(|_| {})), "SUCCESS", true),
                (None, "NONE", false),
                (Some(ca.issue(|l| l.not_after = hour(-1))), "NONE", false),
                (Some(other.issue(|_| {})), "NONE", false),
                (Some(nonsense()), "NONE", false),
            ] {
                let (_, answer) = try_get(site.at, site.client(version, own.as_ref())).await.unwrap();
                assert!(answer.contains(&format!("x-verify: {verify}\n")), "{answer}");
                assert_eq!(answer.contains("x-subject"), told, "{answer}");
            }
        }
        let all = [("none", 2), ("verified", 2), ("unknown_ca", 2), ("expired", 2), ("bad", 2)];
        site.counts(&all, &[]).await;

        site.rules().mode = ClientCertMode::OptionalAny;
        site.rules().roots.clear();
        site.apply().await;
        for version in [&TLS12, &TLS13] {
            for (own, verify) in [
                (Some(self_signed(|_| {})), "FAILED:unknown_ca"),
                (Some(ca.issue(|l| l.not_after = hour(-1))), "FAILED:expired"),
                (None, "NONE"),
            ] {
                let (_, answer) = try_get(site.at, site.client(version, own.as_ref())).await.unwrap();
                assert!(answer.contains(&format!("x-verify: {verify}\n")), "{answer}");
                assert_eq!(answer.contains("x-subject: CN=client\n"), own.is_some(), "{answer}");
            }
        }
    });
}

#[test]
fn what_backends_are_told_of_a_certificate_no_client_can_say() {
    local(async {
        let ca = Ca::new("ca");
        let mut site = Site::start(snap::client_cert(ClientCertMode::Optional, &[&ca])).await;
        let clear = site.worker.listen().await;
        let mut other = snap::service("clear", clear, vec![snap::route("all", &[], None, 0)]);
        other.routes[0].client_cert = vec![ClientCertHeader { name: "x-cert".into(), value: ClientCertField::Rfc9440 }];
        site.snapshot.services.push(other);
        site.apply().await;
        let forge = |host: &str| {
            let mut request = get(host, "/");
            for name in ["client-cert", "client-cert-chain", "x-cert", "x-subject", "x-verify", "x-mine"] {
                request.headers_mut().append(name, "forged".parse().unwrap());
                request.headers_mut().append(name, "forged too".parse().unwrap());
            }
            request
        };
        let told = |body: &str| {
            let lines = body.lines().filter(|l| !l.starts_with("x-forwarded") && !l.starts_with("host"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let mine = ["x-mine: forged", "x-mine: forged too"].map(str::to_owned);
        let good = ca.issue(|_| {});
        let stream = try_tls(site.at, "a.test", site.client(&TLS13, Some(&good))).await.unwrap();
        let mut connection = h1_on(stream).await;
        for _ in 0..2 {
            let answer = ask(&mut connection, forge("a.test")).await;
            let set = ["x-verify: SUCCESS", "x-subject: CN=client"].map(str::to_owned);
            assert_eq!(told(&answer.body), [&mine[..], &set[..]].concat());
        }
        let stream = try_tls(site.at, "a.test", site.client(&TLS13, None)).await.unwrap();
        let answer = ask(&mut h1_on(stream).await, forge("a.test")).await;
        assert_eq!(told(&answer.body), [&mine[..], &["x-verify: NONE".to_owned()]].concat());
        // Nor behind a body.
        let mut stream = try_tls(site.at, "a.test", site.client(&TLS13, None)).await.unwrap();
        let request = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\
            trailer: x-subject, x-forwarded-for, x-mine\r\n\r\n\
            0\r\nx-subject: CN=forged\r\nx-forwarded-for: forged\r\nx-mine: trailer\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.contains("trailer x-mine") && !answer.contains("trailer x-subject"), "{answer}");
        assert!(!answer.contains("trailer x-forwarded-for"), "{answer}");
        // Without TLS, and by a route that tells another header.
        let answer = ask(&mut h1(clear).await, forge("a.test")).await;
        assert_eq!(told(&answer.body), mine);
    });
}

#[test]
fn a_session_keeps_its_certificate_until_the_rules_change() {
    local(async {
        let ca = Ca::new("ca");
        let mut site = Site::start(snap::client_cert(ClientCertMode::Required, &[&ca])).await;
        let own = ca.issue(|l| l.serial = 7);
        let clients = [&TLS12, &TLS13].map(|version| site.client(version, Some(&own)));
        for client in &clients {
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let (got, answer) = try_get(site.at, client.clone()).await.unwrap();
                assert_eq!(got, kind);
                assert!(answer.contains("x-subject: CN=client\n"), "{answer}");
            }
        }
        site.rules().crls = vec![Der(ca.crl(&[7], hour(-1), hour(1)))];
        site.apply().await;
        for client in &clients {
            let error = try_get(site.at, client.clone()).await.unwrap_err();
            assert!(error.contains("CertificateRevoked"), "{error}");
        }
    });
}

#[test]
fn a_certificate_that_runs_out_is_not_kept_alive_by_its_session() {
    local(async {
        let ca = Ca::new("ca");
        let (mut sites, mut open) = (Vec::new(), Vec::new());
        for (mode, expected) in [
            (ClientCertMode::Required, "HTTP/1.1 403 Forbidden\r\n"),
            (ClientCertMode::Optional, "x-verify: NONE\n"),
            (ClientCertMode::OptionalAny, "x-verify: FAILED:expired\n"),
        ] {
            let site = Site::start(snap::client_cert(mode, &[&ca])).await;
            let own = ca.issue(|l| l.not_after = SystemTime::now() + Duration::from_secs(4));
            for client in [&TLS12, &TLS13].map(|version| site.client(version, Some(&own))) {
                let (kind, answer) = try_get(site.at, client.clone()).await.unwrap();
                assert_eq!(kind, HandshakeKind::Full);
                assert!(answer.contains("x-verify: SUCCESS\n"), "{answer}");
                open.push((site.at, client, expected));
            }
            sites.push(site);
        }
        for (at, client, expected) in open {
            until("its end shows", async || {
                let (kind, answer) = try_get(at, client.clone()).await.unwrap();
                assert_eq!(kind, HandshakeKind::Resumed);
                answer.contains(expected)
            })
            .await;
        }
    });
}
