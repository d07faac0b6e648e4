//! The control socket: snapshots, listeners, reports, drain.

use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::client::{self, *};
use crate::support::process::{Worker, spawn, wait};
use crate::support::{snap, soon, tls, until};
use http::Response;
use std::cell::Cell;
use std::rc::Rc;
use tls_worker::api::{BackendState, Command, Event, Hello, ThreadInfo, WIRE_VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

#[test]
fn a_worker_that_cannot_begin_says_why_and_ends() {
    local(async {
        let thread = |index, cpu| ThreadInfo { index, cpu };
        let hello = |version, threads| Command::Hello(Hello { version, threads, threads_in_all: 0, log: None });
        for (first, expected) in [
            (Command::Report, "not Hello"),
            (hello(99, vec![thread(0, None)]), "the control plane speaks version 99"),
            (hello(WIRE_VERSION, vec![]), "no thread"),
            (hello(WIRE_VERSION, vec![thread(1, None), thread(1, None)]), "thread 1 is there twice"),
            (hello(WIRE_VERSION, vec![thread(0, Some(1000))]), "cannot pin to CPU 1000"),
        ] {
            let (mut child, mut sender, mut receiver) = spawn();
            sender.send(&first, &[]).await.unwrap();
            match soon("an answer", receiver.receive()).await.unwrap().0 {
                Event::Refused { reason } => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{other:?}"),
            }
            assert!(!wait(&mut child).await.success());
        }
    });
}

#[test]
fn a_worker_cannot_gain_privileges() {
    local(async {
        let worker = Worker::start(1).await;
        assert_eq!(worker.status_line("NoNewPrivs"), "1");
    });
}

#[test]
fn a_rejected_snapshot_changes_nothing() {
    local(async {
        let backend = Backend::says("old").await;
        let mut worker = Worker::start(2).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut bad = snap::http(at, &[]);
        bad.services[0].routes[0].pool = 5;
        match worker.try_apply(&bad).await {
            Event::Rejected { generation: 2, reason } => {
                assert_eq!(reason, "service \"web\": route \"all\" points to pool 5 of 1");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(once(at, "/").await.body, "old");
        assert!(worker.report().await.threads.iter().all(|t| t.generation == 1));
    });
}

#[test]
fn snapshots_swap_under_load_without_a_failed_request() {
    local(async {
        let (a, b) = (Backend::says("a").await, Backend::says("b").await);
        let mut worker = Worker::start(2).await;
        let certificate = tls::certificate(&["a.test"]);
        let mut ports = Vec::new();
        for thread in 0..2 {
            ports.push(worker.listen_on(thread, "127.0.0.1").await.1);
        }
        let mut snapshot = snap::https(ports[0], vec![certificate.clone()], &[a.address, b.address]);
        let mut second = snapshot.services[0].addresses[0];
        second.port = Some(ports[1].port());
        snapshot.services[0].addresses.push(second);
        worker.apply(&snapshot).await;
        let stop = Rc::new(Cell::new(false));
        let load: Vec<_> = (0..8)
            .map(|n| {
                let (stop, certificate, at) = (stop.clone(), certificate.clone(), ports[n % 2]);
                spawn_local(async move {
                    let mut asked = 0;
                    while !stop.get() {
                        let alpn = if n < 4 { "http/1.1" } else { "h2" };
                        let stream = client::tls(at, "a.test", &certificate, &[alpn]).await;
                        if n < 4 {
                            let mut h1 = h1_on(stream).await;
                            for _ in 0..20 {
                                assert_eq!(ask(&mut h1, get("a.test", "/")).await.status(), 200);
                            }
                        } else {
                            let mut h2 = h2_on(stream).await;
                            for _ in 0..20 {
                                assert_eq!(ask2(&mut h2, get2("a.test", "/")).await.status(), 200);
                            }
                        }
                        asked += 20;
                    }
                    asked
                })
            })
            .collect();
        let states = [BackendState::Up, BackendState::Down, BackendState::Draining, BackendState::Disabled];
        for n in 0..60 {
            // One of the two is always up, each in turn; the certificate changes too.
            let pool = &mut snapshot.pools[0];
            pool.backends[n % 2].state = states[n % 4];
            pool.backends[(n + 1) % 2].state = BackendState::Up;
            snapshot.services[0].tls.as_mut().unwrap().policies[0].protocol.min_version =
                if n % 3 == 0 { tls_worker::api::TlsVersion::V13 } else { tls_worker::api::TlsVersion::V12 };
            worker.apply(&snapshot).await;
        }
        stop.set(true);
        let mut asked = 0;
        for one in load {
            asked += one.await.unwrap();
        }
        let report = worker.report().await;
        let counted: u64 = report.requests.iter().map(|r| r.seconds.count()).sum();
        assert_eq!(counted, asked);
        assert!(report.requests.iter().all(|r| r.code_class == 2), "{:?}", report.requests);
        assert!(report.backends.iter().all(|b| b.failures.is_empty()), "{:?}", report.backends);
    });
}

#[test]
fn a_report_sums_what_the_threads_did() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(3).await;
        let mut ports = Vec::new();
        for thread in 0..3 {
            ports.push(worker.listen_on(thread, "127.0.0.1").await.1);
        }
        let mut snapshot = snap::http(ports[0], &[backend.address]);
        for port in &ports[1..] {
            let mut address = snapshot.services[0].addresses[0];
            address.port = Some(port.port());
            snapshot.services[0].addresses.push(address);
        }
        let stray = worker.listen().await;
        worker.apply(&snapshot).await;
        for (n, port) in ports.iter().enumerate() {
            for _ in 0..=n {
                assert_eq!(bare(*port, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.len(), 99);
            }
        }
        assert_eq!(bare(stray, "").await, "", "an address of no service is closed at once");
        let report = worker.report().await;
        let threads: Vec<_> = report.threads.iter().map(|t| (t.index, t.connections, t.connections_unknown)).collect();
        assert_eq!(threads, [(0, 2, 1), (1, 2, 0), (2, 3, 0)]);
        let [service] = &report.services[..] else { panic!("{report:?}") };
        assert_eq!((service.connections, service.received_bytes, service.sent_bytes), (6, 6 * 46, 6 * 99));
        let [requests] = &report.requests[..] else { panic!("{report:?}") };
        assert_eq!((&*requests.service, &*requests.route, &*requests.pool), ("web", "all", "app"));
        assert_eq!((requests.backend, requests.code_class), (Some(backend.address), 2));
        assert_eq!(requests.seconds.count(), 6);
        let [kept] = &report.backends[..] else { panic!("{report:?}") };
        assert_eq!((kept.connections, kept.connections_open, kept.active), (3, 3, 0));
        assert_eq!(backend.connections(), 3, "one for each thread: they share none");
        until("nothing is open", async || worker.report().await.services[0].connections_active == 0).await;
    });
}

#[test]
fn more_connections_than_the_bound_are_closed_and_counted() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services[0].max_connections_per_thread = 2;
        worker.apply(&snapshot).await;
        let (mut one, mut two) = (h1(at).await, h1(at).await);
        assert_eq!(ask(&mut one, get("a", "/")).await.status(), 200);
        assert_eq!(ask(&mut two, get("a", "/")).await.status(), 200);
        assert_eq!(bare(at, "").await, "");
        assert_eq!(worker.report().await.services[0].connections_refused, 1);
        drop(one);
        until("there is room again", async || worker.report().await.services[0].connections_active == 1).await;
        assert_eq!(once(at, "/").await.status(), 200);
    });
}

