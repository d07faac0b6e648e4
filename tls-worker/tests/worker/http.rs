//! What HTTP goes through the edge, and how.

use crate::local;
use crate::support::backend::{Backend, answer_once, full, read_head};
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::{snap, soon, tls, until};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A backend that answers with the header it got, one line a field, sorted.
async fn mirror() -> Backend {
    Backend::http(|request| async move {
        let mut lines = vec![format!("{} {} {:?}", request.method(), request.uri(), request.version())];
        let mut fields: Vec<_> =
            request.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        fields.sort();
        lines.extend(fields);
        Response::new(full(lines.join("\n")))
    })
    .await
}

#[test]
fn a_backend_gets_a_rebuilt_request_over_http1() {
    local(async {
        let backend = mirror().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let request = Request::get("/p?q=1")
            .header("host", "A.test:8080")
            .header("connection", "keep-alive, x-private")
            .header("x-private", "1")
            .header("keep-alive", "300")
            .header("proxy-authorization", "secret")
            .header("te", "gzip, trailers")
            .header("expect", "100-continue")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "gopher")
            .header("x-forwarded-host", "evil")
            .header("x-forwarded-port", "1")
            .header("forwarded", "for=6.6.6.6")
            .header("x-real-ip", "6.6.6.6")
            .header("x-kept", "yes")
            .body(empty())
            .unwrap();
        let answer = ask(&mut h1(at).await, request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.body.lines().collect::<Vec<_>>(),
            [
                "GET /p?q=1 HTTP/1.1",
                "connection: te",
                "host: A.test:8080",
                "te: trailers",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: A.test:8080",
                &format!("x-forwarded-port: {}", at.port()),
                "x-forwarded-proto: http",
                "x-kept: yes",
            ]
        );
    });
}

#[test]
fn a_backend_gets_a_rebuilt_request_over_http2() {
    local(async {
        let backend = mirror().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let certificate = tls::certificate(&["a.test"]);
        worker.apply(&snap::https(at, vec![certificate.clone()], &[backend.address])).await;
        let mut h2 = h2_on(client::tls(at, "a.test", &certificate, &["h2"]).await).await;
        let request = Request::get("https://a.test/p?q=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "6.6.6.6")
            .body(empty())
            .unwrap();
        let answer = ask2(&mut h2, request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.head.version, http::Version::HTTP_2);
        assert_eq!(
            answer.body.lines().collect::<Vec<_>>(),
            [
                "GET /p?q=1 HTTP/1.1",
                "cookie: a=1; b=2",
                "host: a.test",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: a.test",
                &format!("x-forwarded-port: {}", at.port()),
                "x-forwarded-proto: https",
            ]
        );
    });
}

#[test]
fn http2_with_prior_knowledge_is_served_in_clear_text() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut h2 = h2_on(TcpStream::connect(at).await.unwrap()).await;
        let request = Request::get("http://a.test/").body(empty()).unwrap();
        assert_eq!(ask2(&mut h2, request).await.body, "hello");
        // Written byte by byte, the preface is still seen for what it is, and a request that begins like it too.
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in "PROPFIND / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".bytes() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(read_all(&mut stream).await.ends_with("hello"));
    });
}

#[test]
fn a_client_gets_a_rebuilt_response() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            let response = "HTTP/1.1 200 Fine\r\nconnection: x-private, close\r\nx-private: 1\r\nkeep-alive: 5\r\n\
                proxy-authenticate: x\r\nupgrade: h2c\r\nx-kept: yes\r\ncontent-length: 2\r\n\r\nok";
            answer_once(&mut stream, response).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].served_by_header = Some("x-served-by".into());
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        for _ in 0..2 {
            // The backend's close is its own: the client's connection goes on.
            let answer = ask(&mut connection, get("a.test", "/")).await;
            let mut names: Vec<_> = answer.head.headers.keys().map(|n| n.as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, ["content-length", "date", "x-kept", "x-served-by"]);
            let served_by = answer.header("x-served-by").unwrap();
            assert!(served_by.starts_with("worker=0; cpu=-; incoming-cpu="), "{served_by}");
            assert!(served_by.ends_with("; generation=1"), "{served_by}");
            assert_eq!(answer.body, "ok");
        }
    });
}

#[test]
fn responses_without_a_body_and_http_1_0_are_framed_right() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            while let Some(head) = read_head(&mut stream).await {
                let answer = if head.starts_with("HEAD") {
                    "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"
                } else if head.contains("/204") {
                    "HTTP/1.1 204 No Content\r\n\r\n"
                } else if head.contains("/304") {
                    "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: \"x\"\r\n\r\n"
                } else {
                    "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut connection = h1(at).await;
        let head = Request::head("/").header("host", "a").body(empty()).unwrap();
        let answer = ask(&mut connection, head).await;
        assert_eq!((answer.status(), answer.header("content-length"), &*answer.body), (200, Some("500"), ""));
        let answer = ask(&mut connection, get("a", "/204")).await;
        assert_eq!((answer.status(), answer.header("content-length"), &*answer.body), (204, None, ""));
        let answer = ask(&mut connection, get("a", "/304")).await;
        assert_eq!((answer.status(), answer.header("etag"), &*answer.body), (304, Some("\"x\""), ""));
        // An informational response of the backend is no answer.
        let answer = ask(&mut connection, get("a", "/")).await;
        assert_eq!((answer.status(), &*answer.body), (200, "abc"));
        assert_eq!(backend.connections(), 1, "each response was whole, so one connection served them all");
        // HTTP/1.0 knows no chunks.
        let old = bare(at, "GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
        assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("\r\n\r\nabc"), "{old}");
        assert!(!old.contains("transfer-encoding"), "{old}");
    });
}

