//! Probes and the agent against real sockets on the loopback.

use super::*;
use crate::config::{HealthCheck, Probe};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tls_worker::api::tls::upstream_identity;
use tls_worker::api::{Der, UpstreamTls};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(10);

fn http(codes: &[(u16, u16)]) -> Probe {
    Probe::Http { path: "/health".into(), host: Some("app.example".into()), codes: codes.to_vec() }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, code: u16) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap().to_lowercase();
    let right = request.starts_with("get /health http/1.1\r\n") && request.contains("\r\nhost: app.example\r\n");
    let code = if right { code } else { 400 };
    let _ = stream.write_all(format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A server that answers with the code it is told to.
async fn server() -> (SocketAddr, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let code = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&code);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, told.load(Ordering::SeqCst)));
        }
    });
    (address, code)
}

#[tokio::test]
async fn a_probe_says_what_it_found() {
    let (address, code) = server().await;
    assert!(probe(address, &Probe::Tcp, Opening::default(), LONG).await.good);
    let outcome = probe(address, &http(&[(200, 299)]), Opening::default(), LONG).await;
    assert!(outcome.good && outcome.text.starts_with("HTTP 200 after "), "{outcome:?}");
    code.store(503, Ordering::SeqCst);
    let outcome = probe(address, &http(&[(200, 299)]), Opening::default(), LONG).await;
    assert!(!outcome.good && outcome.text.starts_with("HTTP 503 after "), "{outcome:?}");
    assert!(probe(address, &http(&[(200, 299), (503, 503)]), Opening::default(), LONG).await.good);

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = probe(closed, &Probe::Tcp, Opening::default(), LONG).await;
    assert!(!outcome.good && outcome.text.contains("refused"), "{outcome:?}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deadline = Duration::from_millis(20);
    let outcome = probe(silent.local_addr().unwrap(), &http(&[(200, 299)]), Opening::default(), deadline).await;
    assert!(!outcome.good && outcome.text.starts_with("no answer after "), "{outcome:?}");
}

#[tokio::test]
async fn a_probe_over_tls_verifies_as_the_pool_says() {
    let made = rcgen::generate_simple_self_signed(vec!["app.example".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, 200).await;
            }
        }
    });
    let ask = |tls: UpstreamTls| async move {
        let identity = match upstream_identity(&tls) {
            Ok(identity) => identity,
            Err(error) => return Outcome { good: false, text: error.to_string() },
        };
        let opening = Opening { identity: Some(&identity), ..Opening::default() };
        probe(address, &http(&[(200, 299)]), opening, LONG).await
    };
    let roots = vec![Der(made.cert.der().to_vec())];
    let name = Some("app.example".to_owned());
    let good = UpstreamTls { verify: true, roots: roots.clone(), server_name: name.clone(), ..UpstreamTls::default() };
    assert!(ask(good.clone()).await.good);
    let other = UpstreamTls { server_name: Some("other.example".into()), ..good.clone() };
    assert!(ask(other).await.text.contains("TLS: "));
    let unknown = UpstreamTls { roots: vec![], ..good.clone() };
    assert!(!ask(unknown).await.good);
    let by_address = UpstreamTls { server_name: None, ..good };
    assert!(!ask(by_address).await.good, "the certificate does not name the address");
    assert!(ask(UpstreamTls::default()).await.good);
}

#[tokio::test]
async fn the_agent_tells_changes_and_only_changes() {
    let (address, code) = server().await;
    let check = HealthCheck {
        probe: http(&[(200, 299)]),
        interval: Duration::from_millis(10),
        timeout: LONG,
        rise: 1,
        fall: 3,
    };
    let counts = Arc::new(Counts::default());
    let target =
        Target { pool: "p".into(), address, check, tls: None, proxy_version: None, counts: Arc::clone(&counts) };
    let (targets, receiver) = watch::channel(vec![target.clone()]);
    let (verdicts, mut told) = mpsc::channel(4);
    let agent = tokio::spawn(Agent { targets: receiver, verdicts }.run());
    let mut next = async || timeout(LONG, told.recv()).await.unwrap().unwrap();

    assert!(next().await.up);
    code.store(503, Ordering::SeqCst);
    let down = next().await;
    assert!(!down.up && down.cause.contains("HTTP 503 after") && down.cause.ends_with("3 of 3"), "{down:?}");
    // The same target again keeps its state: the next news is that it is up.
    targets.send(vec![target]).unwrap();
    code.store(204, Ordering::SeqCst);
    let up = next().await;
    assert!(up.up && up.cause.ends_with("1 of 1"), "{up:?}");
    let (good, bad) = counts.read();
    assert!(good >= 2 && bad >= 3, "{good} {bad}");
    drop(targets);
    timeout(LONG, agent).await.unwrap().unwrap();
}
