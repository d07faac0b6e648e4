//! Bodies and tunnels: as large as they are, never gathered, ended by either side.

use crate::local;
use crate::support::backend::{Backend, full, read_head, read_to_close};
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::{snap, soon, tls, until};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

const BIG: usize = 48 << 20;

/// A backend that sends [`BIG`] bytes, and tells how many it could write so far.
async fn flood() -> (Backend, Rc<Cell<usize>>) {
    let written = Rc::new(Cell::new(0));
    let note = written.clone();
    let backend = Backend::raw(move |mut stream, _| {
        let note = note.clone();
        async move {
            read_head(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let chunk = vec![b'x'; 64 << 10];
            while note.get() < BIG && stream.write_all(&chunk).await.is_ok() {
                note.set(note.get() + chunk.len());
            }
        }
    })
    .await;
    (backend, written)
}

/// Wait until a count stands still, and tell it.
async fn settled(count: &Cell<usize>) -> usize {
    let (mut last, mut same) = (usize::MAX, 0);
    until("a count settles", async || {
        same = if count.get() == last && last > 0 { same + 1 } else { 0 };
        last = count.get();
        same > 40
    })
    .await;
    last
}

#[test]
fn a_big_download_waits_for_a_slow_client_and_then_arrives_whole() {
    local(async {
        let mut worker = Worker::start(1).await;
        let certificate = tls::certificate(&["a.test"]);
        for alpn in ["http/1.1", "h2"] {
            let (backend, written) = flood().await;
            let at = worker.listen().await;
            worker.apply(&snap::https(at, vec![certificate.clone()], &[backend.address])).await;
            let stream = client::tls(at, "a.test", &certificate, &[alpn]).await;
            let mut body = if alpn == "h2" {
                h2_on(stream).await.send_request(get2("a.test", "/")).await.unwrap().into_body()
            } else {
                h1_on(stream).await.send_request(get("a.test", "/")).await.unwrap().into_body()
            };
            // The sockets' own buffers are all that may fill up.
            let ahead = settled(&written).await;
            assert!(ahead < BIG / 2, "{alpn}: {ahead} bytes were taken from the backend for a client that reads none");
            let mut got = 0;
            while let Some(frame) = soon("more of the body", body.frame()).await {
                got += frame.unwrap().into_data().unwrap().len();
            }
            assert_eq!(got, BIG);
        }
    });
}

#[test]
fn a_big_upload_waits_for_a_slow_backend_and_then_arrives_whole() {
    local(async {
        let go = Rc::new(tokio::sync::Semaphore::new(0));
        let wait = go.clone();
        let backend = Backend::raw(move |mut stream, _| {
            let wait = wait.clone();
            async move {
                let head = read_head(&mut stream).await.unwrap();
                assert!(head.contains(&format!("content-length: {BIG}\r\n")), "{head}");
                let _ = wait.acquire().await.unwrap();
                let mut left = BIG;
                let mut chunk = vec![0; 256 << 10];
                while left > 0 {
                    left -= stream.read(&mut chunk).await.unwrap();
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole").await.unwrap();
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let (mut read, mut write) = TcpStream::connect(at).await.unwrap().into_split();
        let written = Rc::new(Cell::new(0));
        let note = written.clone();
        spawn_local(async move {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {BIG}\r\n\r\n");
            write.write_all(head.as_bytes()).await.unwrap();
            let chunk = vec![b'x'; 64 << 10];
            while note.get() < BIG {
                write.write_all(&chunk).await.unwrap();
                note.set(note.get() + chunk.len());
            }
            std::future::pending::<()>().await;
        });
        let ahead = settled(&written).await;
        assert!(ahead < BIG / 2, "{ahead} bytes were taken from a client for a backend that reads none");
        go.add_permits(1);
        assert!(read_all(&mut read).await.ends_with("whole"));
    });
}

#[test]
fn a_client_that_goes_away_ends_its_request_at_the_backend() {
    local(async {
        let ended = Rc::new(Cell::new(0));
        let note = ended.clone();
        let backend = Backend::raw(move |mut stream, _| {
            let note = note.clone();
            async move {
                let head = read_head(&mut stream).await.unwrap();
                if head.contains("/body") {
                    let part = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
                    stream.write_all(part).await.unwrap();
                }
                read_to_close(&mut stream).await;
                note.set(note.get() + 1);
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        for (path, n) in [("/waiting", 1), ("/body", 2)] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            if path == "/body" {
                read_head(&mut stream).await.unwrap();
            }
            until("the request is at the backend", async || backend.connections() == n).await;
            drop(stream);
            until("the backend sees the end", async || ended.get() == n).await;
        }
        until("nothing is in flight", async || worker.report().await.backends[0].active == 0).await;
    });
}

#[test]
fn a_backend_that_breaks_off_breaks_off_the_response() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await.unwrap();
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut connection = h1(at).await;
        let response = connection.send_request(get("a", "/")).await.unwrap();
        assert!(soon("an end", response.into_body().collect()).await.is_err());
        let failures = worker.report().await.backends[0].failures.clone();
        assert_eq!(failures, [("reset".to_string(), 1)]);
    });
}

/// Answers `/chat` with 101 and then echoes in upper case; refuses what else wants an upgrade.
async fn chat() -> Backend {
    Backend::http(|mut request| async move {
        if request.uri().path() != "/chat" {
            let status = StatusCode::FORBIDDEN;
            return Response::builder().status(status).body(full("no")).unwrap();
        }
        assert_eq!(request.headers()["connection"], "upgrade");
        assert_eq!(request.headers()["upgrade"], "chat");
        assert_eq!(request.headers()["sec-websocket-key"], "k");
        let upgrade = hyper::upgrade::on(&mut request);
        spawn_local(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                buffer[..n].make_ascii_uppercase();
                stream.write_all(&buffer[..n]).await.unwrap();
            }
            // The client has ended; this side still speaks.
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "chat");
        response.header("sec-websocket-accept", "a").body(full("")).unwrap()
    })
    .await
}

fn ask_for_chat(path: &str) -> Request<Body> {
    let request = Request::get(path).header("host", "a.test").header("connection", "Upgrade, keep-alive");
    request.header("upgrade", "chat").header("sec-websocket-key", "k").body(empty()).unwrap()
}

#[test]
fn an_upgrade_becomes_a_tunnel_after_the_backends_101_and_not_before() {
    local(async {
        let backend = chat().await;
        let mut worker = Worker::start(1).await;
        let certificate = tls::certificate(&["a.test"]);
        let at = worker.listen().await;
        worker.apply(&snap::https(at, vec![certificate.clone()], &[backend.address])).await;

        let mut connection = h1_on(client::tls(at, "a.test", &certificate, &["http/1.1"]).await).await;
        let answer = ask(&mut connection, ask_for_chat("/refused")).await;
        assert_eq!((answer.status(), &*answer.body), (403, "no"));
        assert_eq!(answer.header("upgrade"), None);
        // Refused, the connection goes on with HTTP; asked again it becomes a tunnel.
        connection.ready().await.unwrap();
        let response = soon("a response", connection.send_request(ask_for_chat("/chat"))).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["upgrade"], "chat");
        assert_eq!(response.headers()["sec-websocket-accept"], "a");
        let mut stream = TokioIo::new(soon("an upgrade", hyper::upgrade::on(response)).await.unwrap());
        for word in ["one", "two"] {
            stream.write_all(word.as_bytes()).await.unwrap();
            let mut echo = [0; 3];
            soon("an echo", stream.read_exact(&mut echo)).await.unwrap();
            assert_eq!(echo, word.to_uppercase().as_bytes());
        }
        let report = worker.report().await;
        assert_eq!((report.backends[0].active, report.services[0].connections_active), (1, 1));
        // One half ends, the other still speaks.
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut stream).await, "bye");
        drop(stream);
        until("the tunnel is gone", async || {
            let report = worker.report().await;
            (report.backends[0].active, report.services[0].connections_active) == (0, 0)
        })
        .await;
        let codes: Vec<_> = worker.report().await.requests.iter().map(|r| (r.code_class, r.seconds.count())).collect();
        assert_eq!(codes, [(1, 1), (4, 1)]);
    });
}

