//! Probes against servers made here, where a real one could not be made to misbehave so. Those against real ones are in
//! tests/tests/health.

use super::probe::{Found, Outcome, Prepared, Tools, answers, probe};
use crate::config::{HealthCheck, HttpProbe, Probe, ScriptProbe, TextProbe};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls_worker::api::tls::upstream_identity;
use tls_worker::api::{Der, ProxyVersion, UpstreamTls};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

const LONG: Duration = Duration::from_secs(10);

async fn ask(address: SocketAddr, check: HealthCheck) -> Outcome {
    let prepared = Prepared::new(Arc::new(check)).unwrap();
    probe(address, &prepared, &Tools::default()).await
}

fn http(probe: HttpProbe) -> HealthCheck {
    HealthCheck { timeout: LONG, ..HealthCheck::new(Probe::Http(probe)) }
}

fn is(outcome: &Outcome, found: Found, words: &str) {
    assert!(outcome.found == found && outcome.text.contains(words), "{outcome:?}, not {found:?} {words:?}");
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, with: Vec<u8>) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => break,
        }
    }
    let _ = stream.write_all(&with).await;
    let _ = stream.shutdown().await;
    String::from_utf8(request).unwrap()
}

/// A server for one request, which gives what it was asked.
async fn once(with: &[u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, with) = (listener.local_addr().unwrap(), with.to_vec());
    let asked = tokio::spawn(async move { answer(listener.accept().await.unwrap().0, with).await });
    (address, asked)
}

#[tokio::test]
async fn a_request_is_as_it_is_written_and_its_answer_is_looked_at() {
    let (address, asked) = once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nall is ok").await;
    let written = HttpProbe {
        method: "POST".into(),
        path: "/up?deep=1".into(),
        host: Some("app.example".into()),
        headers: vec![("x-token".into(), "t".into())],
        body: Some("is ok".into()),
        ..HttpProbe::default()
    };
    is(&ask(address, http(written)).await, Found::Good, "HTTP 200 with its text after ");
    let asked = asked.await.unwrap().to_lowercase();
    for part in ["post /up?deep=1 http/1.1\r\n", "host: app.example\r\n", "x-token: t\r\n", "connection: close\r\n"] {
        assert!(asked.contains(part), "{asked}");
    }

    let (address, _asked) = once(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    is(&ask(address, http(HttpProbe::default())).await, Found::Bad, "HTTP 503 after ");
    let (address, _asked) = once(b"HTTP/1.1 200 OK\r\n\r\nsorry").await;
    let wanting = HttpProbe { body: Some("fine".into()), ..HttpProbe::default() };
    is(&ask(address, http(wanting.clone())).await, Found::Bad, "HTTP 200, \"fine\" not in 5 bytes, \"sorry\"");
    // A body without an end is read up to the bound.
    let mut long = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    long.extend(vec![b'x'; 200_000]);
    let (address, _asked) = once(&long).await;
    is(&ask(address, http(wanting)).await, Found::Bad, "not in 65536 bytes");
    let (address, _asked) = once(b"SSH-2.0-OpenSSH\r\n").await;
    is(&ask(address, http(HttpProbe::default())).await, Found::Bad, "HTTP: ");
}

#[tokio::test]
async fn connections_that_are_refused_or_silent_are_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    is(&ask(closed, HealthCheck::new(Probe::Tcp)).await, Found::Bad, "refused");
    is(&ask(closed, HealthCheck { reverse: true, ..HealthCheck::new(Probe::Tcp) }).await, Found::Good, "refused");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    is(&ask(address, HealthCheck::new(Probe::Tcp)).await, Found::Good, "connected after ");
    let short = HealthCheck { timeout: Duration::from_millis(20), ..http(HttpProbe::default()) };
    is(&ask(address, short).await, Found::Bad, "no answer after ");
    // Another port, from an address of ours.
    let elsewhere =
        HealthCheck { port: Some(address.port()), source: Some([127, 0, 0, 9].into()), ..HealthCheck::new(Probe::Tcp) };
    let seen = async { while silent.accept().await.unwrap().1.ip() != IpAddr::from([127, 0, 0, 9]) {} };
    let (outcome, ()) = tokio::join!(ask(closed, elsewhere), async { tokio::time::timeout(LONG, seen).await.unwrap() });
    is(&outcome, Found::Good, "connected");
}