#[test]
fn what_cannot_be_served_is_answered_by_the_edge() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools.push(snap::pool("empty", &[]));
        snapshot.services[0].routes = vec![
            snap::route("app", &["a.test", "*.w.test"], Some("/app"), 0),
            snap::route("empty", &["a.test"], Some("/empty"), 1),
        ];
        worker.apply(&snapshot).await;
        for (request, status, text) in [
            ("GET /app HTTP/1.1\r\nhost: a.test\r\n", 200, "hello"),
            ("GET /app/x HTTP/1.1\r\nhost: A.TEST:99\r\n", 200, "hello"),
            ("GET http://x.w.test/app HTTP/1.1\r\nhost: x.w.test\r\n", 200, "hello"),
            ("GET /apple HTTP/1.1\r\nhost: a.test\r\n", 404, "404 nothing is served here\n"),
            ("GET /app HTTP/1.1\r\nhost: b.test\r\n", 404, "404 nothing is served here\n"),
            ("GET /empty HTTP/1.1\r\nhost: a.test\r\n", 503, "503 no backend is available\n"),
            ("GET /app HTTP/1.1\r\n", 400, "400 exactly one valid host is needed\n"),
            ("GET /app HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n", 400, "400 exactly one valid host is needed\n"),
            ("GET /app HTTP/1.1\r\nhost: a.test/app\r\n", 400, "400 exactly one valid host is needed\n"),
            ("GET http://b.test/app HTTP/1.1\r\nhost: a.test\r\n", 400, "400 exactly one valid host is needed\n"),
            ("TRACE /app HTTP/1.1\r\nhost: a.test\r\n", 405, "405 this method is not served\n"),
            ("CONNECT a.test:80 HTTP/1.1\r\nhost: a.test\r\n", 405, "405 this method is not served\n"),
        ] {
            let answer = bare(at, &format!("{request}connection: close\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
            assert!(answer.ends_with(text), "{request}{answer}");
        }
        let report = worker.report().await;
        let rejected = &report.services[0].rejected;
        let of = |reason: &str| rejected.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n);
        assert_eq!((of("host"), of("method"), of("no_route")), (4, 2, 2));
        // What is no HTTP at all, or too much of it, is refused too, and the worker lives on.
        assert!(bare(at, "\0\0\0\0 nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000));
        assert!(bare(at, &many).await.starts_with("HTTP/1.1 431 "));
        assert!(worker.runs());
    });
}

#[test]
fn trailers_pass_both_ways() {
    local(async {
        let seen = Rc::new(RefCell::new(None));
        let note = seen.clone();
        let backend = Backend::http(move |request| {
            let note = note.clone();
            async move {
                let body = request.into_body().collect().await.unwrap();
                *note.borrow_mut() = body.trailers().cloned();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-sum", "42".parse().unwrap());
                let frames = [Ok(Frame::data(Bytes::from("body"))), Ok(Frame::trailers(trailers))];
                let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
                Response::builder().header("trailer", "x-sum").body(body).unwrap()
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let certificate = tls::certificate(&["a.test"]);
        worker.apply(&snap::https(at, vec![certificate.clone()], &[backend.address])).await;
        let upload = || {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-end", "7".parse().unwrap());
            let frames =
                [Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from("up"))), Ok(Frame::trailers(trailers))];
            StreamBody::new(futures_util::stream::iter(frames)).boxed()
        };
        let mut h2 = h2_on(client::tls(at, "a.test", &certificate, &["h2"]).await).await;
        let request = Request::post("https://a.test/").header("trailer", "x-end").header("te", "trailers");
        let answer = ask2(&mut h2, request.body(upload()).unwrap()).await;
        assert_eq!((&*answer.body, answer.trailers.unwrap()["x-sum"].to_str().unwrap()), ("body", "42"));
        assert_eq!(seen.take().unwrap()["x-end"], "7");

        let mut h1 = h1_on(client::tls(at, "a.test", &certificate, &["http/1.1"]).await).await;
        let request = Request::post("/").header("host", "a.test").header("trailer", "x-end").header("te", "trailers");
        let answer = ask(&mut h1, request.body(upload()).unwrap()).await;
        assert_eq!((&*answer.body, answer.trailers.unwrap()["x-sum"].to_str().unwrap()), ("body", "42"));
        assert_eq!(seen.take().unwrap()["x-end"], "7");
    });
}

#[test]
fn a_client_that_expects_100_continue_gets_it_and_then_the_answer() {
    local(async {
        let backend = Backend::http(|request| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(full(body))
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut first = vec![0; expected.len()];
        soon("100 Continue", stream.read_exact(&mut first)).await.unwrap();
        assert_eq!(first, expected);
        stream.write_all(b"data").await.unwrap();
        let rest = read_all(&mut stream).await;
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("data"), "{rest}");
    });
}

#[test]
fn ambiguous_framing_reaches_no_backend_as_two_requests() {
    local(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = seen.clone();
        let backend = Backend::http(move |request| {
            let note = note.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                note.borrow_mut().push((path, body));
                Response::new(full("ok"))
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let smuggle = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        for header in [
            format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", smuggle.len()),
            format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", smuggle.len()),
            format!("content-length: {}\r\ncontent-length: 3\r\n", smuggle.len()),
            "transfer-encoding: xchunked\r\n".to_owned(),
            "transfer-encoding: chunked, identity\r\n".to_owned(),
        ] {
            let first = format!("POST /first HTTP/1.1\r\nhost: a\r\n{header}connection: close\r\n\r\n{smuggle}");
            bare(at, &first).await;
        }
        until("the backend is idle", async || worker.report().await.backends.iter().all(|b| b.active == 0)).await;
        for (path, body) in seen.take() {
            assert_eq!((&*path, body.len()), ("/first", 0));
        }
    });
}
