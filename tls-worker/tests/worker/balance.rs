//! Which backend of a pool a request goes to, by every way of balancing, and who takes part.

use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use http::{Request, Response};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tls_worker::api::{BackendState, Balance, Pool, Snapshot};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

async fn four() -> Vec<Backend> {
    let mut backends = Vec::new();
    for name in NAMES {
        backends.push(Backend::says(name).await);
    }
    backends
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

/// A worker of one thread with a pool of these, changed by this.
async fn start(backends: &[Backend], change: impl FnOnce(&mut Pool)) -> (Worker, SocketAddr, Snapshot) {
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let mut snapshot = snap::http(at, &addresses(backends));
    change(&mut snapshot.pools[0]);
    worker.apply(&snapshot).await;
    (worker, at, snapshot)
}

async fn ask_for(on: &mut H1, tenant: usize) -> String {
    let request = Request::get("/").header("host", "x").header("x-tenant", tenant.to_string());
    ask(on, request.body(empty()).unwrap()).await.body
}

/// Answers by backend.
async fn count(on: &mut H1, n: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for tenant in 0..n {
        *seen.entry(ask_for(on, tenant).await).or_insert(0) += 1;
    }
    seen
}

#[test]
fn a_key_stays_with_its_backend_and_comes_back_to_it() {
    local(async {
        let backends = four().await;
        let (mut worker, at, mut snapshot) = start(&backends, |pool| {
            pool.balance = Balance::Hash;
            pool.balancing.hash_key = Some("${header('x-tenant')}".into());
        })
        .await;
        let mut connection = h1(at).await;
        let mut before = Vec::new();
        for tenant in 0..60 {
            before.push(ask_for(&mut connection, tenant).await);
        }
        assert!(NAMES.iter().all(|name| before.iter().filter(|b| b == name).count() >= 5), "{before:?}");
        snapshot.pools[0].backends[1].state = BackendState::Down;
        worker.apply(&snapshot).await;
        for (tenant, was) in before.iter().enumerate() {
            let is = ask_for(&mut connection, tenant).await;
            assert!(if was == "b" { is != "b" } else { is == *was }, "{tenant}: {was}, then {is}");
        }
        snapshot.pools[0].backends[1].state = BackendState::Up;
        worker.apply(&snapshot).await;
        for (tenant, was) in before.iter().enumerate() {
            assert_eq!(ask_for(&mut connection, tenant).await, *was);
        }
        // Without a key: round.
        let mut seen = BTreeMap::new();
        for _ in 0..8 {
            *seen.entry(ask(&mut connection, get("x", "/")).await.body).or_insert(0) += 1;
        }
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [2; 4]);
        // A client's address, where no key is written.
        snapshot.pools[0].balancing.hash_key = None;
        worker.apply(&snapshot).await;
        assert_eq!(count(&mut connection, 10).await.len(), 1);
        snapshot.pools[0].balancing.hash_key = Some("${nonsense}".into());
        let refused = worker.try_apply(&snapshot).await;
        assert!(format!("{refused:?}").contains("hash key"), "{refused:?}");
    });
}

#[test]
fn chance_meets_everybody_by_weight() {
    local(async {
        let backends = four().await;
        for balance in [Balance::Random, Balance::LeastRequests] {
            let (_worker, at, _) = start(&backends, |pool| {
                pool.balance = balance;
                pool.backends[0].weight = 3;
            })
            .await;
            let seen = count(&mut h1(at).await, 300).await;
            // 150 and 50 each; six standard deviations around.
            assert!((98..203).contains(&seen["a"]), "{balance:?} {seen:?}");
            assert!(["b", "c", "d"].iter().all(|name| (10..90).contains(&seen[*name])), "{balance:?} {seen:?}");
        }
    });
}

#[test]
fn peak_ewma_leaves_the_slow_one_alone() {
    local(async {
        let slow = Backend::http(|_| async {
            tokio::time::sleep(ms(60)).await;
            Response::new(full("slow"))
        })
        .await;
        let fast = Backend::says("fast").await;
        let (_worker, at, _) = start(&[slow, fast], |pool| pool.balance = Balance::PeakEwma).await;
        let seen = count(&mut h1(at).await, 60).await;
        assert!(seen["slow"] <= 2, "{seen:?}");
    });
}

#[test]
fn priorities_backups_and_panic() {
    local(async {
        let backends = four().await;
        let (mut worker, at, mut snapshot) = start(&backends, |pool| {
            pool.backends[2].role.priority = 1;
            pool.backends[3].role.backup = true;
            pool.balancing.min_up = 2;
        })
        .await;
        let mut connection = h1(at).await;
        let names = |seen: BTreeMap<String, usize>| seen.into_keys().collect::<String>();
        assert_eq!(names(count(&mut connection, 12).await), "ab");
        for (down, expected) in [(0, "bc"), (1, "c"), (2, "d")] {
            snapshot.pools[0].backends[down].state = BackendState::Down;
            worker.apply(&snapshot).await;
            assert_eq!(names(count(&mut connection, 12).await), expected);
        }
        snapshot.pools[0].balancing.panic_percent = 50;
        worker.apply(&snapshot).await;
        assert_eq!(names(count(&mut connection, 12).await), "abcd");
        assert_eq!(worker.report().await.pools[0].panic, 1);
        snapshot.pools[0].backends[0].state = BackendState::Disabled;
        snapshot.pools[0].backends[2].state = BackendState::Up;
        worker.apply(&snapshot).await;
        assert_eq!(names(count(&mut connection, 12).await), "c");
        assert_eq!(worker.report().await.pools[0].panic, 0);
    });
}

#[test]
fn a_backend_that_came_up_grows_to_its_share() {
    local(async {
        let backends = four().await;
        let (mut worker, at, mut snapshot) = start(&backends[..2], |pool| {
            pool.balancing.slow_start = ms(3_600_000);
        })
        .await;
        let mut connection = h1(at).await;
        let seen = count(&mut connection, 20).await;
        assert_eq!((seen["a"], seen["b"]), (10, 10), "a new pool has nobody who is behind");
        snapshot.pools[0].backends[1].state = BackendState::Down;
        worker.apply(&snapshot).await;
        snapshot.pools[0].backends[1].state = BackendState::Up;
        worker.apply(&snapshot).await;
        let seen = count(&mut connection, 44).await;
        assert!((3..=6).contains(&seen["b"]), "a tenth of the weight: {seen:?}");
        snapshot.pools[0].balancing.slow_start = ms(0);
        worker.apply(&snapshot).await;
        let seen = count(&mut connection, 20).await;
        assert!(seen["b"] >= 9, "{seen:?}");
    });
}

#[test]
fn bytes_of_one_client_go_to_one_backend_by_hash() {
    local(async {
        let mut backends = Vec::new();
        for name in NAMES {
            let tell = move |mut stream: tokio::net::TcpStream, _| async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, name.as_bytes()).await;
            };
            backends.push(Backend::raw(tell).await);
        }
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &addresses(&backends));
        snapshot.pools[0].balance = Balance::Hash;
        worker.apply(&snapshot).await;
        let hello = crate::support::hello::hello(Some("a.test"), &[]);
        for _ in 0..6 {
            let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, &hello).await.unwrap();
            read_all(&mut stream).await;
        }
        let mut counts: Vec<_> = backends.iter().map(Backend::connections).collect();
        counts.sort_unstable();
        assert_eq!(counts, [0, 0, 0, 6]);
    });
}
