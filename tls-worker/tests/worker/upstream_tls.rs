//! TLS towards backends: whom they must be, what they are told, which HTTP is spoken.

use crate::local;
use crate::support::backend::{Backend, Body, full, read_head};
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::{snap, soon, tls, until};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use tls_worker::api::{Protocol, Report, TlsVersion, UpstreamTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

fn failures(report: &Report) -> Vec<(String, u64)> {
    let mut all: Vec<_> = report.backends.iter().flat_map(|b| b.failures.clone()).collect();
    all.sort();
    all
}

fn h2() -> UpstreamTls {
    UpstreamTls { alpn: vec!["h2".into(), "http/1.1".into()], ..UpstreamTls::default() }
}

#[test]
fn a_pinned_key_is_asked_for_with_and_without_verification() {
    local(async {
        let (certificate, other) = (tls::certificate(&["backend.test"]), tls::certificate(&["backend.test"]));
        let backend = Backend::https(tls::server(&certificate), |_| async { Response::new(full("hello")) }).await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let (good, bad) = (tls::pin(&certificate), tls::pin(&other));
        for (verify, roots, pins, status, kind) in [
            (false, &certificate, vec![bad, good], 200, ""),
            (false, &certificate, vec![bad], 502, "tls_pin"),
            (true, &certificate, vec![good], 200, ""),
            (true, &certificate, vec![bad], 502, "tls_pin"),
            (true, &other, vec![good], 502, "tls_verify"),
        ] {
            let mut worker_snapshot = snap::http(at, &[backend.address]);
            let roots = vec![roots.chain[0].clone()];
            let server_name = Some("backend.test".into());
            worker_snapshot.pools[0].tls =
                Some(UpstreamTls { verify, roots, server_name, pins, ..UpstreamTls::default() });
            let before = failures(&worker.report().await);
            worker.apply(&worker_snapshot).await;
            assert_eq!(once(at, "/").await.status(), status, "{verify} {kind}");
            let after = failures(&worker.report().await);
            let new: Vec<_> = after.iter().filter(|f| !before.contains(f)).map(|f| &*f.0).collect();
            assert_eq!(new, Vec::from_iter(Some(kind).filter(|k| !k.is_empty())));
        }
    });
}

#[test]
fn a_backend_is_told_name_certificate_and_version_that_the_pool_says() {
    local(async {
        let (certificate, ours) = (tls::certificate(&["backend.test"]), tls::certificate(&["edge.test"]));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = seen.clone();
        let backend = Backend::tls(tls::server_asking(&certificate, &ours), move |mut stream, _| {
            let session = stream.get_ref().1;
            let shown = session.peer_certificates().map(|chain| chain[0].as_ref().to_vec());
            note.borrow_mut().push((session.server_name().map(str::to_owned), shown, session.protocol_version()));
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        for (version, known) in
            [(TlsVersion::V12, rustls::ProtocolVersion::TLSv1_2), (TlsVersion::V13, rustls::ProtocolVersion::TLSv1_3)]
        {
            snapshot.pools[0].tls = Some(UpstreamTls {
                verify: true,
                roots: vec![certificate.chain[0].clone()],
                server_name: Some("backend.test".into()),
                sni: Some("asked.test".into()),
                certificate: Some(ours.clone()),
                protocol: Protocol { min_version: version, max_version: version, ..Protocol::default() },
                ..UpstreamTls::default()
            });
            worker.apply(&snapshot).await;
            assert_eq!(once(at, "/").await.body, "ok");
            let shown = Some(ours.chain[0].0.clone());
            assert_eq!(seen.borrow_mut().remove(0), (Some("asked.test".into()), shown, Some(known)));
        }
        // What is verified is the server's name, not the one that is asked for.
        if let Some(tls) = &mut snapshot.pools[0].tls {
            (tls.server_name, tls.sni) = (Some("asked.test".into()), Some("backend.test".into()));
        }
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 502);
        assert_eq!(failures(&worker.report().await), [("tls_verify".to_string(), 1)]);
        // Without a certificate the backend refuses.
        if let Some(tls) = &mut snapshot.pools[0].tls {
            (tls.server_name, tls.certificate) = (Some("backend.test".into()), None);
        }
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 502);
    });
}

#[test]
fn sessions_with_a_backend_are_resumed() {
    local(async {
        let certificate = tls::certificate(&["backend.test"]);
        let kinds = Rc::new(RefCell::new(Vec::new()));
        let note = kinds.clone();
        let backend = Backend::tls(tls::server(&certificate), move |mut stream, _| {
            note.borrow_mut().push(stream.get_ref().1.handshake_kind().unwrap());
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].tls =
            Some(UpstreamTls { server_name: Some("backend.test".into()), ..UpstreamTls::default() });
        worker.apply(&snapshot).await;
        for _ in 0..3 {
            assert_eq!(once(at, "/").await.body, "ok");
        }
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(*kinds.borrow(), [Full, Resumed, Resumed]);
    });
}

/// Tells what it was asked, sends the body back, and says so in a trailer.
async fn reflect(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut told: Vec<_> = head.headers.iter().map(|(k, v)| format!("{k}={}", v.to_str().unwrap())).collect();
    told.sort();
    let body = body.collect().await.unwrap();
    let trailer = body.trailers().and_then(|t| t.get("x-sum").cloned());
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", trailer.unwrap_or("0".parse().unwrap()));
    let frames = [Frame::data(body.to_bytes()), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body: Body = StreamBody::new(futures_util::stream::iter(frames)).map_err(|never| match never {}).boxed();
    let response = Response::builder().header("x-version", format!("{:?}", head.version));
    let target = format!("{} {}", head.method, head.uri);
    response.header("x-target", target).header("x-told", told.join("|")).body(body).unwrap()
}

#[test]
fn http2_is_spoken_where_both_want_it_with_bodies_and_trailers() {
    local(async {
        let certificate = tls::certificate(&["backend.test"]);
        let backend = Backend::h2(tls::server_with(&certificate, &["h2"]), reflect).await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::https(at, vec![certificate.clone()], &[backend.address]);
        snapshot.pools[0].tls = Some(h2());
        worker.apply(&snapshot).await;
        // From HTTP/2 with trailers.
        let stream = client::tls(at, "backend.test", &certificate, &["h2"]).await;
        let mut connection = h2_on(stream).await;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let frames =
            [Frame::data(Bytes::from(vec![b'z'; 1 << 20])), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let request =
            Request::post("https://backend.test/svc/Call?x=1").version(Version::HTTP_2).header("te", "trailers");
        let answer = ask2(&mut connection, request.body(body).unwrap()).await;
        assert_eq!((answer.status(), answer.header("x-version")), (200, Some("HTTP/2.0")));
        assert_eq!(answer.header("x-target"), Some("POST https://backend.test/svc/Call?x=1"));
        let told = answer.header("x-told").unwrap();
        assert!(told.contains("te=trailers") && told.contains("x-forwarded-host=backend.test"), "{told}");
        assert!(
            ["host=", "connection=", "transfer-encoding="].iter().all(|h| !told.split('|').any(|t| t.starts_with(h)))
        );
        assert_eq!((answer.body.len(), answer.trailers.unwrap()["grpc-status"].to_str().unwrap()), (1 << 20, "7"));
        // From HTTP/1.1, one after the other on the same connection to the backend.
        let stream = client::tls(at, "backend.test", &certificate, &["http/1.1"]).await;
        let mut connection = h1_on(stream).await;
        for n in 0..5 {
            let answer = ask(&mut connection, get("backend.test", &format!("/{n}"))).await;
            assert_eq!((answer.status(), answer.header("x-version")), (200, Some("HTTP/2.0")));
        }
        assert_eq!(backend.connections(), 1, "it is kept and used");
        assert_eq!(failures(&worker.report().await), []);
    });
}

#[test]
fn a_backend_without_http2_gets_http1() {
    local(async {
        let certificate = tls::certificate(&["backend.test"]);
        let backend = Backend::https(tls::server_with(&certificate, &["http/1.1"]), reflect).await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].tls = Some(h2());
        worker.apply(&snapshot).await;
        let answer = once(at, "/").await;
        assert_eq!((answer.header("x-version"), answer.header("x-target")), (Some("HTTP/1.1"), Some("GET /")));
    });
}

#[test]
fn what_becomes_a_tunnel_goes_over_http1_though_http2_is_there() {
    local(async {
        let certificate = tls::certificate(&["backend.test"]);
        let config = tls::server_with(&certificate, &["h2", "http/1.1"]);
        let agreed = Rc::new(RefCell::new(Vec::new()));
        let note = agreed.clone();
        let backend = Backend::tls(config, move |mut stream, _| {
            let alpn = String::from_utf8(stream.get_ref().1.alpn_protocol().unwrap().to_vec()).unwrap();
            note.borrow_mut().push(alpn.clone());
            async move {
                if alpn == "h2" {
                    let service =
                        hyper::service::service_fn(|request| async { Ok::<_, Infallible>(reflect(request).await) });
                    let builder = hyper::server::conn::http2::Builder::new(Local);
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    return;
                }
                read_head(&mut stream).await;
                let head = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                stream.write_all(head).await.unwrap();
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                stream.write_all(&word).await.unwrap();
                let _ = stream.shutdown().await;
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].tls = Some(h2());
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.header("x-version"), Some("HTTP/2.0"));
        let request = Request::get("/chat").header("host", "a").header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").body(empty()).unwrap();
        let mut connection = h1(at).await;
        let response = soon("a response", connection.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 101);
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(b"ping").await.unwrap();
        assert_eq!(read_all(&mut stream).await, "ping");
        assert_eq!(*agreed.borrow(), ["h2", "http/1.1"]);
        assert_eq!(once(at, "/").await.header("x-version"), Some("HTTP/2.0"));
        assert_eq!(backend.connections(), 2, "the HTTP/2 connection was kept meanwhile");
    });
}

#[test]
fn a_refused_request_is_sent_again_once_and_a_silent_backend_is_given_up() {
    local(async {
        let certificate = tls::certificate(&["backend.test"]);
        let config = tls::server_with(&certificate, &["h2"]);
        // The first connection refuses its stream, the second answers, and then nothing is said any more.
        let backend = Backend::tls(config, |stream, n| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                if n == 0 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else if n == 1 {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"taken"), true).unwrap();
                } else {
                    spawn_local(async move {
                        std::future::pending::<()>().await;
                        drop(respond);
                    });
                }
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].tls = Some(h2());
        snapshot.pools[0].timeouts.response = snap::ms(200);
        snapshot.pools[0].max_idle_per_thread = 0;
        worker.apply(&snapshot).await;
        let post = Request::post("/").header("host", "a").body(empty()).unwrap();
        let answer = ask(&mut h1(at).await, post).await;
        assert_eq!((answer.status(), &*answer.body), (200, "taken"), "even what is not idempotent");
        assert_eq!(failures(&worker.report().await), []);
        assert_eq!(once(at, "/").await.status(), 504);
        assert_eq!(failures(&worker.report().await), [("response_timeout".to_string(), 1)]);
        until("no connection is left", async || worker.report().await.backends[0].connections_open == 0).await;
    });
}
