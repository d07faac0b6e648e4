//! Calls that are more than a request and its answer: WebSocket by extended CONNECT, gRPC with its deadlines, what
//! `Expect` waits for, trailers.

use crate::local;
use crate::support::backend::{Backend, full, read_head};
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::{snap, soon, tls};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tls_worker::api::{Certificate, EdgeAnswer, FixedAnswer, PathMatch, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An edge over TLS in front of this backend, and a connection of HTTP/2 to it on which its settings have come.
async fn edge(backend: SocketAddr) -> (Worker, H2, SocketAddr, Certificate) {
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let certificate = tls::certificate(&["a.test"]);
    let mut snapshot = snap::https(at, vec![certificate.clone()], &[backend]);
    snapshot.services[0].routes[0].path = PathMatch::Prefix("/here".into());
    let fixed = FixedAnswer { status: 200, body: "fixed".into(), content_type: None };
    let answer = Some(EdgeAnswer::Fixed(fixed));
    snapshot.services[0].routes.push(Route { answer, ..snap::route("fixed", &[], Some("/fixed"), 0) });
    worker.apply(&snapshot).await;
    let mut h2 = h2_on(client::tls(at, "a.test", &certificate, &["h2"]).await).await;
    assert_eq!(ask2(&mut h2, get2("a.test", "/nowhere")).await.status(), 404);
    (worker, h2, at, certificate)
}

fn connect(path: &str, protocol: &'static str) -> Request<Body> {
    let request = Request::connect(format!("https://a.test{path}")).version(Version::HTTP_2);
    let mut request = request.header("sec-websocket-protocol", "chat").body(empty()).unwrap();
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

/// Takes upgrades, says `accept` in its 101 for the key that came (none: the right one), and echoes.
async fn echo(wrong: bool) -> Backend {
    Backend::raw(move |mut stream, _| async move {
        let Some(head) = read_head(&mut stream).await else { return };
        assert!(head.starts_with("GET /here/chat HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n") && head.contains("sec-websocket-version: 13\r\n"), "{head}");
        assert!(head.contains("host: a.test\r\n") && head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let key = if wrong { "x" } else { key };
        let digest = ring::digest::digest(
            &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
            format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
        );
        let accept = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    })
    .await
}

#[test]
fn a_websocket_over_http2_is_an_upgrade_at_the_backend() {
    local(async {
        let backend = echo(false).await;
        let (mut worker, mut h2, ..) = edge(backend.address).await;
        let answer = soon("an answer", h2.send_request(connect("/here/chat", "websocket"))).await.unwrap();
        assert_eq!(answer.status(), 200);
        let headers = answer.headers();
        assert_eq!(headers["sec-websocket-protocol"], "chat");
        assert!(!headers.contains_key("sec-websocket-accept") && !headers.contains_key("upgrade"));
        let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        for size in [1, 10, 300_000] {
            let bytes = vec![b'x'; size];
            let (mut reading, mut writing) = tokio::io::split(&mut tunnel);
            let mut back = vec![0; size];
            let both = async { tokio::join!(writing.write_all(&bytes), reading.read_exact(&mut back)) };
            let (wrote, read) = soon("the echo", both).await;
            wrote.and(read.map(drop)).unwrap();
            assert_eq!(back, bytes);
        }
        // Requests go on beside it.
        assert_eq!(ask2(&mut h2, get2("a.test", "/nowhere")).await.status(), 404);
        assert_eq!(worker.report().await.backends[0].active, 1);
        tunnel.shutdown().await.unwrap();
        assert_eq!(read_all(&mut tunnel).await, "");
    });
}

#[test]
fn a_websocket_over_http2_that_is_not_one_is_no_tunnel() {
    local(async {
        let backend = echo(true).await;
        let (_worker, mut h2, ..) = edge(backend.address).await;
        // It answered somebody else's key.
        let answer = soon("an answer", h2.send_request(connect("/here/chat", "websocket"))).await.unwrap();
        assert_eq!(answer.status(), 502);
        for (path, protocol, code) in
            [("/here/chat", "connect-udp", 405), ("/nowhere", "websocket", 404), ("/fixed", "websocket", 405)]
        {
            let answer = soon("an answer", h2.send_request(connect(path, protocol))).await.unwrap();
            assert_eq!(answer.status(), code, "{path} {protocol}");
        }
        // A backend that knows nothing of it, and one that says no.
        for (status, code) in [(200, 502), (403, 403)] {
            let backend =
                Backend::http(move |_| async move { Response::builder().status(status).body(full("said")).unwrap() })
                    .await;
            let (_worker, mut h2, ..) = edge(backend.address).await;
            let answer = soon("an answer", h2.send_request(connect("/here/chat", "websocket"))).await.unwrap();
            assert_eq!(answer.status(), code, "{status}");
        }
    });
}

fn call(path: &str, timeout: Option<&str>) -> Request<Body> {
    let request = Request::post(format!("https://a.test{path}")).version(Version::HTTP_2);
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let request = timeout.into_iter().fold(request, |request, timeout| request.header("grpc-timeout", timeout));
    request.body(empty()).unwrap()
}

#[test]
fn calls_of_grpc_are_refused_in_their_own_form_and_end_at_their_deadline() {
    local(async {
        // Never answers, or never ends its answer.
        let backend = Backend::http(|request: Request<hyper::body::Incoming>| async move {
            if request.uri().path() == "/here/silent" {
                std::future::pending::<()>().await;
            }
            assert_eq!(request.headers()["te"], "trailers");
            let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from("first"))) });
            let body = StreamBody::new(futures_util::StreamExt::chain(first, futures_util::stream::pending()));
            Response::builder().header("content-type", "application/grpc").body(BodyExt::boxed(body)).unwrap()
        })
        .await;
        let (mut worker, mut h2, ..) = edge(backend.address).await;
        let status = |headers: &HeaderMap| headers.get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
        let refused = ask2(&mut h2, call("/nowhere", None)).await;
        assert_eq!((refused.status(), status(&refused.head.headers)), (200, Some("12".into())));
        assert_eq!(refused.header("content-type"), Some("application/grpc"));
        let late = ask2(&mut h2, call("/here/silent", Some("50m"))).await;
        assert_eq!((late.status(), status(&late.head.headers)), (200, Some("4".into())));
        let cut = ask2(&mut h2, call("/here/stream", Some("100m"))).await;
        assert_eq!((cut.body.as_str(), status(&cut.trailers.unwrap())), ("first", Some("4".into())));
        // What the backend still did for them is given up.
        crate::support::until("nothing is in flight", async || {
            worker.report().await.backends.iter().all(|backend| backend.active == 0)
        })
        .await;
    });
}

