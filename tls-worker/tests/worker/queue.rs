//! Bounds of backends and pools, and the queue of those who find no room.

use crate::local;
use crate::support::backend::{Backend, full, read_to_close};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::until;
use http::Response;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use tls_worker::api::{Pool, PoolReport, Snapshot};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_local};

/// Answers one request for each permit, and notes their paths as they come.
async fn gated() -> (Backend, Rc<Semaphore>, Rc<RefCell<Vec<String>>>) {
    let (gate, seen) = (Rc::new(Semaphore::new(0)), Rc::new(RefCell::new(Vec::new())));
    let (wait, note) = (gate.clone(), seen.clone());
    let backend = Backend::http(move |request| {
        let wait = wait.clone();
        note.borrow_mut().push(request.uri().path().to_owned());
        async move {
            wait.acquire().await.unwrap().forget();
            Response::new(full("done"))
        }
    })
    .await;
    (backend, gate, seen)
}

async fn start(backends: &[SocketAddr], change: impl FnOnce(&mut Pool)) -> (Worker, SocketAddr, Snapshot) {
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let mut snapshot = snap::http(at, backends);
    change(&mut snapshot.pools[0]);
    worker.apply(&snapshot).await;
    (worker, at, snapshot)
}

async fn pool(worker: &mut Worker) -> PoolReport {
    worker.report().await.pools.remove(0)
}

fn ask_path(at: SocketAddr, path: &'static str) -> JoinHandle<(u16, String)> {
    spawn_local(async move {
        let answer = once(at, path).await;
        (answer.status(), answer.body)
    })
}

fn rejected(report: &tls_worker::api::Report, reason: &str) -> u64 {
    report.services[0].rejected.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n)
}

#[test]
fn who_finds_no_room_waits_in_order_and_who_leaves_is_skipped() {
    local(async {
        let (backend, gate, seen) = gated().await;
        let (mut worker, at, _) = start(&[backend.address], |pool| {
            pool.backends[0].role.max_requests = Some(1);
        })
        .await;
        let mut asked = Vec::new();
        for (n, path) in ["/1", "/2", "/3", "/4"].into_iter().enumerate() {
            asked.push(ask_path(at, path));
            until("it is there", async || pool(&mut worker).await.active == n as u64 + 1).await;
        }
        let report = pool(&mut worker).await;
        assert_eq!((report.waiting, report.waits), (3, 3));
        assert_eq!(*seen.borrow(), ["/1"]);
        asked.remove(1).abort();
        until("one has left", async || pool(&mut worker).await.waiting == 2).await;
        gate.add_permits(3);
        for asked in asked {
            assert_eq!(asked.await.unwrap(), (200, "done".to_owned()));
        }
        assert_eq!(*seen.borrow(), ["/1", "/3", "/4"]);
        let report = pool(&mut worker).await;
        assert_eq!((report.waiting, report.active, report.overflows, report.timeouts), (0, 0, 0, 0));
        assert_eq!(report.wait_seconds.count(), 2);
    });
}

#[test]
fn a_full_queue_and_a_long_wait_are_503() {
    local(async {
        let (backend, gate, _) = gated().await;
        let (mut worker, at, _) = start(&[backend.address], |pool| {
            pool.backends[0].role.max_requests = Some(1);
            pool.limits.queue = 1;
            pool.limits.queue_timeout = ms(400);
        })
        .await;
        let first = ask_path(at, "/1");
        until("it is there", async || pool(&mut worker).await.active == 1).await;
        let second = ask_path(at, "/2");
        until("it waits", async || pool(&mut worker).await.waiting == 1).await;
        let busy = (503, "503 the backends are busy\n".to_owned());
        assert_eq!(ask_path(at, "/3").await.unwrap(), busy);
        assert_eq!(second.await.unwrap(), busy);
        gate.add_permits(1);
        assert_eq!(first.await.unwrap().0, 200);
        let report = worker.report().await;
        assert_eq!((report.pools[0].overflows, report.pools[0].timeouts), (1, 1));
        assert_eq!((rejected(&report, "queue_full"), rejected(&report, "queue_timeout")), (1, 1));
    });
}

#[test]
fn connections_are_bounded_and_used_in_turn() {
    local(async {
        let (backend, gate, _) = gated().await;
        for of_pool in [false, true] {
            let before = backend.connections();
            let (mut worker, at, _) = start(&[backend.address], |pool| match of_pool {
                true => pool.limits.max_connections = Some(2),
                false => pool.backends[0].role.max_connections = Some(2),
            })
            .await;
            let asked: Vec<_> = (0..8).map(|_| ask_path(at, "/")).collect();
            until("six wait", async || pool(&mut worker).await.waiting == 6).await;
            gate.add_permits(8);
            for asked in asked {
                assert_eq!(asked.await.unwrap().0, 200);
            }
            assert_eq!(backend.connections() - before, 2);
            let circuit = pool(&mut worker).await.circuit;
            assert_eq!(circuit, if of_pool { vec![("connections".to_string(), 6)] } else { vec![] });
        }
    });
}

#[test]
fn bounds_of_a_pool_are_503_with_their_reason() {
    local(async {
        let (backend, gate, _) = gated().await;
        let (mut worker, at, mut snapshot) = start(&[backend.address], |pool| pool.limits.max_requests = Some(2)).await;
        let asked = [ask_path(at, "/"), ask_path(at, "/")];
        until("both are there", async || pool(&mut worker).await.active == 2).await;
        assert_eq!(ask_path(at, "/").await.unwrap().0, 503);
        assert_eq!(pool(&mut worker).await.circuit, [("requests".to_string(), 1)]);
        snapshot.pools[0].limits.max_requests = None;
        snapshot.pools[0].limits.max_pending = Some(1);
        snapshot.pools[0].backends[0].role.max_requests = Some(2);
        worker.apply(&snapshot).await;
        let waits = ask_path(at, "/");
        until("it waits", async || pool(&mut worker).await.waiting == 1).await;
        assert_eq!(ask_path(at, "/").await.unwrap().0, 503);
        gate.add_permits(3);
        for asked in asked.into_iter().chain([waits]) {
            assert_eq!(asked.await.unwrap().0, 200);
        }
        let report = worker.report().await;
        assert_eq!((rejected(&report, "circuit_requests"), rejected(&report, "circuit_pending")), (1, 1));
        assert_eq!(report.pools[0].circuit, [("requests".to_string(), 1), ("pending".to_string(), 1)]);
    });
}

#[test]
fn bytes_wait_for_a_connection_too() {
    local(async {
        let backend = Backend::raw(|mut stream, _| async move {
            read_to_close(&mut stream).await;
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &[backend.address]);
        snapshot.pools[0].backends[0].role.max_connections = Some(1);
        worker.apply(&snapshot).await;
        let hello = crate::support::hello::hello(Some("a.test"), &[]);
        let mut first = TcpStream::connect(at).await.unwrap();
        first.write_all(&hello).await.unwrap();
        until("it is there", async || backend.connections() == 1).await;
        let mut second = TcpStream::connect(at).await.unwrap();
        second.write_all(&hello).await.unwrap();
        until("it waits", async || pool(&mut worker).await.waiting == 1).await;
        drop(first);
        until("it has its turn", async || backend.connections() == 2).await;
        assert_eq!(pool(&mut worker).await.waiting, 0);
    });
}
