//! Requests that a second pool gets too.

use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::{snap, until};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use tls_worker::api::*;

type Seen = Rc<RefCell<Vec<String>>>;

/// A backend that notes targets and bodies.
async fn noting(seen: &Seen) -> Backend {
    let seen = seen.clone();
    Backend::http(move |request| {
        let seen = seen.clone();
        async move {
            let target = request.uri().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            seen.borrow_mut().push(format!("{target} {}", String::from_utf8_lossy(&body)));
            if target.starts_with("/stuck") {
                std::future::pending::<()>().await;
            }
            Response::new(full("the mirror's own"))
        }
    })
    .await
}

struct Site {
    worker: Worker,
    at: SocketAddr,
    seen: Seen,
    _backends: [Backend; 2],
}

async fn site(mirror: Mirror) -> Site {
    let seen = Seen::default();
    let main = Backend::http(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(format!("main {}", body.len())))
    })
    .await;
    let backends = [main, noting(&seen).await];
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let mut snapshot = snap::http(at, &[backends[0].address]);
    snapshot.pools.push(snap::pool("mirror", &[backends[1].address]));
    snapshot.services[0].routes[0].mirror = Some(mirror);
    worker.apply(&snapshot).await;
    Site { worker, at, seen, _backends: backends }
}

fn mirror(percent: u8) -> Mirror {
    Mirror { pool: 1, percent, max_body: 1000, max_in_flight: 2, timeout: snap::ms(500) }
}

fn post(path: &str, body: &'static str) -> Request<Body> {
    let body = Full::new(Bytes::from_static(body.as_bytes())).boxed();
    Request::post(path).header("host", "a.test").body(body).unwrap()
}

impl Site {
    async fn mirrored(&mut self, expected: &[(&str, u64)]) {
        until(&format!("{expected:?}"), async || {
            let counted = &self.worker.report().await.services[0].mirrored;
            counted.iter().map(|(word, n)| (word.as_str(), *n)).eq(expected.iter().copied())
        })
        .await;
    }
}

#[test]
fn a_share_of_requests_is_copied_with_their_bodies() {
    local(async {
        let mut site = site(mirror(50)).await;
        let mut connection = h1(site.at).await;
        for n in 0..8 {
            let answer = ask(&mut connection, post(&format!("/{n}"), "body")).await;
            assert_eq!(answer.body, "main 4");
            assert_eq!(ask(&mut connection, get("a.test", "/get")).await.body, "main 0");
            // One at a time, so that none is left out.
            site.mirrored(&[("answered", n + 1)]).await;
        }
        // Every second one: those without a body.
        assert_eq!(*site.seen.borrow(), vec!["/get "; 8]);
    });
}

#[test]
fn a_body_is_copied_whole_or_the_request_is_not() {
    local(async {
        let mut site = site(mirror(100)).await;
        let mut connection = h1(site.at).await;
        let long: &'static str = "x".repeat(1001).leak();
        assert_eq!(ask(&mut connection, post("/short", "body")).await.body, "main 4");
        assert_eq!(ask(&mut connection, post("/long", long)).await.body, "main 1001");
        // In pieces, whose sum is not known before.
        let pieces =
            [&long[..600], &long[600..]].map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes()))));
        let pieces = http_body_util::StreamBody::new(futures_util::stream::iter(pieces)).boxed();
        let chunked = Request::post("/chunked").header("host", "a.test").body(pieces).unwrap();
        assert_eq!(ask(&mut connection, chunked).await.body, "main 1001");
        site.mirrored(&[("answered", 1), ("too_long", 2)]).await;
        assert_eq!(*site.seen.borrow(), ["/short body"]);
    });
}

#[test]
fn a_body_whose_end_comes_late_is_copied_when_its_length_has_come() {
    local(async {
        let mut site = site(mirror(100)).await;
        let mut h2 = h2_on(tokio::net::TcpStream::connect(site.at).await.unwrap()).await;
        let data = futures_util::stream::iter([Ok(http_body::Frame::data(Bytes::from_static(b"body")))]);
        let endless = futures_util::StreamExt::chain(data, futures_util::stream::pending());
        let request = Request::post("http://a.test/late").header("content-length", "4");
        let request = request.body(http_body_util::StreamBody::new(endless).boxed()).unwrap();
        assert_eq!(ask2(&mut h2, request).await.body, "main 4");
        site.mirrored(&[("answered", 1)]).await;
        assert_eq!(*site.seen.borrow(), ["/late body"]);
    });
}

#[test]
fn a_mirror_that_is_stuck_holds_nobody_up() {
    local(async {
        let mut site = site(mirror(100)).await;
        let mut connection = h1(site.at).await;
        for _ in 0..5 {
            assert_eq!(ask(&mut connection, get("a.test", "/stuck")).await.body, "main 0");
        }
        site.mirrored(&[("timeout", 2), ("busy", 3)]).await;
        // Places are free again.
        assert_eq!(ask(&mut connection, get("a.test", "/free")).await.body, "main 0");
        site.mirrored(&[("answered", 1), ("timeout", 2), ("busy", 3)]).await;
    });
}
