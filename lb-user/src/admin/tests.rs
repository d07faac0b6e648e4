//! Server and client over a socket in a directory of their own, with a reconciler that answers as it is told.

use super::api::*;
use super::client::{Client, ClientError};
use super::*;
use crate::config::{FileKind, Problem, Problems, Stale};
use crate::datapath::PacketEvent;
use crate::reconcile::{
    Asked, ChangeError, Done, Event, PoolChange, Refreshed, Refusal, ServiceIds, UpgradeError, Watch, testing,
};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;

const BACKEND: &str = "10.0.0.1:80";

/// A server, and a client for it.
fn serving() -> (tempfile::TempDir, Client) {
    let (dir, client, ..) = watched();
    (dir, client)
}

/// The same, where dropped packets are told, and the way to end the edge.
fn watched() -> (tempfile::TempDir, Client, broadcast::Sender<PacketEvent>, mpsc::Sender<Event>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let socket = AdminSocket::bind(&path, &SocketAccess::default()).unwrap();
    let (events, mut asked) = mpsc::channel(4);
    let (seen, names) = (broadcast::Sender::new(4), watch::Sender::new(ServiceIds::of(&[("web", 1)])));
    let packets = seen.clone();
    tokio::spawn(async move {
        while let Some(event) = asked.recv().await {
            match event {
                Event::Query { reply, .. } => drop(reply.send(testing::state(BACKEND.parse().unwrap()))),
                Event::Change { asked, reply } => drop(reply.send(changed(asked))),
                Event::ClearSessions { reply, .. } => drop(reply.send(Ok(5))),
                Event::Reload { reply, .. } => drop(reply.send(Err(Refusal::Restart(vec!["edge.name"])))),
                Event::Refresh { reply } => {
                    let _ = reply.unwrap().send(Ok(refreshed()));
                }
                Event::Staple { .. } | Event::Resolved { .. } => {}
                Event::Flow { reply, .. } => drop(reply.send(None)),
                Event::Watch { reply } => {
                    let names = names.subscribe();
                    let _ = reply.send(Some(Watch { events: packets.subscribe(), names }));
                }
                Event::Upgrade { reply, .. } => drop(reply.send(Err(UpgradeError::Underway))),
                Event::HandOver { .. } | Event::TakeBack { .. } | Event::Leave { .. } => {}
                Event::Shutdown { .. } => return,
            }
        }
    });
    tokio::spawn(serve(socket, events.clone(), false, Room::new(32)));
    (dir, Client::new(&path), seen, events)
}

/// Drains are made by whoever is at the other end, and nothing else is.
fn changed(asked: Asked) -> Result<Done, Refusal> {
    let me = rustix::process::geteuid().as_raw();
    assert_eq!((asked.who.uid, asked.who.pid), (Some(me), Some(std::process::id() as i32)));
    match &asked.changes[..] {
        [Change::Pool { change: PoolChange::Drain { .. }, .. }] => {
            Ok(Done { generation: 9, number: Some(3), kept: Some("/state".into()), steps: vec![] })
        }
        [Change::Pool { pool, .. }] => Err(Refusal::Change(ChangeError::NoPool(pool.clone()))),
        [Change::Rule(_)] => Err(Refusal::Unfiltered),
        _ => Err(Refusal::Part { index: 1, change: "reset".into(), why: Box::new(Refusal::Closing) }),
    }
}

/// One file was taken, another not.
fn refreshed() -> Refreshed {
    let place = std::path::Path::new("/etc/bailey/b.pem");
    let mut problems = Problems::new(place, "");
    problems.push(Problem::error(0..0, "no certificate in it").help("write a PEM file"));
    let stale = Stale { kind: FileKind::Certificate, name: "b".into(), problem: problems.views().remove(0) };
    Refreshed { generation: 4, changed: vec!["certificate a".into()], stale: [stale].into(), warnings: [].into() }
}

