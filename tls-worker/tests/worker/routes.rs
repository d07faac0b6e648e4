//! What routes ask of requests, and what becomes of these on the way there and back.

use crate::client_certs::Site;
use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::ca::Ca;
use crate::support::client::{self, *};
use crate::support::process::Worker;
use crate::support::{snap, tls};
use http::{Request, Response};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tls_worker::api::*;

/// A backend that says its name, the target and the header that it got.
async fn named(name: &'static str) -> Backend {
    Backend::http(move |request| async move {
        let mut lines = vec![format!("{name} {} {}", request.method(), request.uri())];
        let fields = request.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()));
        lines.extend(fields);
        Response::new(full(lines.join("\n")))
    })
    .await
}

/// A worker with pools `one` and `two`, each of one backend.
async fn two() -> (Worker, SocketAddr, Snapshot, [Backend; 2]) {
    let backends = [named("one").await, named("two").await];
    let mut worker = Worker::start(1).await;
    let at = worker.listen().await;
    let mut snapshot = snap::http(at, &[]);
    snapshot.pools = vec![snap::pool("one", &[backends[0].address]), snap::pool("two", &[backends[1].address])];
    (worker, at, snapshot, backends)
}

fn value(of: Subject, is: TextMatch) -> Condition {
    Condition::Value { of, is }
}

fn set(name: &str, value: &str) -> HeaderAction {
    HeaderAction { name: name.into(), change: HeaderChange::Set(value.into()) }
}

