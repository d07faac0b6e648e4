//! As many connections as may be, and no descriptor for one more: who gives way, and in which order.

use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::snap;
use crate::support::{soon, until};
use http::Response;
use std::rc::Rc;
use tls_worker::api::ThreadReport;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const MOST: u32 = 20;

async fn thread(worker: &mut Worker) -> ThreadReport {
    worker.report().await.threads.swap_remove(0)
}

#[test]
fn the_oldest_gives_way_then_who_comes_and_never_a_request() {
    local(async {
        let answers = Rc::new(Semaphore::new(0));
        let backend = {
            let answers = answers.clone();
            Backend::http(move |_| {
                let answers = answers.clone();
                async move {
                    drop(answers.acquire().await.unwrap());
                    Response::new(full("hello"))
                }
            })
            .await
        };
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[backend.address]);
        snapshot.max_connections_per_thread = MOST;
        worker.apply(&snapshot).await;

        // The oldest of all has a request under way; the next one is idle.
        let mut busy = h1(at).await;
        let asked = tokio::task::spawn_local(async move { ask(&mut busy, get("a", "/")).await.status() });
        until("the request is under way", async || backend.connections() == 1).await;
        let mut idle = Vec::new();
        for n in 1..MOST - 2 {
            idle.push(TcpStream::connect(at).await.unwrap());
            let count = u64::from(n) + 1;
            until("it is accepted", async || thread(&mut worker).await.connections == count).await;
        }
        assert_eq!(thread(&mut worker).await.connections_asked, 0, "nine tenths are not reached");
        idle.push(TcpStream::connect(at).await.unwrap());
        idle.push(TcpStream::connect(at).await.unwrap());
        // The busy one was asked first, and answers; an idle one is closed.
        soon("the oldest that is idle is closed", idle[0].read(&mut [0])).await.unwrap();
        let report = thread(&mut worker).await;
        assert_eq!((report.connections_asked, report.connections_refused), (2, 0), "{report:?}");
        answers.add_permits(1000);
        assert_eq!(soon("its answer", asked).await.unwrap(), 200);

        // Connections that do not go: at the bound who comes is refused.
        answers.forget_permits(1000);
        drop(idle);
        until("all are gone", async || thread(&mut worker).await.connections_active == 0).await;
        let mut pending = Vec::new();
        for _ in 0..MOST {
            let mut one = h1(at).await;
            pending.push(tokio::task::spawn_local(async move { ask(&mut one, get("a", "/")).await.status() }));
            let count = pending.len() as u64;
            until("it is served", async || worker.report().await.backends[0].active == count).await;
        }
        assert_eq!(bare(at, "").await, "");
        assert_eq!(thread(&mut worker).await.connections_refused, 1);
        answers.add_permits(1000);
        for one in pending {
            assert_eq!(soon("its answer", one).await.unwrap(), 200, "nothing that is under way is cut");
        }
        until("there is room again", async || thread(&mut worker).await.connections_active == 0).await;
        assert_eq!(once(at, "/").await.status(), 200);
    });
}

#[test]
fn without_descriptors_the_oldest_are_asked_to_end_and_it_goes_on() {
    local(async {
        let backend = Backend::says("hello").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        assert_eq!(once(at, "/").await.status(), 200);
        worker.allow_files(64);
        let mut idle = Vec::new();
        for _ in 0..100 {
            idle.push(TcpStream::connect(at).await.unwrap());
        }
        until("no descriptor is left", async || thread(&mut worker).await.accept_failures > 0).await;
        soon("an idle one is closed", idle[0].read(&mut [0])).await.unwrap();
        // Whoever waited in the queue is accepted, and served.
        assert_eq!(once(at, "/").await.status(), 200);
        let report = thread(&mut worker).await;
        assert!(report.connections_asked > 0 && report.connections_refused == 0, "{report:?}");
        assert!(worker.runs());
    });
}