#[test]
fn a_listener_that_is_taken_back_accepts_no_more_and_its_connections_go_on() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(2).await;
        let (id, at) = worker.listen_on(1, "::1").await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut connection = h1(at).await;
        assert_eq!(ask(&mut connection, get("a", "/")).await.status(), 200);
        worker.send(Command::Unlisten(vec![id])).await;
        until("nobody listens", async || TcpStream::connect(at).await.is_err()).await;
        assert_eq!(ask(&mut connection, get("a", "/")).await.status(), 200);
    });
}

#[test]
fn a_service_that_is_gone_ends_its_connections() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let (at, other) = (worker.listen().await, worker.listen().await);
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.services.push(snap::service("other", other, vec![snap::route("r", &[], None, 0)]));
        worker.apply(&snapshot).await;
        let (mut one, mut two) = (h1(at).await, h1(other).await);
        assert_eq!(ask(&mut one, get("a", "/")).await.status(), 200);
        assert_eq!(ask(&mut two, get("a", "/")).await.status(), 200);
        snapshot.services.remove(0);
        worker.apply(&snapshot).await;
        until("it is closed", async || one.is_closed()).await;
        assert_eq!(ask(&mut two, get("a", "/")).await.status(), 200);
        assert_eq!(bare(at, "").await, "");
    });
}

