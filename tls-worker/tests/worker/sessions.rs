//! Clients that come again, and where they go.

use crate::local;
use crate::support::backend::{Backend, full};
use crate::support::client::*;
use crate::support::hello::hello;
use crate::support::process::Worker;
use crate::support::snap::{self, ms};
use crate::support::{soon, tls, until};
use http::{Request, Response};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tls_worker::api::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Says its name and the cookies that it was sent.
async fn backend(name: &'static str) -> Backend {
    Backend::http(move |request: Request<hyper::body::Incoming>| async move {
        let cookies = request.headers().get_all("cookie").iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        Response::new(full(format!("{name} [{}]", cookies.join("|"))))
    })
    .await
}

fn persistence(by: PersistBy) -> Option<Persistence> {
    Some(Persistence { by, timeout: Duration::from_secs(60), max_entries: 1000, drain_timeout: ms(60_000) })
}

fn cookie() -> SessionCookie {
    SessionCookie {
        name: "sid".into(),
        path: "/".into(),
        domain: None,
        same_site: SameSite::Lax,
        max_age: None,
        http_only: true,
        secure: None,
        keys: Vec::new(),
    }
}

fn header_key() -> PersistBy {
    PersistBy::Key { text: "${header('x-user')}".into(), secret: false }
}

fn with(name: &str, value: &str) -> Request<Body> {
    Request::builder().uri("/").header("host", "a.test").header(name, value).body(empty()).unwrap()
}

fn lookups(report: &Report, word: &str) -> u64 {
    report.sessions[0].lookups.iter().find(|(known, _)| known == word).map_or(0, |(_, n)| *n)
}

/// The cookie that an answer sets, as a client sends it.
fn set(answer: &Answer) -> Option<String> {
    answer.header("set-cookie").map(|text| text.split(';').next().unwrap().to_owned())
}

#[test]
fn a_sealed_cookie_leads_back_and_goes_no_further() {
    local(async {
        let backends = [backend("a").await, backend("b").await, backend("c").await];
        let addresses = backends.each_ref().map(|b| b.address);
        let mut worker = Worker::start(2).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &addresses);
        snapshot.pools[0].persistence = persistence(PersistBy::Cookie(cookie()));
        worker.apply(&snapshot).await;
        let mut client = h1(at).await;
        let first = ask(&mut client, get("a.test", "/")).await;
        let sealed = set(&first).unwrap();
        let attributes = first.header("set-cookie").unwrap().split_once(';').unwrap().1.to_owned();
        assert_eq!(attributes, " Path=/; SameSite=Lax; HttpOnly");
        let name = &first.body[..1];
        for _ in 0..6 {
            let again = ask(&mut client, with("cookie", &format!("x=1; {sealed}; y=2"))).await;
            assert_eq!(again.body, format!("{name} [x=1; y=2]"));
            assert_eq!(set(&again), None, "it is still good");
        }
        // One that is made up is ignored, counted, and replaced.
        let made_up = ask(&mut client, with("cookie", "sid=AAAAAAAAAAAAAAAA")).await;
        assert!(set(&made_up).is_some() && made_up.body.ends_with("[]"), "{}", made_up.body);
        let report = worker.report().await;
        assert_eq!((lookups(&report, "hit"), lookups(&report, "miss"), lookups(&report, "bad_cookie")), (6, 2, 1));

        // Another edge with the same keys goes by it, one with others does not.
        let mut other = Worker::start(1).await;
        let there = other.listen().await;
        snapshot.services[0].addresses[0].port = Some(there.port());
        other.apply(&snapshot).await;
        let elsewhere = ask(&mut h1(there).await, with("cookie", &sealed)).await;
        assert_eq!((&elsewhere.body[..1], set(&elsewhere)), (name, None));
        // The keys turn over: it opens, and is sealed anew.
        let old = snapshot.tickets.keys[0].clone();
        snapshot.tickets.keys = vec![Secret::new(vec![8; 48]), old];
        other.apply(&snapshot).await;
        let renewed = ask(&mut h1(there).await, with("cookie", &sealed)).await;
        assert_eq!(&renewed.body[..1], name);
        let sealed = set(&renewed).unwrap();
        snapshot.tickets.keys.pop();
        other.apply(&snapshot).await;
        assert_eq!(set(&ask(&mut h1(there).await, with("cookie", &sealed)).await), None);

        // Its backend is gone: it moves, once.
        let place = snapshot.pools[0]
            .backends
            .iter()
            .position(|b| b.address == addresses[(name.as_bytes()[0] - b'a') as usize]);
        snapshot.pools[0].backends[place.unwrap()].state = BackendState::Down;
        other.apply(&snapshot).await;
        let moved = ask(&mut h1(there).await, with("cookie", &sealed)).await;
        assert_ne!(&moved.body[..1], name);
        let after = ask(&mut h1(there).await, with("cookie", &set(&moved).unwrap())).await;
        assert_eq!((&after.body[..1], set(&after)), (&moved.body[..1], None));
        assert_eq!(lookups(&other.report().await, "moved"), 1);
    });
}