#[test]
fn conditions_choose_between_pools() {
    local(async {
        let (mut worker, at, mut snapshot, _backends) = two().await;
        let header = Subject::Header("x-canary".into());
        let canary = Condition::Any(vec![
            value(header, TextMatch::Regex("^(yes|1)$".into())),
            value(Subject::Cookie("canary".into()), TextMatch::Exact("yes".into())),
            Condition::All(vec![
                Condition::Client(vec!["127.0.0.0/8".parse().unwrap()]),
                value(Subject::Query("v".into()), TextMatch::Prefix("2".into())),
            ]),
        ]);
        let not_admin = Condition::Not(Box::new(Condition::Path(PathMatch::Prefix("/admin".into()))));
        snapshot.services[0].routes = vec![
            Route { when: Some(Condition::All(vec![canary, not_admin])), ..snap::route("canary", &[], None, 1) },
            snap::route("all", &[], None, 0),
        ];
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        for (path, headers, pool) in [
            ("/", vec![], "one"),
            ("/", vec![("x-canary", "yes")], "two"),
            ("/", vec![("x-canary", "no"), ("x-canary", "1")], "two"),
            ("/", vec![("x-canary", "yes1")], "one"),
            ("/", vec![("cookie", "a=b; canary=yes")], "two"),
            ("/?x=1&v=2.1", vec![], "two"),
            ("/?v=12", vec![], "one"),
            ("/admin/x?v=2", vec![("x-canary", "yes")], "one"),
        ] {
            let mut request = get("a.test", path);
            for (name, value) in &headers {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
            let answer = ask(&mut connection, request).await;
            assert!(answer.body.starts_with(&format!("{pool} ")), "{path} {headers:?}: {}", answer.body);
        }
        let report = worker.report().await;
        let canary = report.requests.iter().find(|row| row.route == "canary").unwrap();
        assert_eq!((canary.pool.as_str(), canary.seconds.count()), ("two", 4));
    });
}

#[test]
fn a_certificate_is_a_condition_when_it_is_verified() {
    local(async {
        let (ca, other) = (Ca::new("ca"), Ca::new("other"));
        let rules = snap::client_cert(ClientCertMode::OptionalAny, &[&ca]);
        let mut site = Site::start(rules).await;
        let verified = || value(Subject::ClientCert(ClientCertField::Verify), TextMatch::Exact("SUCCESS".into()));
        let shown = value(Subject::ClientCert(ClientCertField::Fingerprint), TextMatch::Present);
        let named = value(Subject::ClientCert(ClientCertField::San), TextMatch::Exact("DNS:vip.test".into()));
        let fixed = |body: &str| {
            let fixed = FixedAnswer { status: 200, body: body.into(), ..FixedAnswer::default() };
            Some(EdgeAnswer::Fixed(fixed))
        };
        let route =
            |name: &str, when| Route { when: Some(when), answer: fixed(name), ..snap::route(name, &[], None, 0) };
        site.snapshot.services[0].routes = vec![
            route("vip", Condition::All(vec![verified(), named])),
            route("good", verified()),
            route("bad", shown),
            Route { answer: fixed("none"), ..snap::route("none", &[], None, 0) },
        ];
        site.apply().await;
        let vip = |ca: &Ca| {
            ca.issue(|leaf| {
                let names = ["x.test", "vip.test"].map(|name| rcgen::SanType::DnsName(name.try_into().unwrap()));
                leaf.params.subject_alt_names = names.to_vec();
            })
        };
        for (own, want) in
            [(None, "none"), (Some(ca.issue(|_| {})), "good"), (Some(vip(&ca)), "vip"), (Some(vip(&other)), "bad")]
        {
            let config = site.client(&rustls::version::TLS13, own.as_ref());
            let (_, answer) = crate::client_certs::try_get(site.at, config).await.unwrap();
            assert!(answer.ends_with(&format!("\r\n\r\n{want}")), "{want}: {answer}");
        }
    });
}

#[test]
fn pools_get_exactly_their_shares() {
    local(async {
        let (mut worker, at, mut snapshot, _backends) = two().await;
        let share = |pool, weight| PoolShare { pool, weight };
        snapshot.services[0].routes[0].split = vec![share(0, 3), share(1, 1)];
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        let mut got = String::new();
        for n in 0..16 {
            let answer = ask(&mut connection, get("a.test", "/")).await;
            got.push(if answer.body.starts_with("one") { '1' } else { '2' });
            // A new generation that says the same changes nothing of whose turn it is.
            if n % 3 == 0 {
                snapshot.generation += 1;
                worker.apply(&snapshot).await;
            }
        }
        assert_eq!(got, "1121112111211121");
        let report = worker.report().await;
        let count = |pool| report.requests.iter().find(|row| row.pool == pool).unwrap().seconds.count();
        assert_eq!((count("one"), count("two")), (12, 4));
        snapshot.services[0].routes[0].split = vec![share(0, 0), share(1, 1)];
        worker.apply(&snapshot).await;
        for _ in 0..4 {
            assert!(ask(&mut connection, get("a.test", "/")).await.body.starts_with("two"));
        }
    });
}

#[test]
fn requests_are_rewritten_and_their_headers_changed() {
    local(async {
        let (mut worker, at, mut snapshot, _backends) = two().await;
        let add = HeaderAction { name: "x-many".into(), change: HeaderChange::Add("${request.uri}".into()) };
        let remove = HeaderAction { name: "cookie".into(), change: HeaderChange::Remove };
        snapshot.services[0].routes = vec![Route {
            rewrite: Rewrite {
                host: Some("app.internal:8080".into()),
                path: Some(PathChange::Prefix("/v1".into())),
                ..Rewrite::default()
            },
            request_headers: vec![
                remove,
                set("x-client", "${client.ip} ${request.method}"),
                set("x-broken", "a${query('q')}"),
                add,
            ],
            response_headers: vec![
                set("x-route", "${route} ${pool} ${response.status} ${request.id}"),
                set("x-fixed", "1"),
            ],
            ..snap::route("shop", &[], Some("/shop"), 0)
        }];
        worker.apply(&snapshot).await;
        let request = Request::get("/shop/cart?q=%0d%0ax-evil:1")
            .header("host", "a.test")
            .header("cookie", "secret=1")
            .header("x-client", "6.6.6.6")
            .header("x-broken", "1")
            .header("x-many", "1")
            .body(empty())
            .unwrap();
        let answer = ask(&mut h1(at).await, request).await;
        let mut lines: Vec<_> = answer.body.lines().collect();
        assert_eq!(lines.remove(0), "one GET /v1/cart?q=%0d%0ax-evil:1");
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "host: app.internal:8080",
                "x-client: 127.0.0.1 GET",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: a.test",
                &format!("x-forwarded-port: {}", at.port()),
                "x-forwarded-proto: http",
                "x-many: /shop/cart?q=%0d%0ax-evil:1",
                "x-many: 1",
            ]
        );
        assert_eq!(answer.header("x-fixed"), Some("1"));
        let told = answer.header("x-route").unwrap();
        assert!(told.starts_with("shop one 200 ") && told.len() == "shop one 200 ".len() + 32, "{told}");
        assert_eq!(worker.report().await.services[0].invalid_headers, 1);
    });
}

