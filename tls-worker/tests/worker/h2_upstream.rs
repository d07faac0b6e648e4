//! Many requests on one HTTP/2 connection to a backend: who shares what, and what the end of one means for the others.

use crate::local;
use crate::support::backend::Backend;
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::{soon, until};
use bytes::Bytes;
use http::{Request, Response};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use tls_worker::api::Snapshot;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_local};

type Respond = h2::server::SendResponse<Bytes>;

/// A clear-text HTTP/2 backend that takes so many streams at once; each request, with its connection's number, goes
/// to `take`. Requests whose path is `/goaway` tell the client to go.
async fn h2c(max: u32, take: impl Fn(Request<h2::RecvStream>, Respond, usize) + 'static) -> Backend {
    let take = Rc::new(take);
    Backend::raw(move |stream, n| {
        let take = take.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.max_concurrent_streams(max);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                if request.uri().path() == "/goaway" {
                    connection.graceful_shutdown();
                }
                take(request, respond, n);
            }
        }
    })
    .await
}

fn answer(mut respond: Respond, text: impl Into<Bytes>) {
    if let Ok(mut body) = respond.send_response(Response::new(()), false) {
        let _ = body.send_data(text.into(), true);
    }
}

async fn start(backend: SocketAddr, change: impl FnOnce(&mut Snapshot)) -> (Worker, SocketAddr, Snapshot) {
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let mut snapshot = snap::http(at, &[backend]);
    snapshot.pools[0].multiplex.h2c = true;
    change(&mut snapshot);
    worker.apply(&snapshot).await;
    (worker, at, snapshot)
}

fn ask_path(at: SocketAddr, path: &'static str) -> JoinHandle<(u16, String)> {
    spawn_local(async move {
        let answer = once(at, path).await;
        (answer.status(), answer.body)
    })
}

/// A backend that answers `/hold…` when there is a permit, and everything else at once, with the connection's number.
async fn holding(max: u32) -> (Backend, Rc<Semaphore>, Rc<RefCell<Vec<usize>>>) {
    let (gate, held) = (Rc::new(Semaphore::new(0)), Rc::new(RefCell::new(Vec::new())));
    let (wait, note) = (gate.clone(), held.clone());
    let backend = h2c(max, move |request, respond, n| {
        if !request.uri().path().starts_with("/hold") {
            return answer(respond, n.to_string());
        }
        let wait = wait.clone();
        note.borrow_mut().push(n);
        spawn_local(async move {
            wait.acquire().await.unwrap().forget();
            answer(respond, n.to_string());
        });
    })
    .await;
    (backend, gate, held)
}

#[test]
fn many_requests_share_a_connection() {
    local(async {
        let (backend, gate, held) = holding(200).await;
        let (mut worker, at, _) = start(backend.address, |_| {}).await;
        let asked: Vec<_> = (0..40).map(|_| ask_path(at, "/hold")).collect();
        until("all are there at once", async || held.borrow().len() == 40).await;
        assert_eq!(backend.connections(), 1);
        gate.add_permits(40);
        for asked in asked {
            assert_eq!(asked.await.unwrap(), (200, "0".to_owned()));
        }
        let report = worker.report().await;
        assert_eq!((report.backends[0].active, report.backends[0].connections_open), (0, 1));
        assert!(report.backends[0].failures.is_empty());
    });
}

#[test]
fn neither_our_bound_of_streams_nor_the_backends_is_exceeded() {
    local(async {
        for (ours, theirs) in [(3, 100), (100, 3)] {
            let (backend, gate, held) = holding(theirs).await;
            let (_worker, at, _) = start(backend.address, |s| s.pools[0].multiplex.max_streams = ours).await;
            let asked: Vec<_> = (0..9).map(|_| ask_path(at, "/hold")).collect();
            until("all are there at once", async || held.borrow().len() == 9).await;
            let mut each = vec![0; backend.connections()];
            held.borrow().iter().for_each(|n| each[*n] += 1);
            assert!(each.iter().all(|n| *n <= 3), "{ours} {theirs}: {each:?}");
            gate.add_permits(9);
            for asked in asked {
                assert_eq!(asked.await.unwrap().0, 200);
            }
            // At rest each takes its turn: the one with the fewest.
            assert_eq!(once(at, "/").await.status(), 200);
        }
    });
}

#[test]
fn a_stream_that_is_overdue_ends_alone() {
    local(async {
        let (backend, gate, held) = holding(100).await;
        let (mut worker, at, _) = start(backend.address, |s| s.pools[0].timeouts.response = ms(400)).await;
        let slow = ask_path(at, "/hold");
        until("it is there", async || held.borrow().len() == 1).await;
        let mut others = 0;
        while !slow.is_finished() {
            assert_eq!(once(at, "/").await.body, "0");
            others += 1;
        }
        assert_eq!(slow.await.unwrap().0, 504);
        assert!(others > 3);
        assert_eq!(once(at, "/").await.body, "0");
        assert_eq!(backend.connections(), 1);
        let report = worker.report().await;
        assert_eq!(report.backends[0].failures, [("response_timeout".to_string(), 1)]);
        gate.add_permits(1);
    });
}

