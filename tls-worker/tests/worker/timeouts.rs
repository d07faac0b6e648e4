//! Everything that waits has a deadline: each of them, short.

use crate::local;
use crate::support::backend::{Backend, read_head, read_to_close};
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::{soon, tls, until};
use http_body_util::BodyExt;
use std::time::Instant;
use tls_worker::api::Report;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const SHORT: u64 = 250;

fn timed_out(report: &Report, which: &str) -> u64 {
    report.services[0].timeouts.iter().find(|(w, _)| w == which).map_or(0, |(_, n)| *n)
}

fn failed(report: &Report, kind: &str) -> u64 {
    report.backends[0].failures.iter().find(|(k, _)| k == kind).map_or(0, |(_, n)| *n)
}

#[test]
fn a_handshake_that_is_never_finished_is_cut() {
    local(async {
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::https(at, vec![tls::certificate(&["a.test"])], &[]);
        snapshot.services[0].timeouts.handshake = ms(SHORT);
        worker.apply(&snapshot).await;
        // Nothing; the start of a ClientHello; a byte at a time, each within the timeout.
        let began = Instant::now();
        assert_eq!(bare(at, "").await, "");
        assert_eq!(bare(at, "\x16\x03\x01\x02\x00\x01\x00").await, "");
        let mut slow = TcpStream::connect(at).await.unwrap();
        let feed = async {
            for byte in [22u8, 3, 1, 2, 0, 1].into_iter().chain(std::iter::repeat(0)) {
                if slow.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(ms(SHORT / 5)).await;
            }
        };
        soon("a slow handshake is cut", feed).await;
        assert!(began.elapsed() >= ms(3 * SHORT));
        let report = worker.report().await;
        assert_eq!(timed_out(&report, "handshake"), 3);
        assert_eq!(report.services[0].handshake_failures, [("timeout".to_string(), 3)]);
        until("nothing is open", async || worker.report().await.threads[0].connections_active == 0).await;
    });
}

#[test]
fn a_header_that_is_never_finished_is_answered_with_408() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].timeouts.header = ms(SHORT);
        worker.apply(&snapshot).await;
        // The first byte; most of it; a second request's on a kept connection.
        assert_eq!(bare(at, "P").await, "");
        for start in ["GET / HTTP/1.1\r\nho", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            if start.ends_with("\r\n\r\n") {
                read_head(&mut stream).await.unwrap();
                stream.write_all(b"GET").await.unwrap();
            }
            let rest = read_all(&mut stream).await;
            assert!(rest.contains("HTTP/1.1 408 Request Timeout\r\n"), "{rest}");
        }
        assert_eq!(timed_out(&worker.report().await, "header"), 3);
    });
}

#[test]
fn an_idle_connection_is_closed() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let certificate = tls::certificate(&["a.test"]);
        let mut snapshot = snap::https(at, vec![certificate.clone()], &[backend.address]);
        snapshot.services[0].timeouts.idle = ms(SHORT);
        worker.apply(&snapshot).await;
        let mut one = h1_on(client::tls(at, "a.test", &certificate, &["http/1.1"]).await).await;
        assert_eq!(ask(&mut one, get("a.test", "/")).await.status(), 200);
        until("HTTP/1.1 is closed", async || one.is_closed()).await;
        let mut two = h2_on(client::tls(at, "a.test", &certificate, &["h2"]).await).await;
        assert_eq!(ask2(&mut two, get2("a.test", "/")).await.status(), 200);
        until("HTTP/2 is closed", async || two.is_closed()).await;
        // The close is a clean one: TLS says so, and so nothing is mistaken for a truncation.
        let mut bare = client::tls(at, "a.test", &certificate, &["http/1.1"]).await;
        let mut nothing = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut bare, &mut nothing);
        assert_eq!(soon("an end", read).await.unwrap(), 0);
        assert_eq!(timed_out(&worker.report().await, "idle"), 3);
    });
}

#[test]
fn silence_while_a_request_is_open_ends_it() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].timeouts.idle = ms(SHORT);
        worker.apply(&snapshot).await;
        // A body that is announced and never sent: the client's fault, and none of the backend's.
        let answer = bare(at, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n").await;
        assert_eq!(answer, "");
        let report = worker.report().await;
        assert_eq!((timed_out(&report, "idle"), report.backends[0].failures.len()), (1, 0));
        until("nothing is in flight", async || worker.report().await.backends[0].active == 0).await;
    });
}

#[test]
fn a_backend_that_does_not_answer_is_504() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].timeouts.response = ms(SHORT);
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        for n in 1..3 {
            let began = Instant::now();
            let answer = ask(&mut connection, get("a", "/")).await;
            assert_eq!((answer.status(), &*answer.body), (504, "504 the backend did not answer in time\n"));
            assert!(began.elapsed() >= ms(SHORT - 20));
            assert_eq!(failed(&worker.report().await, "response_timeout"), n);
        }
        assert_eq!(backend.connections(), 2, "a request that timed out is not sent again, nor its connection used");
    });
}

#[test]
fn a_backend_that_falls_silent_in_its_body_is_broken_off() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await.unwrap();
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].timeouts.idle = ms(SHORT);
        worker.apply(&snapshot).await;
        let response = h1(at).await.send_request(get("a", "/")).await.unwrap();
        assert!(soon("an end", response.into_body().collect()).await.is_err());
        assert_eq!(failed(&worker.report().await, "idle_timeout"), 1);
    });
}

#[test]
fn a_slow_client_is_not_taken_for_a_silent_backend() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            let size = 32 << 20;
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").as_bytes()).await.unwrap();
            let _ = stream.write_all(&vec![b'x'; size]).await;
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].timeouts.idle = ms(SHORT);
        worker.apply(&snapshot).await;
        let mut body = h1(at).await.send_request(get("a", "/")).await.unwrap().into_body();
        // The point of this wait is that nothing happens in it.
        tokio::time::sleep(ms(3 * SHORT)).await;
        let mut got = 0;
        while let Some(frame) = soon("more of the body", body.frame()).await {
            got += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(got, 32 << 20);
        assert!(worker.report().await.backends[0].failures.is_empty());
    });
}

#[test]
fn a_backend_that_does_not_accept_is_504() {
    local(async {
        // A full queue: the kernel drops further SYNs.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full: TcpListener = socket.listen(1).unwrap();
        let address = full.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(ms(300), TcpStream::connect(address)).await {
            held.push(stream);
        }
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[address]);
        snapshot.pools[0].timeouts.connect = ms(SHORT);
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 504);
        assert_eq!(failed(&worker.report().await, "connect_timeout"), 1);
    });
}

#[test]
fn a_kept_connection_to_a_backend_expires() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].timeouts.keepalive = ms(SHORT);
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 200);
        until("it is closed", async || worker.report().await.backends[0].connections_open == 0).await;
        assert_eq!(once(at, "/").await.status(), 200);
        assert_eq!(backend.connections(), 2);
        assert!(worker.report().await.backends[0].failures.is_empty(), "that is nobody's failure");
    });
}

#[test]
fn a_silent_tunnel_is_cut() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await.unwrap();
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].timeouts.idle = ms(SHORT);
        worker.apply(&snapshot).await;
        let answer = bare(at, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        until("nothing is in flight", async || worker.report().await.backends[0].active == 0).await;
    });
}