#[test]
fn the_edge_answers_by_itself() {
    local(async {
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[]);
        snapshot.pools.clear();
        let https = Redirect { scheme: Some("https".into()), code: 308, ..Redirect::default() };
        let to =
            Redirect { to: Some("https://${request.host}/${query('to')}".into()), code: 303, ..Redirect::default() };
        let fixed = FixedAnswer { status: 503, body: "<p>later".into(), content_type: Some("text/html".into()) };
        let route = |path, answer| Route {
            answer: Some(answer),
            response_headers: vec![set("retry-after", "60")],
            ..snap::route(path, &[], Some(path), 0)
        };
        snapshot.services[0].routes = vec![
            route("/to", EdgeAnswer::Redirect(to)),
            route("/later", EdgeAnswer::Fixed(fixed)),
            route("/none", EdgeAnswer::Fixed(FixedAnswer { status: 204, ..FixedAnswer::default() })),
            route("/", EdgeAnswer::Redirect(https)),
        ];
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        for (path, status, location) in [
            ("/x?y=1", 308, Some("https://a.test/x?y=1")),
            ("/to?to=me", 303, Some("https://a.test/me")),
            ("/to?to=%0d%0aset-cookie:x", 400, None),
            ("/later", 503, None),
            ("/none", 204, None),
        ] {
            let answer = ask(&mut connection, get("a.test:8080", path)).await;
            assert_eq!((answer.status(), answer.header("location")), (status, location), "{path}");
            assert_eq!(answer.header("retry-after"), Some("60"), "{path}");
        }
        let head = Request::head("/later").header("host", "a").body(empty()).unwrap();
        let answer = ask(&mut connection, head).await;
        assert_eq!((answer.header("content-length"), answer.header("content-type")), (Some("8"), Some("text/html")));
        assert_eq!(ask(&mut connection, get("a", "/later")).await.body, "<p>later");
        let report = worker.report().await;
        assert!(report.requests.iter().all(|row| row.pool.is_empty() && !row.route.is_empty()), "{report:?}");
        assert_eq!(report.services[0].rejected, [("rewrite".to_owned(), 1)]);
    });
}

