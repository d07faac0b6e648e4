//! Which backend a request goes to, over what connection, and what becomes of failures.

use crate::local;
use crate::support::backend::{Backend, full, read_head, read_to_close};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::{snap, tls, until};
use http::{Request, Response};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use tls_worker::api::{BackendState, Balance, UpstreamTls};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn round_robin_follows_weights_and_states() {
    local(async {
        let (a, b, c) = (Backend::says("a").await, Backend::says("b").await, Backend::says("c").await);
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[a.address, b.address, c.address]);
        snapshot.pools[0].backends[0].weight = 3;
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        let count = async |connection: &mut H1| {
            let mut seen = BTreeMap::new();
            for _ in 0..20 {
                *seen.entry(ask(connection, get("x", "/")).await.body).or_insert(0) += 1;
            }
            seen.into_iter().map(|(k, n)| format!("{k}{n}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(count(&mut connection).await, "a12 b4 c4");
        for state in [BackendState::Down, BackendState::Draining, BackendState::Disabled] {
            snapshot.pools[0].backends[0].state = state;
            worker.apply(&snapshot).await;
            assert_eq!(count(&mut connection).await, "b10 c10", "{state:?}");
        }
        assert_eq!((a.connections(), b.connections(), c.connections()), (1, 1, 1), "connections are kept and used");
    });
}

#[test]
fn least_connections_avoids_the_busy_one() {
    local(async {
        let slow = Backend::http(|_| std::future::pending()).await;
        let fast = Backend::says("fast").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[slow.address, fast.address]);
        snapshot.pools[0].balance = Balance::LeastConnections;
        worker.apply(&snapshot).await;
        let hold = spawn_local(async move { h1(at).await.send_request(get("x", "/")).await.is_ok() });
        until("a request is held", async || slow.connections() == 1).await;
        let mut connection = h1(at).await;
        for _ in 0..10 {
            assert_eq!(ask(&mut connection, get("x", "/")).await.body, "fast");
        }
        assert_eq!(slow.connections(), 1);
        hold.abort();
    });
}

#[test]
fn a_request_in_flight_on_a_draining_backend_goes_on() {
    local(async {
        let go = Rc::new(tokio::sync::Semaphore::new(0));
        let wait = go.clone();
        let backend = Backend::http(move |_| {
            let wait = wait.clone();
            async move {
                let _ = wait.acquire().await.unwrap();
                Response::new(full("done"))
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        worker.apply(&snapshot).await;
        let held = spawn_local(async move { once(at, "/").await });
        until("it is held", async || worker.report().await.backends.iter().any(|b| b.active == 1)).await;
        snapshot.pools[0].backends[0].state = BackendState::Draining;
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 503);
        snapshot.pools[0].backends.clear();
        worker.apply(&snapshot).await;
        assert_eq!(worker.report().await.backends[0].active, 1, "it is counted even when it is in no snapshot");
        go.add_permits(1);
        assert_eq!(held.await.unwrap().body, "done");
        until("it is over", async || {
            let b = worker.report().await.backends.remove(0);
            (b.active, b.connections_open) == (0, 0)
        })
        .await;
    });
}

#[test]
fn a_backend_that_refuses_is_passed_over_once() {
    local(async {
        let backend = Backend::says("hello").await;
        let (dead, dead_too) = (nobody(), nobody());
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[dead, backend.address])).await;
        for _ in 0..4 {
            assert_eq!(once(at, "/").await.body, "hello");
        }
        let failures = |report: &tls_worker::api::Report, a: SocketAddr| {
            report.backends.iter().find(|b| b.backend == a).unwrap().failures.clone()
        };
        assert_eq!(failures(&worker.report().await, dead), [("connect".to_string(), 2)]);
        // One retry, not as many as there are backends.
        worker.apply(&snap::http(at, &[dead, dead_too])).await;
        let answer = once(at, "/").await;
        assert_eq!((answer.status(), &*answer.body), (502, "502 the backend did not answer properly\n"));
        worker.apply(&snap::http(at, &[dead])).await;
        assert_eq!(once(at, "/").await.status(), 502);
    });
}

/// Serves one request on each connection, and breaks it off in the middle of the second.
async fn forgetful(seen: Rc<RefCell<Vec<String>>>) -> Backend {
    Backend::raw(move |mut stream, n| {
        let seen = seen.clone();
        async move {
            let note = |head: &str| seen.borrow_mut().push(format!("{n} {}", head.lines().next().unwrap()));
            note(&read_head(&mut stream).await.unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            if let Some(head) = read_head(&mut stream).await {
                note(&head);
            }
        }
    })
    .await
}

#[test]
fn a_kept_connection_that_the_backend_closed_costs_no_request() {
    local(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let backend = forgetful(seen.clone()).await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut connection = h1(at).await;
        for path in ["/1", "/2", "/3"] {
            assert_eq!(ask(&mut connection, get("x", path)).await.body, "ok");
        }
        let expected = ["0 GET /1", "0 GET /2", "1 GET /2", "1 GET /3", "2 GET /3"];
        assert_eq!(*seen.borrow(), expected.map(|l| format!("{l} HTTP/1.1")));
        // What is not idempotent may have been done: it is not tried again.
        let post = Request::post("/4").header("host", "x").body(empty()).unwrap();
        assert_eq!(ask(&mut connection, post).await.status(), 502);
        assert_eq!(seen.borrow().last().unwrap(), "2 POST /4 HTTP/1.1");
        let failures = worker.report().await.backends[0].failures.clone();
        assert_eq!(failures, [("reset".to_string(), 1)]);
    });
}

#[test]
fn a_backend_that_speaks_nonsense_is_502() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(b"\x01\x02nonsense\r\n\r\n").await.unwrap();
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        assert_eq!(once(at, "/").await.status(), 502);
        assert_eq!(worker.report().await.backends[0].failures, [("reset".to_string(), 1)]);
    });
}

