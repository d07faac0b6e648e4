//! Requests that wait until somebody was asked.

use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::until;
use futures_util::future::join_all;
use http::{Request, Response};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tls_worker::api::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// GET /ask?user=…, 200 allows.
fn authorizer(pool: usize) -> Authorizer {
    Authorizer {
        name: "who".into(),
        pool,
        method: "GET".into(),
        host: "callout.test".into(),
        path: "/ask".into(),
        query: vec![],
        headers: vec![],
        timeout: ms(20_000),
        fail_open: false,
        allow: Allow::default(),
        deny: Deny::AsAnswered,
        request_headers: vec![],
        refusal_headers: vec!["www-authenticate".into()],
        cache: None,
    }
}

/// A service to `backend`, whose requests `callout` decides about.
fn guarded(at: SocketAddr, backend: SocketAddr, callout: SocketAddr, rules: Authorizer) -> Snapshot {
    let mut snapshot = snap::http(at, &[backend]);
    snapshot.pools.push(snap::pool("callout", &[callout]));
    snapshot.services[0].routes[0].authorizer = Some(0);
    snapshot.authorizers = vec![Authorizer { pool: 1, ..rules }];
    snapshot
}

/// What a callout was asked: target and header.
type Asked = Rc<RefCell<Vec<(String, http::HeaderMap)>>>;

/// A backend that notes what it is asked, and answers this.
async fn callout(answer: impl Fn(&str) -> Response<crate::support::backend::Body> + 'static) -> (Backend, Asked) {
    let asked = Asked::default();
    let notes = asked.clone();
    let backend = Backend::http(move |request| {
        notes.borrow_mut().push((request.uri().to_string(), request.headers().clone()));
        let response = answer(request.uri().path_and_query().unwrap().as_str());
        async move { response }
    })
    .await;
    (backend, asked)
}

/// A backend that says which header it got.
async fn tells(name: &'static str) -> Backend {
    Backend::http(move |request| {
        let values: Vec<_> = request.headers().get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        async move { Response::new(full(format!("{values:?}"))) }
    })
    .await
}