#[test]
fn over_https_the_cookie_is_secure() {
    local(async {
        let backend = backend("a").await;
        let certificate = tls::certificate(&["a.test"]);
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::https(at, vec![certificate.clone()], &[backend.address]);
        let cookie = SessionCookie { same_site: SameSite::None, max_age: Some(Duration::from_secs(60)), ..cookie() };
        snapshot.pools[0].persistence = persistence(PersistBy::Cookie(cookie));
        worker.apply(&snapshot).await;
        let mut client = h2_on(tls(at, "a.test", &certificate, &["h2"]).await).await;
        let answer = ask2(&mut client, get2("a.test", "/")).await;
        let text = answer.header("set-cookie").unwrap();
        assert!(text.ends_with("; Path=/; Max-Age=60; SameSite=None; HttpOnly; Secure"), "{text}");
        // HTTP/2 may carry each cookie in a field of its own.
        let sealed = set(&answer).unwrap();
        let mut request = get2("a.test", "/");
        for value in ["x=1", &sealed, "y=2"] {
            request.headers_mut().append("cookie", value.parse().unwrap());
        }
        let again = ask2(&mut client, request).await;
        assert_eq!((&*again.body, set(&again)), ("a [x=1; y=2]", None));
    });
}

#[test]
fn threads_agree_and_the_next_worker_knows() {
    local(async {
        let backends = [backend("a").await, backend("b").await, backend("c").await];
        let mut worker = Worker::start(4).await;
        let mut at = Vec::new();
        for thread in 0..4 {
            at.push(worker.listen_on(thread, "127.0.0.1").await.1);
        }
        let mut snapshot = snap::http(at[0], &backends.each_ref().map(|b| b.address));
        snapshot.services[0].addresses =
            at.iter().map(|a| ListenAddress { address: a.ip(), port: Some(a.port()) }).collect();
        snapshot.pools[0].persistence = persistence(header_key());
        worker.apply(&snapshot).await;
        let mut homes = Vec::new();
        for user in 0..12 {
            let mut seen = BTreeSet::new();
            for at in &at {
                seen.insert(ask(&mut h1(*at).await, with("x-user", &format!("u{user}"))).await.body);
            }
            assert_eq!(seen.len(), 1, "{seen:?}");
            homes.extend(seen);
        }
        assert!(homes.iter().collect::<BTreeSet<_>>().len() == 3, "{homes:?}");
        assert!(ask(&mut h1(at[0]).await, get("a.test", "/")).await.status() == 200);
        let report = worker.report().await;
        let row = &report.sessions[0];
        assert_eq!((row.entries, lookups(&report, "miss"), lookups(&report, "hit")), (12, 12, 36));
        assert_eq!(lookups(&report, "none"), 1);

        // What it told goes to the next one.
        let mut entries = Vec::new();
        until("all are told", async || {
            worker.report().await;
            entries.extend(worker.sessions.drain(..).flat_map(|changes| changes.set));
            entries.len() >= 12
        })
        .await;
        assert_eq!(entries.len(), 12);
        drop(worker);
        let mut next = Worker::start(1).await;
        let there = next.listen().await;
        snapshot.services[0].addresses[0].port = Some(there.port());
        next.apply(&snapshot).await;
        next.send(Command::Sessions { pool: "app".into(), entries: entries.clone() }).await;
        next.send(Command::Sessions { pool: "gone".into(), entries }).await;
        assert_eq!(next.report().await.sessions[0].entries, 12);
        for (user, home) in homes.iter().enumerate() {
            let again = ask(&mut h1(there).await, with("x-user", &format!("u{user}"))).await.body;
            assert_eq!(again, *home);
        }

        // Cleared by key, by backend, all.
        let mut clear = async |which: ClearSessions| {
            next.send(Command::ClearSessions { pool: "app".into(), which }).await;
            match next.event().await {
                Event::SessionsCleared { count } => count,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(clear(ClearSessions::Key("u3".into())).await, 1);
        let of_a = clear(ClearSessions::Backend(backends[0].address)).await;
        let rest = clear(ClearSessions::All).await;
        assert_eq!(of_a + rest, 11);
        let removed: usize = next.sessions.iter().map(|changes| changes.removed.len()).sum();
        assert_eq!(removed, 12, "told before the answer");
    });
}

#[test]
fn a_draining_backend_keeps_its_clients_until_its_deadline_and_a_disabled_one_does_not() {
    local(async {
        let backends = [backend("a").await, backend("b").await];
        let addresses = backends.each_ref().map(|b| b.address);
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &addresses);
        snapshot.pools[0].persistence = persistence(header_key());
        worker.apply(&snapshot).await;
        let mut client = h1(at).await;
        let mut home = async |user: &str| ask(&mut client, with("x-user", user)).await.body[..1].to_owned();
        let first = home("u").await;
        let place = usize::from(first == "b");
        snapshot.pools[0].backends[place].state = BackendState::Draining;
        worker.apply(&snapshot).await;
        assert_eq!(home("u").await, first, "it drains and keeps who it has");
        for user in ["v", "w", "x"] {
            assert_ne!(home(user).await, first, "and takes nobody else");
        }
        // A new generation does not begin the drain anew.
        snapshot.pools[0].persistence.as_mut().unwrap().drain_timeout = ms(1);
        worker.apply(&snapshot).await;
        until("the deadline", async || home("u").await != first).await;
        snapshot.pools[0].backends[place].state = BackendState::Up;
        snapshot.pools[0].backends[1 - place].state = BackendState::Disabled;
        worker.apply(&snapshot).await;
        assert_eq!(home("v").await, first);
        let report = worker.report().await;
        assert_eq!(lookups(&report, "moved"), 2);
    });
}

#[test]
fn who_cannot_be_reached_loses_its_clients() {
    local(async {
        let (alive, dead) = (backend("a").await, std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let gone = dead.local_addr().unwrap();
        drop(dead);
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &[gone, alive.address]);
        snapshot.pools[0].persistence = persistence(header_key());
        worker.apply(&snapshot).await;
        let mut client = h1(at).await;
        for _ in 0..3 {
            assert_eq!(ask(&mut client, with("x-user", "u")).await.body, "a []");
        }
        let report = worker.report().await;
        assert_eq!((lookups(&report, "moved"), report.sessions[0].entries), (1, 1));
        let failed: u64 =
            report.backends.iter().find(|b| b.backend == gone).unwrap().failures.iter().map(|f| f.1).sum();
        assert_eq!(failed, 1, "it was tried once");
    });
}

#[test]
fn a_cookie_of_the_application_is_learned() {
    local(async {
        let session = |name: &'static str| {
            Backend::http(move |request: Request<hyper::body::Incoming>| async move {
                let mut response = Response::new(full(name));
                if request.uri().path() == "/login" {
                    let value = format!("JSESSIONID={name}-1; Path=/");
                    response.headers_mut().insert("set-cookie", value.parse().unwrap());
                }
                response
            })
        };
        let backends = [session("a").await, session("b").await, session("c").await];
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::http(at, &backends.each_ref().map(|b| b.address));
        snapshot.pools[0].persistence = persistence(PersistBy::AppCookie("JSESSIONID".into()));
        worker.apply(&snapshot).await;
        let mut client = h1(at).await;
        let login = ask(&mut client, get("a.test", "/login")).await;
        let session = set(&login).unwrap();
        assert_eq!(ask(&mut client, get("a.test", "/")).await.header("set-cookie"), None);
        for _ in 0..6 {
            assert_eq!(ask(&mut client, with("cookie", &format!("x=1; {session}"))).await.body, login.body);
        }
        until("it is told", async || {
            worker.report().await;
            !worker.sessions.is_empty()
        })
        .await;
        let told = &worker.sessions[0].set[0];
        assert!(told.key.starts_with('#') && !told.key.contains(&session), "the list is no list of sessions to steal");
    });
}

#[test]
fn connections_without_http_are_known_by_their_source() {
    local(async {
        let tells = |word: &'static [u8]| {
            Backend::raw(move |mut stream, _| async move {
                let _ = stream.write_all(word).await;
            })
        };
        let backends = [tells(b"a").await, tells(b"b").await];
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        let mut snapshot = snap::passthrough(at, &backends.each_ref().map(|b| b.address));
        snapshot.pools[0].persistence = persistence(PersistBy::Source { v4: 24, v6: 64 });
        worker.apply(&snapshot).await;
        let word = async |from: [u8; 4]| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((from, 0))).unwrap();
            let mut stream: TcpStream = socket.connect(at).await.unwrap();
            stream.write_all(&hello(Some("a.test"), &[])).await.unwrap();
            soon("a word", stream.read_u8()).await.unwrap()
        };
        let first = word([127, 0, 0, 5]).await;
        for _ in 0..4 {
            assert_eq!(word([127, 0, 0, 77]).await, first);
        }
        assert_ne!(word([127, 0, 1, 5]).await, first, "in turn");
        assert_eq!(worker.report().await.sessions[0].entries, 2);
    });
}