#[tokio::test]
async fn texts_are_sent_and_looked_for() {
    let text = |udp, send: &[u8], expect: &[u8]| HealthCheck {
        timeout: Duration::from_millis(300),
        ..HealthCheck::new(Probe::Text(TextProbe { udp, send: send.to_vec(), expect: expect.to_vec() }))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // In two portions, and it never closes.
            let _ = stream.write_all(b"220 mail re").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            let _ = stream.write_all(b"ady\r\n").await;
            std::mem::forget(stream);
        }
    });
    is(&ask(address, text(false, b"", b"ready")).await, Found::Good, "answered");
    is(&ask(address, text(false, b"", b"")).await, Found::Good, "answered");
    is(&ask(address, text(false, b"", b"+PONG")).await, Found::Bad, "no answer");

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let udp = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&[b"echo ", &buffer[..length]].concat(), from).await;
        }
    });
    is(&ask(udp, text(true, b"\0\x01", b"echo \0\x01")).await, Found::Good, "answered");
    is(&ask(udp, text(true, b"a", b"b")).await, Found::Bad, "no answer");
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    is(&ask(closed, text(true, b"a", b"")).await, Found::Bad, "refused");
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
                answer(stream, b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
            }
        }
    });
    let over = |tls: UpstreamTls, kind: Probe| HealthCheck { tls: Some(tls), timeout: LONG, ..HealthCheck::new(kind) };
    let http = || Probe::Http(HttpProbe::default());
    let roots = vec![Der(made.cert.der().to_vec())];
    let name = Some("app.example".to_owned());
    let good = UpstreamTls { verify: true, roots, server_name: name, ..UpstreamTls::default() };
    is(&ask(address, over(good.clone(), http())).await, Found::Good, "HTTP 200");
    is(&ask(address, over(good.clone(), Probe::Tls)).await, Found::Good, "TLS handshake after ");
    let other = UpstreamTls { server_name: Some("other.example".into()), ..good.clone() };
    is(&ask(address, over(other.clone(), http())).await, Found::Bad, "TLS: ");
    is(&ask(address, over(other, Probe::Tls)).await, Found::Bad, "TLS: ");
    let by_address = UpstreamTls { server_name: None, ..good.clone() };
    is(&ask(address, over(by_address, http())).await, Found::Bad, "TLS: ");
    is(&ask(address, over(UpstreamTls::default(), http())).await, Found::Good, "HTTP 200");
    let h2 = Probe::Http(HttpProbe { http2: true, ..HttpProbe::default() });
    is(&ask(address, over(good.clone(), h2)).await, Found::Bad, "does not offer h2");
    let unknown = UpstreamTls { roots: vec![], ..good };
    assert!(upstream_identity(&unknown).is_err() && Prepared::new(Arc::new(over(unknown, http()))).is_err());
}

#[tokio::test]
async fn a_proxy_header_that_tells_no_client_goes_ahead() {
    for (version, header) in
        [(ProxyVersion::V1, "PROXY UNKNOWN\r\nGET"), (ProxyVersion::V2, "\r\n\r\n\0\r\nQUIT\n \0\0\0")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = tokio::spawn(async move {
            let mut bytes = vec![0; header.len()];
            listener.accept().await.unwrap().0.read_exact(&mut bytes).await.unwrap();
            String::from_utf8(bytes).unwrap()
        });
        let check = HealthCheck { proxy_version: Some(version), ..http(HttpProbe::default()) };
        ask(address, check).await;
        assert_eq!(seen.await.unwrap(), header);
    }
}

/// A script in a directory that every user can read.
fn script(dir: &tempfile::TempDir, text: &str) -> Probe {
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("check");
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Probe::Script(ScriptProbe { program, arguments: vec!["one".into()], user: "nobody".into() })
}

