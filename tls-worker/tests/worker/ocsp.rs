//! What a responder says of a client's certificate. The test is the control plane: it is asked, and answers, or not.

use crate::client_certs::{Site, try_get};
use crate::local;
use crate::support::ca::{Ca, Issued};
use crate::support::snap::{self, ms};
use crate::support::{client, soon};
use rustls::version::TLS13;
use tls_worker::api::*;
use tokio::task::spawn_local;

async fn start(ca: &Ca, mode: ClientCertMode, ocsp: OcspMode) -> Site {
    let rules = snap::client_cert(mode, &[ca]).map(|rules| ClientCertRules {
        ocsp,
        ocsp_responder: Some("http://ocsp.test/".into()),
        ..rules
    });
    Site::start(rules).await
}

async fn asked(site: &mut Site) -> OcspQuery {
    match site.worker.event().await {
        Event::Ocsp(query) => query,
        other => panic!("{other:?} instead of a question"),
    }
}

/// The answer to a request of a client with this certificate, when the control plane says this.
async fn get(site: &mut Site, own: &Issued, status: OcspStatus) -> String {
    let request = spawn_local(try_get(site.at, site.client(&TLS13, Some(own))));
    let query = asked(site).await;
    site.worker.send(Command::Ocsp(OcspAnswer { query, status, valid_seconds: 0 })).await;
    soon("an answer", request).await.unwrap().unwrap().1
}

#[test]
fn who_is_revoked_or_must_be_vouched_for_and_is_not_is_refused() {
    local(async {
        const SERVED: &str = "x-verify: SUCCESS\n";
        const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\n";
        const WITHOUT: &str = "x-verify: NONE\n";
        let ca = Ca::new("ca");
        for (mode, ocsp, expected) in [
            (ClientCertMode::Required, OcspMode::Optional, [SERVED, FORBIDDEN, SERVED, SERVED]),
            (ClientCertMode::Required, OcspMode::Required, [SERVED, FORBIDDEN, FORBIDDEN, FORBIDDEN]),
            (ClientCertMode::Optional, OcspMode::Optional, [SERVED, WITHOUT, SERVED, SERVED]),
            (ClientCertMode::Optional, OcspMode::Required, [SERVED, WITHOUT, WITHOUT, WITHOUT]),
            (
                ClientCertMode::OptionalAny,
                OcspMode::Required,
                [
                    SERVED,
                    "x-verify: FAILED:revoked\n",
                    "x-verify: FAILED:ocsp_unavailable\n",
                    "x-verify: FAILED:ocsp_unavailable\n",
                ],
            ),
        ] {
            let mut site = start(&ca, mode, ocsp).await;
            let own = ca.issue(|_| {});
            let all = [OcspStatus::Good, OcspStatus::Revoked, OcspStatus::Unknown, OcspStatus::Unavailable];
            for (status, expected) in all.into_iter().zip(expected) {
                let answer = get(&mut site, &own, status).await;
                assert!(answer.contains(expected), "{mode:?}, {ocsp:?}, {status:?}: {answer}");
            }
            match ocsp {
                OcspMode::Required => {
                    site.counts(&[("verified", 1), ("revoked", 1), ("ocsp_unavailable", 2)], &[]).await
                }
                _ => site.counts(&[("verified", 3), ("revoked", 1)], &[]).await,
            }
        }
    });
}

#[test]
fn a_control_plane_that_says_nothing_costs_the_deadline() {
    local(async {
        let ca = Ca::new("ca");
        for (ocsp, expected) in
            [(OcspMode::Optional, "x-verify: SUCCESS\n"), (OcspMode::Required, " 403 Forbidden\r\n")]
        {
            let mut site = start(&ca, ClientCertMode::Required, ocsp).await;
            site.snapshot.services[0].timeouts.handshake = ms(400);
            site.apply().await;
            let began = std::time::Instant::now();
            let answer = try_get(site.at, site.client(&TLS13, Some(&ca.issue(|_| {})))).await.unwrap().1;
            assert!(answer.contains(expected), "{answer}");
            assert!(began.elapsed() >= ms(350) && began.elapsed() < ms(5000), "{:?}", began.elapsed());
            // It was asked all the same.
            asked(&mut site).await;
        }
    });
}