#[test]
fn a_body_that_falls_silent_ends_alone_and_a_slow_client_is_not_blamed() {
    local(async {
        let backend = h2c(100, |request, mut respond, _| {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            let silent = request.uri().path() == "/silent";
            spawn_local(async move {
                let _ = body.send_data(Bytes::from_static(b"part"), !silent);
                if silent {
                    std::future::pending::<()>().await;
                }
                drop(respond);
            });
        })
        .await;
        let (mut worker, at, _) = start(backend.address, |s| s.pools[0].timeouts.idle = ms(300)).await;
        let response = h1(at).await.send_request(get("a", "/silent")).await.unwrap();
        let broken = soon("an end", http_body_util::BodyExt::collect(response.into_body())).await;
        assert!(broken.is_err());
        assert_eq!(once(at, "/").await.body, "part");
        assert_eq!(backend.connections(), 1);
        assert_eq!(worker.report().await.backends[0].failures, [("idle_timeout".to_string(), 1)]);
    });
}

#[test]
fn a_client_that_goes_away_resets_its_stream_alone() {
    local(async {
        let reset = Rc::new(Cell::new(None));
        let note = reset.clone();
        let backend = h2c(100, move |request, mut respond, n| {
            if request.uri().path() != "/hold" {
                return answer(respond, n.to_string());
            }
            let note = note.clone();
            spawn_local(async move {
                note.set(std::future::poll_fn(|cx| respond.poll_reset(cx)).await.ok());
            });
        })
        .await;
        let (mut worker, at, _) = start(backend.address, |_| {}).await;
        let client = ask_path(at, "/hold");
        until("it is in flight", async || worker.report().await.backends[0].active == 1).await;
        client.abort();
        until("the backend is told", async || reset.get() == Some(h2::Reason::CANCEL)).await;
        until("nothing is in flight", async || worker.report().await.backends[0].active == 0).await;
        assert_eq!(once(at, "/").await.body, "0");
        assert_eq!(backend.connections(), 1);
    });
}

#[test]
fn a_dead_connection_is_not_used_again() {
    local(async {
        let first = Rc::new(Cell::new(true));
        let backend = Backend::raw(move |mut stream: TcpStream, _| {
            let dead = first.replace(false);
            async move {
                if dead {
                    // Settings, and then nothing is read or said any more.
                    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                    std::future::pending::<()>().await;
                }
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, respond))) = connection.accept().await {
                    answer(respond, "alive");
                }
            }
        })
        .await;
        let (mut worker, at, _) = start(backend.address, |s| s.pools[0].timeouts.response = ms(200)).await;
        assert_eq!(once(at, "/").await.status(), 504);
        assert_eq!(once(at, "/").await.body, "alive");
        until("it is closed", async || worker.report().await.backends[0].connections_open == 1).await;
    });
}

#[test]
fn a_connection_that_is_told_to_go_ends_after_its_last_request() {
    local(async {
        let (backend, gate, held) = holding(100).await;
        let (mut worker, at, _) = start(backend.address, |_| {}).await;
        let slow = ask_path(at, "/hold");
        until("it is there", async || held.borrow().len() == 1).await;
        assert_eq!(once(at, "/goaway").await.body, "0");
        soon("a new connection is used", async { while once(at, "/").await.body == "0" {} }).await;
        gate.add_permits(1);
        assert_eq!(slow.await.unwrap(), (200, "0".to_owned()));
        until("the old one is closed", async || worker.report().await.backends[0].connections_open == 1).await;
        assert!(worker.report().await.backends[0].failures.is_empty());
    });
}

#[test]
fn a_connection_that_breaks_fails_its_own_requests_only() {
    local(async {
        let (backend, gate, held) = holding(2).await;
        let kill = Rc::new(Semaphore::new(0));
        // In front of the backend: cuts the first connection when it is told to.
        let (to, wait) = (backend.address, kill.clone());
        let front = Backend::raw(move |mut stream, n| {
            let wait = wait.clone();
            async move {
                let mut onward = TcpStream::connect(to).await.unwrap();
                let copy = tokio::io::copy_bidirectional(&mut stream, &mut onward);
                if n > 0 {
                    let _ = copy.await;
                } else {
                    tokio::select! {
                        _ = copy => {}
                        permit = wait.acquire() => drop(permit),
                    }
                }
            }
        })
        .await;
        let (mut worker, at, _) = start(front.address, |_| {}).await;
        let asked: Vec<_> = (0..4).map(|_| ask_path(at, "/hold")).collect();
        until("all are there", async || held.borrow().len() == 4).await;
        kill.add_permits(1);
        gate.add_permits(100);
        let mut statuses = Vec::new();
        for asked in asked {
            statuses.push(asked.await.unwrap().0);
        }
        statuses.sort_unstable();
        assert!(statuses == [200; 4] || statuses == [200, 200, 502, 502], "{statuses:?}");
        assert_eq!(once(at, "/").await.status(), 200);
        assert!(worker.report().await.backends[0].active == 0);
    });
}
