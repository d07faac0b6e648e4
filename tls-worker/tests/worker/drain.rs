//! What becomes of what is in flight on a backend that gets no new requests: it has its time, and is cut when that is
//! over.

use crate::local;
use crate::support::backend::{Backend, full, read_head, read_to_close};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::{soon, until};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tls_worker::api::{BackendReport, BackendState, Mode, PersistBy, Persistence, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// Longer than any test waits.
const AGES: Option<Duration> = Some(Duration::from_secs(3600));

/// Takes upgrades, and echoes; everything else it answers with its name, but `/hold`, which it never does, and `/half`,
/// which it never ends.
async fn backend(name: &'static str) -> Backend {
    Backend::raw(move |mut stream, _| async move {
        while let Some(head) = read_head(&mut stream).await {
            if head.contains("upgrade: echo") {
                let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                let mut bytes = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(&bytes[..n]).await.unwrap();
                }
                return;
            }
            if head.contains("/hold") {
                return drop(read_to_close(&mut stream).await);
            }
            if head.contains("/half") {
                let half = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
                stream.write_all(half).await.unwrap();
                return drop(read_to_close(&mut stream).await);
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

async fn start(backends: &[&Backend]) -> (Worker, SocketAddr, Snapshot) {
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let mut snapshot = snap::http(at, &addresses);
    snapshot.pools[0].drain_timeout = AGES;
    worker.apply(&snapshot).await;
    (worker, at, snapshot)
}

async fn of(worker: &mut Worker, backend: &Backend) -> BackendReport {
    let report = worker.report().await;
    report.backends.into_iter().find(|report| report.backend == backend.address).unwrap()
}

/// A tunnel through the edge, which works.
async fn tunnel(at: SocketAddr) -> TokioIo<hyper::upgrade::Upgraded> {
    let ask = Request::get("/").header("host", "x").header("connection", "upgrade").header("upgrade", "echo");
    let response = h1(at).await.send_request(ask.body(empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    echoes(&mut tunnel).await;
    tunnel
}

async fn echoes(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    let mut word = [0; 4];
    stream.write_all(b"word").await.unwrap();
    soon("an echo", stream.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"word");
}

/// Nothing more comes, in one way or the other.
async fn ends(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    let _ = soon("an end", stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

#[test]
fn a_tunnel_has_its_time_and_is_cut_then() {
    local(async {
        let (a, b) = (backend("a").await, backend("b").await);
        let (mut worker, at, mut snapshot) = start(&[&a]).await;
        let mut first = tunnel(at).await;
        assert_eq!(once(at, "/").await.body, "a");
        snapshot.pools[0].backends.extend(snap::pool("", &[b.address]).backends);
        snapshot.pools[0].backends[0].state = BackendState::Draining;
        worker.apply(&snapshot).await;
        let mut other = tunnel(at).await;
        echoes(&mut first).await;
        let report = of(&mut worker, &a).await;
        assert_eq!((report.active, report.tunnels), (1, 1));
        assert!(report.drain_left_ms > 3_000_000, "{}", report.drain_left_ms);
        until("idle connections are closed at once", async || of(&mut worker, &a).await.connections_open == 1).await;
        // The time is its own, from when it began to drain; disabling it takes none away.
        snapshot.pools[0].backends[0].state = BackendState::Disabled;
        worker.apply(&snapshot).await;
        echoes(&mut first).await;
        snapshot.pools[0].backends[0].drain_timeout = Some(ms(10));
        worker.apply(&snapshot).await;
        ends(&mut first).await;
        echoes(&mut other).await;
        until("it is gone", async || of(&mut worker, &a).await.connections_open == 0).await;
        let report = of(&mut worker, &a).await;
        assert_eq!((report.active, report.tunnels, report.cut_tunnels, report.cut_requests), (0, 0, 1, 0));
        assert_eq!((report.drain_left_ms, &report.failures[..]), (0, &[][..]));
        assert_eq!(of(&mut worker, &b).await.tunnels, 1);
    });
}

#[test]
fn what_was_not_answered_goes_to_another_backend_if_it_may() {
    local(async {
        let (a, b) = (backend("a").await, backend("b").await);
        let (mut worker, at, mut snapshot) = start(&[&a, &b]).await;
        snapshot.pools[0].backends[0].weight = 256;
        worker.apply(&snapshot).await;
        let send = |method: Method| {
            spawn_local(async move {
                let body = Full::new(bytes::Bytes::from_static(b"x")).boxed();
                let body = if method == Method::POST { body } else { empty() };
                let request = Request::builder().method(method).uri("/hold").header("host", "x").body(body).unwrap();
                let response = h1(at).await.send_request(request).await.unwrap();
                response.status().as_u16()
            })
        };
        // A connection that was used before keeps a copy of what it may have to send again.
        assert_eq!(once(at, "/").await.body, "a");
        let get = send(Method::GET);
        until("one is held", async || of(&mut worker, &a).await.active == 1).await;
        let post = send(Method::POST);
        until("both are held", async || of(&mut worker, &a).await.active == 2).await;
        snapshot.pools[0].backends[0].state = BackendState::Draining;
        snapshot.pools[0].backends[0].drain_timeout = Some(ms(10));
        worker.apply(&snapshot).await;
        assert_eq!(soon("an answer", post).await.unwrap(), 502);
        until("the other is where it is served", async || of(&mut worker, &b).await.active == 1).await;
        let report = worker.report().await;
        assert_eq!(report.pools[0].retries, [("drained".to_string(), 1)]);
        let cut = of(&mut worker, &a).await;
        assert_eq!((cut.cut_requests, cut.failures.len()), (2, 0));
        get.abort();
    });
}

#[test]
fn a_body_that_is_cut_is_not_whole() {
    local(async {
        let a = backend("a").await;
        let (mut worker, at, mut snapshot) = start(&[&a]).await;
        let mut connection = h1(at).await;
        let response = connection.send_request(get("x", "/half")).await.unwrap();
        snapshot.pools[0].backends.clear();
        snapshot.pools[0].drain_timeout = Some(ms(10));
        worker.apply(&snapshot).await;
        // It is in no snapshot: it has the time that it had when it was in one.
        assert!(of(&mut worker, &a).await.drain_left_ms > 1_000_000);
        assert_eq!(of(&mut worker, &a).await.active, 1);
        let mut other = snap::http(at, &[a.address]);
        other.pools[0].backends[0].state = BackendState::Disabled;
        other.pools[0].drain_timeout = Some(ms(10));
        worker.apply(&other).await;
        assert!(soon("an end", response.into_body().collect()).await.is_err());
        assert_eq!(of(&mut worker, &a).await.cut_requests, 1);
    });
}

#[test]
fn a_body_of_a_backend_that_fell_silent_is_not_whole() {
    local(async {
        let a = backend("a").await;
        let (mut worker, at, mut snapshot) = start(&[&a]).await;
        snapshot.pools[0].timeouts.idle = ms(50);
        worker.apply(&snapshot).await;
        let response = h1(at).await.send_request(get("x", "/half")).await.unwrap();
        assert!(soon("an end", response.into_body().collect()).await.is_err());
        let failures = of(&mut worker, &a).await.failures;
        assert_eq!(failures, [("idle_timeout".to_string(), 1)]);
    });
}

#[test]
fn a_connection_without_http_is_cut_too() {
    local(async {
        let a = Backend::raw(|mut stream, _| async move {
            let mut bytes = [0; 64];
            while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                stream.write_all(&bytes[..n]).await.unwrap();
            }
        })
        .await;
        let (mut worker, at, mut snapshot) = start(&[&a]).await;
        snapshot.services[0].mode = Mode::Tcp;
        worker.apply(&snapshot).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        echoes(&mut stream).await;
        assert_eq!(of(&mut worker, &a).await.tunnels, 1);
        snapshot.pools[0].backends[0].state = BackendState::Draining;
        worker.apply(&snapshot).await;
        echoes(&mut stream).await;
        snapshot.pools[0].backends[0].drain_timeout = Some(ms(1));
        worker.apply(&snapshot).await;
        ends(&mut stream).await;
        until("it is counted", async || of(&mut worker, &a).await.cut_tunnels == 1).await;
        assert_eq!(of(&mut worker, &a).await.active, 0);
    });
}

#[test]
fn a_backend_that_serves_again_loses_nothing() {
    local(async {
        let a = backend("a").await;
        let (mut worker, at, mut snapshot) = start(&[&a]).await;
        let mut kept = tunnel(at).await;
        snapshot.pools[0].backends[0].state = BackendState::Draining;
        worker.apply(&snapshot).await;
        snapshot.pools[0].backends[0].state = BackendState::Up;
        snapshot.pools[0].drain_timeout = Some(ms(1));
        worker.apply(&snapshot).await;
        assert_eq!(of(&mut worker, &a).await.drain_left_ms, 0);
        assert_eq!(once(at, "/").await.body, "a");
        echoes(&mut kept).await;
        // And one that was cut serves as before.
        snapshot.pools[0].backends[0].state = BackendState::Disabled;
        worker.apply(&snapshot).await;
        ends(&mut kept).await;
        snapshot.pools[0].backends[0].state = BackendState::Up;
        worker.apply(&snapshot).await;
        tunnel(at).await;
    });
}

#[test]
fn a_kept_client_stays_until_the_time_is_over() {
    local(async {
        let (a, b) = (backend("a").await, backend("b").await);
        let (mut worker, at, mut snapshot) = start(&[&a]).await;
        snapshot.pools[0].persistence = Some(Persistence {
            by: PersistBy::Source { v4: 32, v6: 128 },
            timeout: Duration::from_secs(600),
            max_entries: 10,
            drain_timeout: Duration::from_secs(3600),
        });
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.body, "a");
        snapshot.pools[0].backends.extend(snap::pool("", &[b.address]).backends);
        snapshot.pools[0].backends[0].state = BackendState::Draining;
        worker.apply(&snapshot).await;
        for _ in 0..3 {
            assert_eq!(once(at, "/").await.body, "a");
        }
        snapshot.pools[0].backends[0].drain_timeout = Some(ms(1));
        worker.apply(&snapshot).await;
        until("it has drained", async || of(&mut worker, &a).await.drain_left_ms == 0).await;
        assert_eq!(once(at, "/").await.body, "b");
    });
}

#[test]
fn streams_of_one_connection_are_cut() {
    local(async {
        let a = Backend::raw(|stream, _| async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let mut held = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path() == "/half" {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(bytes::Bytes::from_static(b"half"), false).unwrap();
                    held.push((Some(body), None));
                } else {
                    held.push((None, Some(respond)));
                }
            }
        })
        .await;
        let b = Backend::http(|_| async { Response::new(full("b")) }).await;
        let (mut worker, at, mut snapshot) = start(&[&a]).await;
        snapshot.pools[0].multiplex.h2c = true;
        worker.apply(&snapshot).await;
        let half = h1(at).await.send_request(get("x", "/half")).await.unwrap();
        let hold = spawn_local(async move { once(at, "/hold").await.status() });
        until("both are held", async || of(&mut worker, &a).await.active == 2).await;
        assert_eq!(a.connections(), 1);
        snapshot.pools[0].backends[0].state = BackendState::Disabled;
        snapshot.pools[0].drain_timeout = Some(ms(1));
        worker.apply(&snapshot).await;
        assert!(soon("an end", half.into_body().collect()).await.is_err());
        // Nobody else could take it.
        assert_eq!(soon("an answer", hold).await.unwrap(), 502);
        until("its connection is closed", async || of(&mut worker, &a).await.connections_open == 0).await;
        assert_eq!(of(&mut worker, &a).await.cut_requests, 2);
        snapshot.pools = snap::http(at, &[b.address]).pools;
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.body, "b");
    });
}
