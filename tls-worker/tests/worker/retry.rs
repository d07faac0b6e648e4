//! What is tried again, what never is, and what becomes of tries that are not needed any more.

use crate::local;
use crate::support::backend::{Backend, full, read_head, read_to_close};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::{soon, until};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use tls_worker::api::{Hedge, Outliers, PoolReport, Retry, RetryBudget, RetryOn, Snapshot};
use tokio::task::spawn_local;

type Seen = Rc<RefCell<Vec<String>>>;

/// Notes each request, then closes the connection without a word.
async fn breaks(name: &'static str, seen: &Seen) -> Backend {
    let seen = seen.clone();
    Backend::raw(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            if let Some(head) = read_head(&mut stream).await {
                seen.borrow_mut().push(format!("{name} {}", head.split(' ').next().unwrap()));
            }
        }
    })
    .await
}

/// Notes each request with its body, and answers with this code and its name.
async fn answers(name: &'static str, code: u16, seen: &Seen) -> Backend {
    let seen = seen.clone();
    Backend::http(move |request| {
        let seen = seen.clone();
        async move {
            let method = request.method().clone();
            let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or(0);
            seen.borrow_mut().push(format!("{name} {method} {body}"));
            let mut response = Response::new(full(name));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            response
        }
    })
    .await
}

/// Takes requests and never answers.
async fn hangs() -> Backend {
    Backend::raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        read_to_close(&mut stream).await;
    })
    .await
}

async fn start(backends: &[&Backend], retry: Retry) -> (Worker, SocketAddr, Snapshot) {
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let mut snapshot = snap::http(at, &addresses);
    snapshot.pools[0].retry = retry;
    worker.apply(&snapshot).await;
    (worker, at, snapshot)
}

async fn pool(worker: &mut Worker) -> PoolReport {
    worker.report().await.pools.remove(0)
}

fn request(method: Method, body: usize) -> Request<Body> {
    let body = Full::new(vec![b'x'; body].into()).boxed();
    Request::builder().method(method).uri("/").header("host", "x").body(body).unwrap()
}

fn everything() -> Retry {
    let on = vec![RetryOn::Connect, RetryOn::Refused, RetryOn::Reset, RetryOn::Timeout];
    Retry { tries: 5, on, codes: vec![500, 502, 503, 504], buffer: 4096, ..Retry::default() }
}

#[test]
fn what_is_not_idempotent_is_given_to_one_backend_only() {
    local(async {
        let seen = Seen::default();
        let (a, b) = (breaks("a", &seen).await, breaks("b", &seen).await);
        let (mut worker, at, mut snapshot) = start(&[&a, &b], everything()).await;
        for (method, body) in [(Method::POST, 0), (Method::POST, 100), (Method::PATCH, 10)] {
            seen.borrow_mut().clear();
            let answer = ask(&mut h1(at).await, request(method.clone(), body)).await;
            assert_eq!(answer.status(), 502);
            assert_eq!(seen.borrow().len(), 1, "{method} {:?}", seen.borrow());
        }
        // Nor after an answer.
        let (c, d) = (answers("c", 503, &seen).await, answers("d", 503, &seen).await);
        snapshot.pools[0].backends = snap::http(at, &[c.address, d.address]).pools.remove(0).backends;
        worker.apply(&snapshot).await;
        seen.borrow_mut().clear();
        assert_eq!(ask(&mut h1(at).await, request(Method::POST, 3)).await.status(), 503);
        assert_eq!(seen.borrow().len(), 1);
        assert_eq!(pool(&mut worker).await.retries, []);
        // Unless the config says so.
        snapshot.pools[0].retry.any_method = true;
        worker.apply(&snapshot).await;
        seen.borrow_mut().clear();
        assert_eq!(ask(&mut h1(at).await, request(Method::POST, 3)).await.status(), 503);
        assert_eq!(seen.borrow().len(), 2);
    });
}

