//! Requests for a host whose TLS has other rules than the connection that they come on: 421.

use crate::client_certs::Site;
use crate::local;
use crate::support::ca::{Ca, Issued};
use crate::support::client::*;
use crate::support::{snap, tls, until};
use tls_worker::api::*;

/// `a.test` asks for nothing, `secret.test` for a certificate, `new.test` for TLS 1.3, `same.test` as `a.test`.
async fn start(ca: &Ca) -> Site {
    let mut site = Site::start(None).await;
    site.certificate = tls::certificate(&["a.test", "secret.test", "new.test", "same.test", "127.0.0.1"]);
    site.snapshot.certificates = vec![site.certificate.clone()];
    let policies = &mut site.snapshot.services[0].tls.as_mut().unwrap().policies;
    let named = |name: &str| SniPolicy { names: vec![name.into()], ..policies[0].clone() };
    let (mut secret, mut new, mut same) = (named("secret.test"), named("new.test"), named("same.test"));
    secret.client_cert = snap::client_cert(ClientCertMode::Required, &[ca]);
    new.protocol.min_version = TlsVersion::V13;
    same.hsts = Some("max-age=1".into());
    policies.extend([secret, new, same]);
    site.apply().await;
    site
}

fn config(site: &Site, alpn: &str, own: Option<&Issued>) -> rustls::ClientConfig {
    let config = tls::client(&[&site.certificate], &[alpn], rustls::ALL_VERSIONS);
    own.map_or(config.clone(), |own| tls::showing(config, own))
}

#[test]
fn a_host_of_other_rules_is_not_served_on_this_connection() {
    local(async {
        let ca = Ca::new("ca");
        let own = ca.issue(|_| {});
        let mut site = start(&ca).await;
        for (sni, own, host, status) in [
            ("a.test", None, "a.test", 200),
            ("a.test", None, "same.test", 200),
            ("a.test", None, "unknown.test", 200),
            ("a.test", None, "secret.test", 421),
            ("a.test", None, "SECRET.Test:443", 421),
            ("a.test", None, "secret.test.", 421),
            ("a.test", None, "new.test", 421),
            // Without SNI.
            ("127.0.0.1", None, "127.0.0.1", 200),
            ("127.0.0.1", None, "secret.test", 421),
            ("secret.test", Some(&own), "secret.test", 200),
            ("secret.test", Some(&own), "a.test", 421),
            ("new.test", None, "a.test", 421),
        ] {
            let stream = try_tls(site.at, sni, config(&site, "http/1.1", own)).await.unwrap();
            let mut connection = h1_on(stream).await;
            // The connection serves on.
            for _ in 0..2 {
                assert_eq!(ask(&mut connection, get(host, "/")).await.status(), status, "{host} on {sni}, HTTP/1.1");
            }
            let stream = try_tls(site.at, sni, config(&site, "h2", own)).await.unwrap();
            let answer = ask2(&mut h2_on(stream).await, get2(host, "/")).await;
            assert_eq!(answer.status(), status, "{host} on {sni}, HTTP/2");
        }
        let rejected = &site.worker.report().await.services[0].rejected;
        assert_eq!(rejected, &[("misdirected".to_string(), 21)]);
    });
}

#[test]
fn connections_made_under_rules_that_hold_no_longer_end_and_the_others_stay() {
    local(async {
        let ca = Ca::new("ca");
        let own = ca.issue(|_| {});
        let mut site = start(&ca).await;
        let mut open = Vec::new();
        for alpn in ["http/1.1", "h2"] {
            for (sni, own) in [("secret.test", Some(&own)), ("a.test", None)] {
                open.push((sni, alpn, try_tls(site.at, sni, config(&site, alpn, own)).await.unwrap()));
            }
        }
        let (mut h1s, mut h2s) = (Vec::new(), Vec::new());
        for (sni, alpn, stream) in open {
            if alpn == "h2" {
                let mut connection = h2_on(stream).await;
                assert_eq!(ask2(&mut connection, get2(sni, "/")).await.status(), 200);
                h2s.push((sni, connection));
            } else {
                let mut connection = h1_on(stream).await;
                assert_eq!(ask(&mut connection, get(sni, "/")).await.status(), 200);
                h1s.push((sni, connection));
            }
        }
        // A key that changes nothing of it.
        site.snapshot.tickets.keys = vec![Secret::new(vec![8; 48])];
        site.apply().await;
        for (sni, connection) in &mut h1s {
            assert_eq!(ask(connection, get(sni, "/")).await.status(), 200, "{sni}");
        }
        let policies = &mut site.snapshot.services[0].tls.as_mut().unwrap().policies;
        policies[1].client_cert.as_mut().unwrap().depth = 0;
        site.apply().await;
        until("HTTP/1.1 on secret.test ends", async || h1s[0].1.is_closed()).await;
        until("HTTP/2 on secret.test ends", async || h2s[0].1.is_closed()).await;
        assert_eq!(ask(&mut h1s[1].1, get("a.test", "/")).await.status(), 200);
        assert_eq!(ask2(&mut h2s[1].1, get2("a.test", "/")).await.status(), 200);
    });
}

#[test]
fn a_connection_in_clear_text_does_not_go_on_where_there_is_tls_now() {
    local(async {
        let ca = Ca::new("ca");
        let mut site = start(&ca).await;
        let with_tls = site.snapshot.services[0].tls.take();
        site.snapshot.services[0].mode = Mode::Http;
        site.apply().await;
        let mut connection = h1(site.at).await;
        assert_eq!(ask(&mut connection, get("secret.test", "/")).await.status(), 200);
        site.snapshot.services[0].tls = with_tls;
        site.snapshot.services[0].mode = Mode::Https;
        site.apply().await;
        assert_eq!(ask(&mut connection, get("secret.test", "/")).await.status(), 421);
    });
}