#[test]
fn what_a_backend_says_of_addresses_is_changed_back() {
    local(async {
        let backend = Backend::http(|request| async move {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            Response::builder()
                .status(302)
                .header("location", format!("http://{host}/v1/login?next=/v1"))
                .header("set-cookie", "id=1; Path=/v1; Priority=High")
                .header("set-cookie", format!("b=2; Domain={host}; Secure"))
                .body(full(""))
                .unwrap()
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let certificate = tls::certificate(&["a.test"]);
        let mut snapshot = snap::https(at, vec![certificate.clone()], &[backend.address]);
        let rewrite = Rewrite {
            host: Some("app.internal".into()),
            path: Some(PathChange::Prefix("/v1".into())),
            ..Rewrite::default()
        };
        let keep = Rewrite { keep_locations: true, keep_cookies: true, ..rewrite.clone() };
        snapshot.services[0].routes = vec![
            Route { rewrite, ..snap::route("shop", &[], Some("/shop"), 0) },
            Route { rewrite: keep, ..snap::route("kept", &[], Some("/kept"), 0) },
            snap::route("all", &[], None, 0),
        ];
        worker.apply(&snapshot).await;
        let mut h2 = h2_on(client::tls(at, "a.test", &certificate, &["h2"]).await).await;
        for (path, location, cookies) in [
            (
                "/shop/x",
                "https://a.test/shop/login?next=/v1",
                ["id=1; Path=/shop; Priority=High; Secure", "b=2; Domain=a.test; Secure"],
            ),
            (
                "/kept/x",
                "http://app.internal/v1/login?next=/v1",
                ["id=1; Path=/v1; Priority=High", "b=2; Domain=app.internal; Secure"],
            ),
            (
                "/x",
                "https://a.test/v1/login?next=/v1",
                ["id=1; Path=/v1; Priority=High; Secure", "b=2; Domain=a.test; Secure"],
            ),
        ] {
            let answer = ask2(&mut h2, get2("a.test", path)).await;
            assert_eq!(answer.header("location"), Some(location), "{path}");
            let told: Vec<_> = answer.head.headers.get_all("set-cookie").iter().collect();
            assert_eq!(told, cookies, "{path}");
        }
    });
}

#[test]
fn a_route_has_deadlines_of_its_own() {
    local(async {
        let silent = Backend::http(|request| async move {
            if request.uri().path() == "/slow" {
                std::future::pending::<()>().await;
            }
            Response::new(full("in time"))
        })
        .await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[silent.address]);
        let timed = |name: &str, path, timeout, response_timeout| Route {
            timeout,
            response_timeout,
            rewrite: Rewrite { path: Some(PathChange::Full("/slow".into())), ..Rewrite::default() },
            ..snap::route(name, &[], Some(path), 0)
        };
        snapshot.services[0].routes = vec![
            timed("whole", "/whole", Some(snap::ms(300)), None),
            timed("header", "/header", None, Some(snap::ms(300))),
            Route { timeout: Some(snap::ms(20_000)), ..snap::route("all", &[], None, 0) },
        ];
        worker.apply(&snapshot).await;
        let mut connection = h1(at).await;
        for path in ["/whole", "/header"] {
            let began = Instant::now();
            let answer = ask(&mut connection, get("a.test", path)).await;
            let took = began.elapsed();
            assert_eq!(answer.status(), 504, "{path}");
            assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(10), "{path}: {took:?}");
        }
        assert_eq!(ask(&mut connection, get("a.test", "/")).await.body, "in time");
        let report = worker.report().await;
        assert_eq!(report.services[0].rejected, [("deadline".to_owned(), 1)]);
        assert_eq!(report.backends[0].failures, [("response_timeout".to_owned(), 1)]);
        assert_eq!(report.backends[0].active, 0);
    });
}

#[test]
fn a_route_takes_longer_bodies_than_its_service() {
    local(async {
        let (mut worker, at, mut snapshot, _backends) = two().await;
        snapshot.services[0].limits.body_bytes = 3;
        let upload = Route { max_body: Some(4), ..snap::route("upload", &[], Some("/upload"), 1) };
        snapshot.services[0].routes.push(upload);
        worker.apply(&snapshot).await;
        for (path, body, status) in
            [("/", "abc", 200), ("/", "abcd", 413), ("/upload", "abcd", 200), ("/upload", "abcde", 413)]
        {
            let (length, host) = (body.len(), "host: a\r\nconnection: close");
            let answer =
                bare(at, &format!("PUT {path} HTTP/1.1\r\n{host}\r\ncontent-length: {length}\r\n\r\n{body}")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {body}: {answer}");
        }
    });
}

#[test]
fn what_is_wrong_with_a_route_refuses_the_snapshot() {
    local(async {
        let (mut worker, _, snapshot, _backends) = two().await;
        let no_share = vec![PoolShare { pool: 0, weight: 0 }];
        let far = Mirror { pool: 7, percent: 1, max_body: 1, max_in_flight: 1, timeout: snap::ms(1) };
        let prefix = Rewrite { path: Some(PathChange::Prefix("/x".into())), ..Rewrite::default() };
        let base = || snap::route("r", &[], None, 0);
        for (route, problem) in [
            (Route { path: PathMatch::Regex("[".into()), ..base() }, "unclosed character class"),
            (Route { split: no_share, ..base() }, "no pool has a share"),
            (Route { mirror: Some(far), ..base() }, "points to pool 7 of 2"),
            (Route { request_headers: vec![set("host", "x")], ..base() }, "cannot be changed"),
            (Route { rewrite: prefix, path: PathMatch::Exact("/".into()), ..base() }, "where a prefix is matched"),
        ] {
            let mut bad = snapshot.clone();
            bad.services[0].routes = vec![route];
            match worker.try_apply(&bad).await {
                Event::Rejected { reason, .. } => assert!(reason.contains(problem), "{problem}: {reason}"),
                other => panic!("{problem}: {other:?}"),
            }
        }
    });
}