#[test]
fn whoever_expects_100_gets_it_when_the_body_is_wanted_and_never_before_a_refusal() {
    local(async {
        let backend = Backend::http(|request: Request<hyper::body::Incoming>| async move {
            assert!(!request.headers().contains_key("expect"));
            let length = request.into_body().collect().await.unwrap().to_bytes().len();
            Response::new(full(format!("{length} bytes")))
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].routes[0].path = PathMatch::Prefix("/here".into());
        worker.apply(&snapshot).await;
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let head = format!(
                "PUT {path} HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let answer = read_head(&mut stream).await.unwrap();
            (stream, answer)
        };
        let (mut stream, first) = ask("/here").await;
        assert_eq!(first, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"12345").await.unwrap();
        assert!(read_all(&mut stream).await.ends_with("5 bytes"));
        assert!(ask("/nowhere").await.1.starts_with("HTTP/1.1 404"));
        snapshot.pools[0].backends.clear();
        worker.apply(&snapshot).await;
        assert!(ask("/here").await.1.starts_with("HTTP/1.1 503"));
    });
}

#[test]
fn early_hints_of_a_backend_are_passed_over_and_trailers_pass_both_ways() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            while let Some(head) = read_head(&mut stream).await {
                let mut body = Vec::new();
                while head.contains("transfer-encoding: chunked") && !body.ends_with(b"\r\n\r\n") {
                    body.push(stream.read_u8().await.unwrap());
                }
                let kept = String::from_utf8_lossy(&body).contains("x-sum: up");
                let answer = format!(
                    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
                     trailer: x-sum\r\n\r\n4\r\nbody\r\n0\r\nx-sum: {kept}\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let (_worker, mut h2, at, certificate) = edge(backend.address).await;
        let with_trailers = |request: http::request::Builder| {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "up".parse().unwrap());
            trailers.insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
            let frames = [Ok(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(trailers))];
            request.body(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))).unwrap()
        };
        // HTTP/1.1 carries trailers that were announced.
        let over2 = Request::post("https://a.test/here").version(Version::HTTP_2).header("trailer", "x-sum");
        let answer = ask2(&mut h2, with_trailers(over2)).await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, "body"));
        assert_eq!(answer.trailers.unwrap()["x-sum"], "true");
        let mut h1 = h1_on(client::tls(at, "a.test", &certificate, &["http/1.1"]).await).await;
        let over1 = Request::post("/here").header("host", "a.test").header("te", "trailers");
        let answer = ask(&mut h1, with_trailers(over1.header("trailer", "x-sum"))).await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, "body"));
        assert_eq!(answer.trailers.unwrap()["x-sum"], "true");
    });
}