#[test]
fn what_is_idempotent_goes_to_each_backend_once() {
    local(async {
        let seen = Seen::default();
        let (a, b) = (breaks("a", &seen).await, answers("b", 503, &seen).await);
        let c = answers("c", 200, &seen).await;
        let (mut worker, at, mut snapshot) = start(&[&a, &b, &c], everything()).await;
        for _ in 0..6 {
            assert_eq!(ask(&mut h1(at).await, request(Method::GET, 0)).await.body, "c");
        }
        let retries = pool(&mut worker).await.retries;
        let of = |reason: &str| retries.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n);
        assert!(of("reset") >= 2 && of("code") >= 2, "{retries:?}");
        // The last answer is passed on when there is nobody left.
        snapshot.pools[0].backends.truncate(2);
        worker.apply(&snapshot).await;
        seen.borrow_mut().clear();
        let status = ask(&mut h1(at).await, request(Method::GET, 0)).await.status();
        assert!([502, 503].contains(&status));
        assert_eq!(seen.borrow().len(), 2);
        // A route may say otherwise.
        snapshot.services[0].routes[0].retry = Some(Retry { tries: 1, ..everything() });
        worker.apply(&snapshot).await;
        seen.borrow_mut().clear();
        ask(&mut h1(at).await, request(Method::GET, 0)).await;
        assert_eq!(seen.borrow().len(), 1);
    });
}

#[test]
fn a_body_is_sent_again_if_it_was_remembered_whole() {
    local(async {
        let seen = Seen::default();
        let (a, b) = (answers("a", 503, &seen).await, answers("b", 200, &seen).await);
        let (_worker, at, _) = start(&[&a, &b], everything()).await;
        // The turn begins with `a`, and goes on with `b` after it was tried.
        let answer = ask(&mut h1(at).await, request(Method::PUT, 4096)).await;
        assert_eq!((answer.status(), &*answer.body), (200, "b"));
        assert_eq!(*seen.borrow(), ["a PUT 4096", "b PUT 4096"]);
        seen.borrow_mut().clear();
        let answer = ask(&mut h1(at).await, request(Method::PUT, 4097)).await;
        let other = ask(&mut h1(at).await, request(Method::PUT, 4097)).await;
        let mut statuses = [answer.status(), other.status()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 503], "one of them began with a, and stayed there: {:?}", seen.borrow());
        assert_eq!(seen.borrow().len(), 2);
    });
}

#[test]
fn the_budget_is_the_end_of_it() {
    local(async {
        let seen = Seen::default();
        let (a, b) = (answers("a", 503, &seen).await, answers("b", 503, &seen).await);
        let (mut worker, at, mut snapshot) = start(&[&a, &b], everything()).await;
        snapshot.pools[0].retry_budget = RetryBudget { percent: 20, per_second: 0 };
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        for _ in 0..100 {
            assert_eq!(ask(&mut connection, request(Method::GET, 0)).await.status(), 503);
        }
        let report = pool(&mut worker).await;
        assert_eq!((report.retries, report.denied), (vec![("code".to_string(), 20)], 80));
        assert_eq!(seen.borrow().len(), 120);
    });
}

#[test]
fn a_try_that_takes_too_long_is_given_up_for_another() {
    local(async {
        let seen = Seen::default();
        let (slow, quick) = (hangs().await, answers("quick", 200, &seen).await);
        let retry = Retry { try_timeout: Some(ms(100)), ..everything() };
        let (mut worker, at, mut snapshot) = start(&[&slow, &quick], retry).await;
        for _ in 0..2 {
            assert_eq!(ask(&mut h1(at).await, request(Method::GET, 0)).await.body, "quick");
        }
        let report = worker.report().await;
        assert_eq!(report.pools[0].retries, [("timeout".to_string(), 1)]);
        let slow_one = report.backends.iter().find(|b| b.backend == slow.address).unwrap();
        assert_eq!(slow_one.failures, [("response_timeout".to_string(), 1)]);
        until("the try is over there too", async || worker.report().await.backends.iter().all(|b| b.active == 0)).await;
        snapshot.pools[0].backends.truncate(1);
        worker.apply(&snapshot).await;
        assert_eq!(ask(&mut h1(at).await, request(Method::GET, 0)).await.status(), 504);
    });
}