fn request(change: PoolChange) -> PoolRequest {
    PoolRequest { address: BACKEND.parse().unwrap(), change, only_if: OnlyIf::default() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Failure {
    match result {
        Err(ClientError::Refused(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_asked_is_answered() {
    let (_dir, client) = serving();
    let status: Status = client.get("/v1/status").await.unwrap();
    assert!(!status.healthy && status.troubles[0].contains("no worker"), "{status:?}");
    let services: Vec<ServiceRow> = client.get("/v1/services").await.unwrap();
    assert_eq!(services[0].addresses, ["127.0.0.1:8000"]);
    let service: ServiceView = client.get("/v1/services/web").await.unwrap();
    assert_eq!(service.routes[0].pool, "p");
    let pool: PoolView = client.get("/v1/pools/p").await.unwrap();
    let address: SocketAddr = BACKEND.parse().unwrap();
    assert_eq!((pool.backends[0].address, pool.row.up, pool.row.total), (address, 1, 1));
    let changed: Changed = client.post("/v1/pools/p", &request(PoolChange::Drain { seconds: None })).await.unwrap();
    assert_eq!((changed.generation, changed.number, changed.kept.as_deref()), (9, Some(3), Some("/state")));
    let list: SessionList = client.get("/v1/sessions/p?limit=7&after=a").await.unwrap();
    assert_eq!((list.total, list.sessions.len()), (0, 0));
    let cleared: SessionsCleared = client.post("/v1/sessions/p", &ClearSessions::All).await.unwrap();
    assert_eq!(cleared.cleared, 5);
    let reloaded: CertificatesReloaded = client.post("/v1/certificates/reload", &()).await.unwrap();
    assert_eq!((reloaded.generation, reloaded.changed.as_slice()), (4, &["certificate a".to_owned()][..]));
    assert_eq!((reloaded.stale[0].kind.as_str(), reloaded.stale[0].name.as_str()), ("certificate", "b"));
    assert!(reloaded.stale[0].problem.to_string().contains("b.pem"));
    assert!(client.get::<Vec<CertificateRow>>("/v1/certificates").await.unwrap().is_empty());
    let unknown = refused(client.get::<CertificateView>("/v1/certificates/a").await);
    assert!(unknown.error.contains("no certificate \"a\"") && unknown.hint.unwrap().contains("bailey cert list"));
}

#[tokio::test]
async fn what_is_refused_says_why_and_what_to_do() {
    let (_dir, client) = serving();
    let unknown = refused(client.get::<PoolView>("/v1/pools/pp").await);
    assert!(unknown.error.contains("\"pp\"") && unknown.hint.unwrap().contains("\"p\""));
    let change = request(PoolChange::Add { weight: Some(2) });
    assert!(refused(client.post::<_, Changed>("/v1/pools/q", &change).await).error.contains("no pool"));
    let reload = refused(client.post::<_, Reloaded>("/v1/reload", &()).await);
    assert!(reload.error.contains("edge.name"), "{reload:?}");
    assert!(refused(client.get::<Status>("/v1/reload").await).error.contains("not this method"));
    assert!(refused(client.get::<Status>("/v2").await).error.contains("nothing at"));
    assert!(refused(client.post::<_, Changed>("/v1/pools/p", &"x").await).error.contains("body"));
    assert!(refused(client.get::<SessionList>("/v1/sessions/pp").await).hint.unwrap().contains("\"p\""));
    for bad in ["limit=0", "limit=x", "page=1"] {
        let refused = refused(client.get::<SessionList>(&format!("/v1/sessions/p?{bad}")).await);
        assert!(refused.error.contains(&bad[..4]), "{refused:?}");
    }
    let huge = "x".repeat(2 << 20);
    assert!(client.post::<_, Changed>("/v1/pools/p", &huge).await.is_err());
    let nobody = Client::new(std::path::Path::new("/nonexistent/admin.sock"));
    let error = nobody.get::<Status>("/v1/status").await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/admin.sock") && error.hint().unwrap().contains("bailey run"));
}

#[tokio::test]
async fn a_live_socket_is_refused_and_a_dead_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/admin.sock");
    let socket = AdminSocket::bind(&path, &SocketAccess::default()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(AdminSocket::bind(&path, &SocketAccess::default()), Err(SocketError::Live(_))));
    drop(socket);
    assert!(!path.exists());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a daemon that was killed leaves its socket");
    let socket = AdminSocket::bind(&path, &SocketAccess::default()).unwrap();
    drop(socket);
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(AdminSocket::bind(&path, &SocketAccess::default()), Err(SocketError::NoSocket(_))));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_half_a_header_is_cut() {
    let (dir, _) = serving();
    let mut stream = tokio::net::UnixStream::connect(dir.path().join("admin.sock")).await.unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\n").await.unwrap();
    let mut text = String::new();
    timeout(Duration::from_secs(60), stream.read_to_string(&mut text)).await.expect("cut").unwrap();
    assert!(!text.contains("200"), "{text}");
}

fn dropped(service: u32, verdict: &'static str) -> PacketEvent {
    PacketEvent {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(5),
        service,
        verdict,
        source: "192.0.2.9:4000".parse().unwrap(),
        destination: "198.51.100.1:53".parse().unwrap(),
        protocol: 17,
        bytes: 60,
        interface: 2,
    }
}

/// Wait until so many watch.
async fn watching(seen: &broadcast::Sender<PacketEvent>, count: usize) {
    while seen.receiver_count() != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_watcher_sees_what_it_asked_for_and_what_it_lost() {
    let (_dir, client, seen, _events) = watched();
    let request = WatchRequest { service: Some("web".into()), verdict: None };
    let watcher = tokio::spawn(async move {
        let mut lines = Vec::new();
        let ended = client.watch(&request, |line| {
            lines.push(line);
            if lines.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (ended.await.unwrap(), lines)
    });
    watching(&seen, 1).await;
    // One thread: the watcher reads none of these before all are sent, and its channel holds four.
    for _ in 0..7 {
        seen.send(dropped(0, "bad_ip_checksum")).unwrap();
    }
    seen.send(dropped(1, "denied")).unwrap();
    let (ended, lines) = timeout(Duration::from_secs(60), watcher).await.unwrap().unwrap();
    assert!(ended.is_break());
    assert_eq!(lines[0], WatchLine::Lost { lost: 4 });
    let WatchLine::Seen(line) = &lines[1] else { panic!("{lines:?}") };
    assert_eq!((line.service.as_deref(), line.verdict.as_str(), line.unix_ms), (Some("web"), "denied", 5000));
    assert_eq!((line.protocol.as_str(), line.reason.as_str()), ("udp", "The source is on a deny list."));
    // Whoever leaves makes room.
    timeout(Duration::from_secs(60), watching(&seen, 0)).await.unwrap();
}

#[tokio::test]
async fn watchers_are_bounded_and_end_with_the_edge() {
    let (_dir, client, seen, events) = watched();
    let mut watchers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        watchers.spawn(async move { client.watch(&WatchRequest::default(), |_| ControlFlow::Continue(())).await });
    }
    timeout(Duration::from_secs(60), watching(&seen, 16)).await.unwrap();
    let more = client.watch(&WatchRequest::default(), |_| ControlFlow::Continue(())).await;
    assert!(refused(more).error.contains("16 watch already"));
    let nobody = WatchRequest { service: Some("wbe".into()), verdict: None };
    assert!(refused(client.watch(&nobody, |_| ControlFlow::Break(())).await).hint.unwrap().contains("\"web\""));
    let nothing = WatchRequest { service: None, verdict: Some("denid".into()) };
    assert!(refused(client.watch(&nothing, |_| ControlFlow::Break(())).await).hint.unwrap().contains("\"denied\""));
    watchers.abort_all();
    while watchers.join_next().await.is_some() {}
    timeout(Duration::from_secs(60), watching(&seen, 0)).await.expect("they left");
    let last = tokio::spawn(async move { client.watch(&WatchRequest::default(), |_| ControlFlow::Break(())).await });
    watching(&seen, 1).await;
    let (reply, _closed) = tokio::sync::oneshot::channel();
    events.send(Event::Shutdown { grace: Duration::ZERO, reply }).await.unwrap();
    let ended = timeout(Duration::from_secs(60), last).await.expect("the stream ends").unwrap().unwrap();
    assert!(ended.is_continue(), "the daemon ended it, not the watcher");
}