#[test]
fn a_101_that_nobody_asked_for_is_no_answer() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        assert_eq!(once(at, "/").await.status(), 502);
        until("nothing is in flight", async || {
            let backend = worker.report().await.backends.remove(0);
            (backend.active, backend.connections_open) == (0, 0)
        })
        .await;
    });
}

#[test]
fn an_early_answer_to_an_upload_is_passed_on() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await.unwrap();
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nsome of it";
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = soon("an answer", read_head(&mut stream)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        let mut body = [0; 3];
        soon("its body", stream.read_exact(&mut body)).await.unwrap();
        assert_eq!(&body, b"big");
    });
}

#[test]
fn many_streams_of_one_http2_connection_do_not_wait_for_each_other() {
    local(async {
        let backend = Backend::http(|request| async move {
            if request.uri().path() == "/slow" {
                std::future::pending::<()>().await;
            }
            Response::new(Full::new(Bytes::from(vec![b'y'; 100_000])).map_err(|e| match e {}).boxed())
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let h2 = h2_on(TcpStream::connect(at).await.unwrap()).await;
        let slow = spawn_local(h2.clone().send_request(get2("a", "/slow")));
        let fast: Vec<_> = (0..100)
            .map(|_| {
                let mut h2 = h2.clone();
                spawn_local(async move { ask2(&mut h2, get2("a", "/")).await.body.len() })
            })
            .collect();
        for one in fast {
            assert_eq!(one.await.unwrap(), 100_000);
        }
        assert_eq!(worker.report().await.backends[0].active, 1);
        slow.abort();
        drop(h2);
        until("nothing is in flight", async || worker.report().await.backends[0].active == 0).await;
    });
}