#[test]
fn the_appliances_callout_is_asked_word_for_word() {
    local(async {
        let backend = Backend::says("mail").await;
        let (callout, asked) = callout(|target| {
            Response::new(full(if target.contains("DeviceId=good") { "Allow" } else { "Deny because" }))
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let rules = Authorizer {
            host: "callout.asfilter.internal".into(),
            path: "/services/ActiveSync/Authorize".into(),
            query: [
                ("user", "${before(base64_decode(after(header('authorization'), 'Basic ')), ':')}"),
                ("agent", "${header('user-agent')}"),
                ("ip", "${client.ip}"),
                ("url", "${base64(request.url)}"),
                ("resultType", "json"),
                ("DeviceId", "${query('DeviceId')}"),
            ]
            .map(pair)
            .into(),
            allow: Allow {
                status: vec![],
                body: Some(BodyTest { first: 20, test: TextTest::Equals, text: "Allow".into() }),
            },
            deny: Deny::Drop,
            ..authorizer(1)
        };
        worker.apply(&guarded(at, backend.address, callout.address, rules)).await;
        let request = |device: &str| {
            Request::post(format!("/Microsoft-Server-ActiveSync?Cmd=Sync&DeviceId={device}"))
                .header("host", "mail.test")
                .header("authorization", "Basic QUxcam9lOnNlY3JldA==")
                .header("user-agent", "Mail/1 (a&b=c)")
                .body(empty())
                .unwrap()
        };
        assert_eq!(ask(&mut h1(at).await, request("good")).await.body, "mail");
        let (target, headers) = asked.borrow()[0].clone();
        assert_eq!(
            target,
            "/services/ActiveSync/Authorize?user=AL%5Cjoe&agent=Mail%2F1%20%28a%26b%3Dc%29&ip=127%2E0%2E0%2E1\
             &url=aHR0cDovL21haWwudGVzdC9NaWNyb3NvZnQtU2VydmVyLUFjdGl2ZVN5bmM%2FQ21kPVN5bmMmRGV2aWNlSWQ9Z29vZA%3D%3D\
             &resultType=json&DeviceId=good"
        );
        assert_eq!(headers["host"], "callout.asfilter.internal");
        assert!(!headers.contains_key("authorization"), "nothing is told that the config does not tell");
        // Denied: closed without a word.
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /?DeviceId=bad HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert_eq!(said, b"");
        assert_eq!(backend.connections(), 1);
    });
}

#[test]
fn a_refusal_is_what_the_callout_or_the_config_says() {
    local(async {
        let backend = tells("x-user").await;
        let (callout, _) = callout(|target| {
            let (status, name, value) = match target {
                "/ask/401" => (401, "www-authenticate", "Bearer"),
                "/ask/500" => (500, "x-other", "1"),
                "/ask/204" => (204, "x-user", "joe"),
                _ => (200, "x-other", "2"),
            };
            Response::builder().status(status).header(name, value).body(full("")).unwrap()
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let rules =
            Authorizer { path: "/ask${request.path}".into(), request_headers: vec!["x-user".into()], ..authorizer(1) };
        let with = |deny: Deny| {
            let mut snapshot = guarded(at, backend.address, callout.address, Authorizer { deny, ..rules.clone() });
            snapshot.services[0].routes.push(snap::route("open", &[], Some("/open"), 0));
            snapshot
        };
        worker.apply(&with(Deny::AsAnswered)).await;
        let refused = once(at, "/401").await;
        assert_eq!((refused.status(), refused.header("www-authenticate")), (401, Some("Bearer")));
        let refused = once(at, "/500").await;
        assert_eq!((refused.status(), refused.header("x-other")), (403, None));
        // What the answer says replaces what the client said, also when it says nothing.
        let forged =
            |path: &str| Request::get(path).header("host", "a").header("x-user", "root").body(empty()).unwrap();
        assert_eq!(ask(&mut h1(at).await, forged("/204")).await.body, "[\"joe\"]");
        assert_eq!(ask(&mut h1(at).await, forged("/200")).await.body, "[]");
        // Nor on a route that asks nobody, to a backend that believes it.
        assert_eq!(ask(&mut h1(at).await, forged("/open")).await.body, "[]");
        worker.apply(&with(Deny::Status(429))).await;
        assert_eq!(once(at, "/401").await.status(), 429);
        let location = "https://login.test/?to=${urlencode(request.uri)}".to_owned();
        worker.apply(&with(Deny::Redirect { status: 303, location })).await;
        let moved = once(at, "/401").await;
        assert_eq!((moved.status(), moved.header("location")), (303, Some("https://login.test/?to=%2F401")));
        let report = worker.report().await;
        let count = |word: &str| report.authorizers[0].outcomes.iter().find(|(w, _)| w == word).map_or(0, |(_, n)| *n);
        assert_eq!((count("allowed"), count("denied")), (2, 4));
    });
}

#[test]
fn a_callout_that_fails_lets_nobody_pass_unless_that_is_said() {
    local(async {
        let backend = tells("x-user").await;
        let silent = Backend::raw(|mut stream, _| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let gone = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        for (to, timeout) in [(silent.address, 50), (gone, 20_000)] {
            for fail_open in [false, true] {
                let rules = Authorizer {
                    timeout: ms(timeout),
                    fail_open,
                    request_headers: vec!["x-user".into()],
                    ..authorizer(1)
                };
                worker.apply(&guarded(at, backend.address, to, rules)).await;
                let request = Request::get("/").header("host", "a").header("x-user", "root").body(empty()).unwrap();
                let answer = ask(&mut h1(at).await, request).await;
                let want = if fail_open { (200, "[]") } else { (403, "this is not allowed\n") };
                assert_eq!((answer.status(), answer.body.as_str()), want);
            }
        }
        // With kept answers, too, one callout is one failure.
        let rules = Authorizer { timeout: ms(50), cache: kept(10, 60_000, 60_000), ..authorizer(1) };
        worker.apply(&guarded(at, backend.address, silent.address, rules)).await;
        assert_eq!(ask(&mut h1(at).await, keyed("k")).await.status(), 403);
        let report = worker.report().await;
        let failures = &report.authorizers[0].failures;
        assert!(failures.contains(&("timeout".into(), 3)) && failures.contains(&("broken".into(), 2)), "{failures:?}");
    });
}

fn kept(size: u32, ttl: u64, negative_ttl: u64) -> Option<AuthorizerCache> {
    let key = "${header('x-key')}".to_owned();
    Some(AuthorizerCache { key, ttl: ms(ttl), negative_ttl: ms(negative_ttl), size })
}

fn keyed(key: &str) -> Request<Body> {
    Request::get("/").header("host", "a").header("x-key", key).body(empty()).unwrap()
}

#[test]
fn a_thousand_that_ask_the_same_at_once_are_one_callout_on_all_threads() {
    local(async {
        let backend = Backend::says("in").await;
        let waiting = Rc::new(Cell::new(0));
        let open = Rc::new(tokio::sync::Notify::new());
        let (count, gate) = (waiting.clone(), open.clone());
        let callout = Backend::http(move |_| {
            count.set(count.get() + 1);
            let gate = gate.clone();
            async move {
                gate.notified().await;
                Response::new(full("yes"))
            }
        })
        .await;
        let mut worker = Worker::start(2).await;
        let first = worker.listen().await;
        let second = worker.listen_on(1, "127.0.0.1").await.1;
        let rules = Authorizer { cache: kept(100, 60_000, 60_000), ..authorizer(1) };
        let mut snapshot = guarded(first, backend.address, callout.address, rules);
        snapshot.services[0].addresses.push(ListenAddress { address: second.ip(), port: Some(second.port()) });
        worker.apply(&snapshot).await;
        let asks = (0..1000).map(|n| async move {
            let at = if n % 2 == 0 { first } else { second };
            ask(&mut h1(at).await, keyed("same")).await.body
        });
        let all = tokio::task::spawn_local(join_all(asks));
        // Everybody is in flight, one callout is, and then it is answered.
        let mut in_flight = 0;
        until("all wait", async || {
            let report = worker.report().await;
            let cache = report.authorizers.first().map(|a| a.cache.clone()).unwrap_or_default();
            in_flight = cache.iter().map(|(_, n)| n).sum();
            in_flight == 1000
        })
        .await;
        open.notify_one();
        assert!(all.await.unwrap().iter().all(|body| body == "in"));
        assert_eq!(waiting.get(), 1);
        assert_eq!(ask(&mut h1(second).await, keyed("same")).await.body, "in");
        assert_eq!(waiting.get(), 1);
        let report = worker.report().await;
        assert_eq!(report.authorizers[0].kept, 1);
        let cache = &report.authorizers[0].cache;
        assert!(cache.contains(&("miss".into(), 1)) && cache.contains(&("hit".into(), 1)), "{cache:?}");
        // A generation that asks the same keeps what is known; one that asks otherwise does not.
        worker.apply(&snapshot).await;
        assert_eq!(ask(&mut h1(first).await, keyed("same")).await.body, "in");
        assert_eq!(waiting.get(), 1);
        snapshot.authorizers[0].path = "/other".into();
        worker.apply(&snapshot).await;
        open.notify_one();
        assert_eq!(ask(&mut h1(first).await, keyed("same")).await.body, "in");
        assert_eq!(waiting.get(), 2);
    });
}

#[test]
fn who_asked_first_may_go_and_the_others_still_get_the_answer() {
    local(async {
        let backend = Backend::says("in").await;
        let open = Rc::new(tokio::sync::Notify::new());
        let asked = Rc::new(Cell::new(0));
        let (gate, count) = (open.clone(), asked.clone());
        let callout = Backend::http(move |_| {
            count.set(count.get() + 1);
            let gate = gate.clone();
            async move {
                gate.notified().await;
                Response::new(full("yes"))
            }
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let rules = Authorizer { cache: kept(10, 60_000, 60_000), ..authorizer(1) };
        worker.apply(&guarded(at, backend.address, callout.address, rules)).await;
        let mut leaver = TcpStream::connect(at).await.unwrap();
        leaver.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-key: k\r\n\r\n").await.unwrap();
        until("the callout is asked", async || asked.get() == 1).await;
        drop(leaver);
        let other = tokio::task::spawn_local(async move { ask(&mut h1(at).await, keyed("k")).await.body });
        until("the second waits", async || {
            let report = worker.report().await;
            report.authorizers[0].cache.contains(&("joined".into(), 1))
        })
        .await;
        open.notify_one();
        assert_eq!(other.await.unwrap(), "in");
        assert_eq!(asked.get(), 1);
    });
}

#[test]
fn answers_run_out_and_denials_sooner() {
    local(async {
        let backend = Backend::says("in").await;
        let (callout, asked) = callout(|_| Response::builder().status(403).body(full("")).unwrap()).await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let rules = Authorizer { cache: kept(10, 3_600_000, 50), ..authorizer(1) };
        worker.apply(&guarded(at, backend.address, callout.address, rules)).await;
        assert_eq!(ask(&mut h1(at).await, keyed("k")).await.status(), 403);
        until("the denial is asked for again", async || {
            ask(&mut h1(at).await, keyed("k")).await;
            asked.borrow().len() > 1
        })
        .await;
    });
}

#[test]
fn a_callout_that_comes_back_is_not_asked_about_again() {
    local(async {
        let backend = Backend::says("in").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        // The edge asks itself.
        worker.apply(&guarded(at, backend.address, at, authorizer(1))).await;
        let answer = tokio::time::timeout(Duration::from_secs(20), once(at, "/")).await.unwrap();
        assert_eq!(answer.status(), 403);
        let report = worker.report().await;
        assert!(report.authorizers[0].outcomes.contains(&("loop".into(), 1)), "{:?}", report.authorizers);
        assert!(report.services[0].rejected.contains(&("loop".into(), 1)));
    });
}

#[test]
fn what_the_worker_cannot_ask_is_refused_with_its_place() {
    local(async {
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let to: SocketAddr = "192.0.2.1:80".parse().unwrap();
        type Change = fn(&mut Authorizer);
        let table: [(&str, Change); 8] = [
            ("path: there is no variable `request.pat`", |a| a.path = "/${request.pat}".into()),
            ("path: \"ask\" is no path", |a| a.path = "ask".into()),
            ("asks for an answer", |a| a.host = "${response.status}".into()),
            ("headers: \"host\" belongs to the connection", |a| a.headers = vec![("host".into(), "x".into())]),
            ("method: \"TRACE\"", |a| a.method = "TRACE".into()),
            ("deny: 200 is not within", |a| a.deny = Deny::Status(200)),
            ("points to pool 9 of 2", |a| a.pool = 9),
            ("allow: a range", |a| a.allow.status = vec![(300, 200)]),
        ];
        for (want, change) in table {
            let mut snapshot = guarded(at, to, to, authorizer(1));
            change(&mut snapshot.authorizers[0]);
            match worker.try_apply(&snapshot).await {
                Event::Rejected { reason, .. } => {
                    assert!(reason.contains("authorizer \"who\"") && reason.contains(want), "{reason}");
                }
                other => panic!("{want}: {other:?}"),
            }
        }
    });
}