#[test]
fn a_backends_certificate_is_verified_unless_said_otherwise() {
    local(async {
        let (named, other) = (tls::certificate(&["backend.test"]), tls::certificate(&["backend.test"]));
        let by_ip = tls::certificate(&["127.0.0.1"]);
        let hello = |_| async { Response::new(full("hello")) };
        let of_name = Backend::https(tls::server(&named), hello).await;
        let of_ip = Backend::https(tls::server(&by_ip), hello).await;
        let clear = Backend::says("clear").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        for (what, backend, verify, root, name, status) in [
            ("right CA and name", &of_name, true, &named, Some("backend.test"), 200),
            ("wrong CA", &of_name, true, &other, Some("backend.test"), 502),
            ("wrong name", &of_name, true, &named, Some("wrong.test"), 502),
            ("by address, but it has none", &of_name, true, &named, None, 502),
            ("by address", &of_ip, true, &by_ip, None, 200),
            ("not verified", &of_name, false, &other, Some("wrong.test"), 200),
            ("no TLS there", &clear, false, &other, None, 502),
        ] {
            let mut snapshot = snap::http(at, &[backend.address]);
            let roots = vec![root.chain[0].clone()];
            snapshot.pools[0].tls =
                Some(UpstreamTls { verify, roots, server_name: name.map(str::to_owned), ..Default::default() });
            let before = tls_failures(&worker.report().await);
            worker.apply(&snapshot).await;
            assert_eq!(once(at, "/").await.status(), status, "{what}");
            let after = tls_failures(&worker.report().await);
            assert_eq!(after - before, u64::from(status == 502), "{what}");
        }
    });
}

fn tls_failures(report: &tls_worker::api::Report) -> u64 {
    report.backends.iter().flat_map(|b| &b.failures).filter(|(kind, _)| kind.starts_with("tls")).map(|(_, n)| n).sum()
}

#[test]
fn a_connection_made_under_other_rules_is_not_used() {
    local(async {
        let certificate = tls::certificate(&["backend.test"]);
        let backend = Backend::https(tls::server(&certificate), |_| async { Response::new(full("hello")) }).await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.pools[0].tls = Some(UpstreamTls::default());
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 200);
        let roots = vec![tls::certificate(&["backend.test"]).chain[0].clone()];
        snapshot.pools[0].tls =
            Some(UpstreamTls { verify: true, roots, server_name: Some("backend.test".into()), ..Default::default() });
        worker.apply(&snapshot).await;
        assert_eq!(once(at, "/").await.status(), 502, "a waiting connection to it was never verified");
    });
}