/// A backend that answers when it is let.
async fn held() -> (Backend, Rc<tokio::sync::Semaphore>) {
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
    (backend, go)
}

#[test]
fn a_drain_lets_what_is_open_finish_and_then_the_worker_ends() {
    local(async {
        let (backend, go) = held().await;
        let mut worker = Worker::start(2).await;
        let at = worker.listen().await;
        let certificate = tls::certificate(&["a.test"]);
        worker.apply(&snap::https(at, vec![certificate.clone()], &[backend.address])).await;
        let mut idle = client::tls(at, "a.test", &certificate, &["http/1.1"]).await;
        let one = client::tls(at, "a.test", &certificate, &["http/1.1"]).await;
        let two = client::tls(at, "a.test", &certificate, &["h2"]).await;
        let one = spawn_local(async move { ask(&mut h1_on(one).await, get("a.test", "/")).await });
        let two = spawn_local(async move { ask2(&mut h2_on(two).await, get2("a.test", "/")).await });
        until("both are in flight", async || worker.report().await.backends.iter().any(|b| b.active == 2)).await;
        worker.send(Command::Drain { grace_ms: 60_000 }).await;
        assert_eq!(soon("the idle one is closed", idle.read(&mut [0; 1])).await.unwrap(), 0);
        until("nobody listens", async || TcpStream::connect(at).await.is_err()).await;
        assert!(worker.runs());
        go.add_permits(2);
        let one = one.await.unwrap();
        assert_eq!((&*one.body, one.header("connection")), ("done", Some("close")));
        assert_eq!(two.await.unwrap().body, "done");
        assert!(worker.ended().await.success());
    });
}

#[test]
fn a_drain_cuts_what_is_left_after_the_grace() {
    local(async {
        let (backend, _go) = held().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        until("it is in flight", async || worker.report().await.backends.iter().any(|b| b.active == 1)).await;
        worker.send(Command::Drain { grace_ms: 60_000 }).await;
        // A second, shorter drain counts.
        worker.send(Command::Drain { grace_ms: 100 }).await;
        assert_eq!(read_all(&mut stream).await, "");
        assert!(worker.ended().await.success());
    });
}

#[test]
fn a_worker_whose_control_plane_is_gone_finishes_what_it_has() {
    local(async {
        let (backend, go) = held().await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let one = spawn_local(async move { once(at, "/").await });
        until("it is in flight", async || worker.report().await.backends.iter().any(|b| b.active == 1)).await;
        worker.orphan();
        until("nobody listens", async || TcpStream::connect(at).await.is_err()).await;
        assert!(worker.runs());
        go.add_permits(1);
        assert_eq!(one.await.unwrap().body, "done");
        assert!(worker.ended().await.success());
    });
}