#[test]
fn an_answer_is_asked_for_once_and_holds_for_its_time() {
    local(async {
        let ca = Ca::new("ca");
        let mut site = start(&ca, ClientCertMode::Required, OcspMode::Required).await;
        let own = ca.issue(|_| {});
        let config = site.client(&TLS13, Some(&own));
        let requests: Vec<_> = (0..5).map(|_| spawn_local(try_get(site.at, config.clone()))).collect();
        let query = asked(&mut site).await;
        let expected = OcspQuery {
            issuer: Der(ca.der.clone()),
            certificate: Der(own.der.clone()),
            responder: Some("http://ocsp.test/".into()),
        };
        assert_eq!(query, expected);
        // A report in between: the loop serves on while questions are open.
        assert_eq!(site.worker.report().await.services.len(), 1);
        site.worker.send(Command::Ocsp(OcspAnswer { query, status: OcspStatus::Good, valid_seconds: 3600 })).await;
        for request in requests {
            assert!(soon("an answer", request).await.unwrap().unwrap().1.contains("x-verify: SUCCESS\n"));
        }
        // Sessions resumed or not, nothing is asked any more: the next event is the report.
        for _ in 0..3 {
            assert!(try_get(site.at, config.clone()).await.unwrap().1.contains("x-verify: SUCCESS\n"));
        }
        site.counts(&[("verified", 8)], &[]).await;
    });
}

#[test]
fn a_refused_connection_answers_once_and_ends() {
    local(async {
        let ca = Ca::new("ca");
        let mut site = start(&ca, ClientCertMode::Required, OcspMode::Required).await;
        for alpn in ["http/1.1", "h2"] {
            let config = crate::support::tls::client(&[&site.certificate], &[alpn], &[&TLS13]);
            let config = crate::support::tls::showing(config, &ca.issue(|_| {}));
            let stream = client::try_tls(site.at, "a.test", config).await.unwrap();
            let query = asked(&mut site).await;
            site.worker.send(Command::Ocsp(OcspAnswer { query, status: OcspStatus::Revoked, valid_seconds: 60 })).await;
            let closed = async |is_closed: &dyn Fn() -> bool| {
                crate::support::until("the connection ends", async || is_closed()).await;
            };
            if alpn == "h2" {
                let mut connection = client::h2_on(stream).await;
                assert_eq!(client::ask2(&mut connection, client::get2("a.test", "/")).await.status(), 403);
                closed(&|| connection.is_closed()).await;
            } else {
                let mut connection = client::h1_on(stream).await;
                assert_eq!(client::ask(&mut connection, client::get("a.test", "/")).await.status(), 403);
                closed(&|| connection.is_closed()).await;
            }
        }
        let rejected = &site.worker.report().await.services[0].rejected;
        assert_eq!(rejected, &[("client_cert".to_string(), 2)]);
    });
}

#[test]
fn without_http_a_refused_connection_is_closed() {
    local(async {
        let ca = Ca::new("ca");
        let mut site = start(&ca, ClientCertMode::Required, OcspMode::Required).await;
        site.snapshot.services[0].mode = Mode::Tls;
        site.apply().await;
        let request = spawn_local(try_get(site.at, site.client(&TLS13, Some(&ca.issue(|_| {})))));
        let query = asked(&mut site).await;
        site.worker.send(Command::Ocsp(OcspAnswer { query, status: OcspStatus::Revoked, valid_seconds: 60 })).await;
        // Whether by an end or by an error: nothing comes.
        let answer = soon("the end", request).await.unwrap().map(|(_, answer)| answer).unwrap_or_default();
        assert_eq!(answer, "");
        site.counts(&[("revoked", 1)], &[("revoked", 1)]).await;
    });
}