#[test]
fn of_two_tries_at_once_the_first_answer_is_taken_and_the_other_ended() {
    local(async {
        let ended = Rc::new(RefCell::new(0));
        let note = ended.clone();
        let slow = Backend::raw(move |mut stream, _| {
            let note = note.clone();
            async move {
                read_head(&mut stream).await;
                read_to_close(&mut stream).await;
                *note.borrow_mut() += 1;
            }
        })
        .await;
        let seen = Seen::default();
        let quick = answers("quick", 200, &seen).await;
        let (mut worker, at, mut snapshot) = start(&[&slow, &quick], Retry::default()).await;
        snapshot.pools[0].hedge = Some(Hedge { after: ms(30) });
        snapshot.pools[0].timeouts.response = ms(400);
        worker.apply(&snapshot).await;
        for _ in 0..2 {
            assert_eq!(ask(&mut h1(at).await, request(Method::GET, 0)).await.body, "quick");
        }
        until("the slow one sees its end", async || *ended.borrow() == 1).await;
        let hedges = pool(&mut worker).await.hedges;
        assert_eq!(hedges, [("sent".to_string(), 1), ("won".to_string(), 1)]);
        // What may not be done twice waits.
        let posts =
            [request(Method::POST, 0), request(Method::POST, 0), request(Method::PUT, 9), request(Method::PUT, 9)];
        let mut statuses = Vec::new();
        for post in posts {
            statuses.push(ask(&mut h1(at).await, post).await.status());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 504, 504]);
        assert_eq!(pool(&mut worker).await.hedges, hedges);
        until("nothing is in flight", async || worker.report().await.backends.iter().all(|b| b.active == 0)).await;
    });
}

#[test]
fn a_backend_that_answers_badly_is_left_out_and_comes_back() {
    local(async {
        let seen = Seen::default();
        let (bad, good) = (answers("bad", 500, &seen).await, answers("good", 200, &seen).await);
        let (mut worker, at, mut snapshot) = start(&[&bad, &good], Retry::default()).await;
        snapshot.pools[0].outliers =
            Some(Outliers { errors: Some(3), ejection: ms(1500), max_percent: 50, ..Outliers::default() });
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        let mut ask_some = async |n: usize| {
            let mut bad = 0;
            for _ in 0..n {
                bad += usize::from(ask(&mut connection, request(Method::GET, 0)).await.status() == 500);
            }
            bad
        };
        assert_eq!(ask_some(20).await, 3);
        let row = |report: tls_worker::api::Report| {
            let row = report.backends.into_iter().find(|b| b.backend == bad.address).unwrap();
            (row.ejected, row.ejections)
        };
        assert_eq!(row(worker.report().await), (1, vec![("errors".to_string(), 1)]));
        until("it is asked again", async || ask_some(2).await > 0).await;
        assert_eq!(row(worker.report().await).0, 0);
        // Without the table nobody is left out.
        snapshot.pools[0].outliers = None;
        worker.apply(&snapshot).await;
        assert_eq!(ask_some(20).await, 10);
    });
}

#[test]
fn a_client_that_goes_away_ends_its_request_at_the_backend() {
    local(async {
        let closed = Rc::new(RefCell::new(false));
        let note = closed.clone();
        let backend = Backend::raw(move |mut stream, _| {
            let note = note.clone();
            async move {
                read_head(&mut stream).await;
                read_to_close(&mut stream).await;
                *note.borrow_mut() = true;
            }
        })
        .await;
        let (mut worker, at, _) = start(&[&backend], everything()).await;
        let client = spawn_local(async move {
            let mut connection = h1(at).await;
            let _ = connection.send_request(get("x", "/")).await;
        });
        until("it is in flight", async || worker.report().await.backends[0].active == 1).await;
        client.abort();
        soon("it is over there", async {
            while !*closed.borrow() {
                tokio::time::sleep(ms(5)).await;
            }
        })
        .await;
        until("nothing is in flight", async || worker.report().await.backends[0].active == 0).await;
        let report = worker.report().await;
        assert!(report.backends[0].failures.is_empty() && report.pools[0].active == 0);
    });
}