#[tokio::test]
async fn a_script_runs_as_its_user_with_a_clean_environment() {
    let address = SocketAddr::from(([192, 0, 2, 1], 80));
    let dir = tempfile::tempdir().unwrap();
    let of = |text: &str| HealthCheck { timeout: LONG, port: Some(81), ..HealthCheck::new(script(&dir, text)) };
    is(&ask(address, of("echo fine")).await, Found::Good, "script exit 0, \"fine\" after ");
    is(&ask(address, of("echo no >&2; exit 3")).await, Found::Bad, "script exit 3, \"no\"");
    is(&ask(address, of("kill -9 $$")).await, Found::Bad, "signal 9");
    is(
        &ask(address, of("echo $1 $BAILEY_BACKEND $BAILEY_PORT $(env | wc -l)")).await,
        Found::Good,
        "one 192.0.2.1:80 81 ",
    );
    let names = ask(address, of("env | cut -d= -f1 | grep -v BAILEY_ | sort | tr '\\n' ' '")).await;
    is(&names, Found::Good, "\"PATH PWD\"");
    if rustix::process::geteuid().is_root() {
        is(&ask(address, of("id -un; id -Gn | tr '\\n' ' '")).await, Found::Good, "\"nogroup\"");
        is(&ask(address, of("grep CapEff: /proc/self/status")).await, Found::Good, "0000000000000000");
        let nobody =
            Probe::Script(ScriptProbe { program: "/bin/true".into(), arguments: vec![], user: "no-such-user".into() });
        is(&ask(address, HealthCheck::new(nobody)).await, Found::Unable, "no user \"no-such-user\"");
    }
    // What it says without end is read and forgotten.
    is(&ask(address, of("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end")).await, Found::Good, "script exit 0");
    let missing =
        Probe::Script(ScriptProbe { program: "/nonexistent".into(), arguments: vec![], user: "nobody".into() });
    is(&ask(address, HealthCheck::new(missing)).await, Found::Unable, "No such file");
}

#[tokio::test]
async fn a_script_is_killed_at_its_deadline_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let pids = dir.path().join("pids");
    let alive = |pids: &std::path::Path| -> usize {
        let text = std::fs::read_to_string(pids).unwrap_or_default();
        let running = |pid: &&str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        text.split_whitespace().filter(running).count()
    };
    let gone = async |pids: &std::path::Path, started: usize| {
        let began = Instant::now();
        while alive(pids) > 0 || std::fs::read_to_string(pids).unwrap_or_default().split_whitespace().count() < started
        {
            assert!(began.elapsed() < LONG, "{} live", alive(pids));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let record = format!("sleep 1000 & echo $! $$ >> {}", pids.display());
    let probe = script(&dir, &format!("{record}; wait"));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let check = HealthCheck { timeout: Duration::from_millis(300), ..HealthCheck::new(probe) };
    is(&ask(SocketAddr::from(([192, 0, 2, 1], 80)), check).await, Found::Bad, "no answer after ");
    gone(&pids, 2).await;
    // One that ends, and leaves something behind that holds its output open, is not waited for.
    std::fs::remove_file(&pids).unwrap();
    let probe = script(&dir, &format!("{record}; exit 0"));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let check = HealthCheck { timeout: LONG, ..HealthCheck::new(probe) };
    let began = Instant::now();
    is(&ask(SocketAddr::from(([192, 0, 2, 1], 80)), check).await, Found::Good, "script exit 0");
    assert!(began.elapsed() < LONG);
    gone(&pids, 2).await;
}

#[test]
fn an_answer_of_grpc_is_its_status_and_its_message() {
    let serving = [0, 0, 0, 0, 2, 8, 1];
    assert_eq!(answers::grpc(Some(b"0"), &serving), (true, "gRPC SERVING".into()));
    assert_eq!(answers::grpc(Some(b"0"), &[0, 0, 0, 0, 2, 8, 2]), (false, "gRPC NOT_SERVING".into()));
    // A message of nothing is one of defaults.
    assert_eq!(answers::grpc(Some(b"0"), &[0; 5]), (false, "gRPC UNKNOWN".into()));
    for (status, body) in [
        (None, &serving[..]),
        (Some(&b"12"[..]), &[]),
        (Some(b"5"), &[]),
        (Some(b"14"), &serving),
        (Some(b"0"), &serving[..6]),
        (Some(b"0"), &[]),
        (Some(b"0"), &[1, 0, 0, 0, 2, 8, 1]),
        (Some(b"0"), &[0, 0, 0, 0, 2, 0xff, 0xff]),
    ] {
        assert!(!answers::grpc(status, body).0, "{status:?} {body:?}");
    }
}
