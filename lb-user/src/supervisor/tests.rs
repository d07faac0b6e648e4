//! A real process on the other side: this test binary, run again as a worker that knows only the protocol.

use super::backoff::{Backoff, STEADY};
use super::*;
use crate::datapath::Listener;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use tls_worker::api::wire::{self, split};
use tls_worker::api::{
    Command as Told, Der, Event, ListenerInfo, OcspQuery, OcspStatus, Report, ThreadInfo, ThreadReport, WIRE_VERSION,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The fake refuses this generation.
const REFUSED: u64 = 13;
/// Before the fake takes this generation, it asks about so many clients' certificates.
const ASKING: u64 = 77;
const QUESTIONS: u32 = 3000;
/// The fake dies of this generation.
const DEADLY: u64 = 66;

#[test]
fn fake_worker_process() {
    if std::env::var_os("BAILEY_FAKE_WORKER").is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::process::exit(runtime.block_on(fake_worker()));
    }
}

/// Answers each connection with its process id and its generation.
async fn fake_worker() -> i32 {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let socket = std::os::unix::net::UnixStream::from(stdin);
    socket.set_nonblocking(true).unwrap();
    let (mut tx, mut rx) = split(tokio::net::UnixStream::from_std(socket).unwrap());
    let served = Arc::new((std::sync::atomic::AtomicU64::new(0), std::sync::atomic::AtomicU64::new(0)));
    let mut listening = std::collections::HashMap::new();
    let mut answered = 0;
    loop {
        let (told, fds): (Told, Vec<OwnedFd>) = match rx.receive().await {
            Ok(message) => message,
            Err(wire::WireError::Closed) => return 0,
            Err(e) => panic!("{e}"),
        };
        let answer = match told {
            Told::Hello(_) => Event::Ready { pid: std::process::id(), version: WIRE_VERSION },
            Told::Apply(snapshot) if snapshot.generation == DEADLY => return 3,
            Told::Apply(snapshot) if snapshot.generation == REFUSED => {
                Event::Rejected { generation: REFUSED, reason: "unlucky".into() }
            }
            Told::Apply(snapshot) => {
                for n in 0..if snapshot.generation == ASKING { QUESTIONS } else { 0 } {
                    tx.send(&Event::Ocsp(question(n)), &[]).await.unwrap();
                }
                served.0.store(snapshot.generation, std::sync::atomic::Ordering::SeqCst);
                Event::Applied { generation: snapshot.generation }
            }
            Told::Ocsp(answer) => {
                assert_eq!(answer.query, question(0));
                answered += 1;
                continue;
            }
            Told::Sessions { .. } | Told::Logs | Told::Meet { .. } | Told::Note(_) => continue,
            Told::Adopt { .. } => panic!("adopted by its own control plane"),
            Told::ClearSessions { .. } => Event::SessionsCleared { count: 3 },
            Told::Report => Event::Report(Box::new(Report {
                threads: vec![ThreadReport {
                    connections_unknown: answered,
                    connections: served.1.load(std::sync::atomic::Ordering::SeqCst),
                    ..Default::default()
                }],
                ..Default::default()
            })),
            Told::Listen(infos) => {
                for (ListenerInfo { id, .. }, fd) in infos.into_iter().zip(fds) {
                    let listener = std::net::TcpListener::from(fd);
                    listener.set_nonblocking(true).unwrap();
                    let listener = TcpListener::from_std(listener).unwrap();
                    let served = Arc::clone(&served);
                    let task = tokio::spawn(async move {
                        while let Ok((mut stream, _)) = listener.accept().await {
                            served.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            let generation = served.0.load(std::sync::atomic::Ordering::SeqCst);
                            let _ = stream.write_all(format!("{} {generation}", std::process::id()).as_bytes()).await;
                        }
                    });
                    listening.insert(id, task);
                }
                continue;
            }
            Told::Unlisten(ids) => {
                for task in ids.iter().filter_map(|id| listening.remove(id)) {
                    task.abort();
                    let _ = task.await;
                }
                continue;
            }
            Told::Drain { .. } => return 0,
        };
        tx.send(&answer, &[]).await.unwrap();
    }
}

fn fake() -> Launch {
    Box::new(|| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "supervisor::tests::fake_worker_process", "--nocapture"]);
        command.env("BAILEY_FAKE_WORKER", "1");
        command
    })
}

fn staff(launch: Launch) -> Staff {
    Staff::new(launch, vec![ThreadInfo { index: 0, cpu: None }])
}

fn question(n: u32) -> OcspQuery {
    OcspQuery { issuer: Der(vec![0; 1000]), certificate: Der(n.to_le_bytes().to_vec()), responder: None }
}

fn nobody_asks() -> WorkerSide {
    crate::ocsp::channel(&Arc::default()).0
}

fn snapshot(generation: u64) -> Arc<Snapshot> {
    Arc::new(Snapshot { generation, ..Default::default() })
}

fn listener(id: u64) -> (Listener, SocketAddr) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (Listener { id, worker: 0, address: Some(address), socket: Arc::new(socket.into()) }, address)
}

/// Process id and generation that answered. A connection that is cut after it was taken is asked again; one that
/// is refused fails the test.
async fn ask(address: SocketAddr) -> (u32, u64) {
    timeout(Duration::from_secs(20), async {
        loop {
            let mut stream = TcpStream::connect(address).await.expect("no connection is refused");
            let mut text = String::new();
            match stream.read_to_string(&mut text).await {
                Ok(_) if !text.is_empty() => {
                    let (pid, generation) = text.split_once(' ').unwrap();
                    return (pid.parse().unwrap(), generation.parse().unwrap());
                }
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .expect("answered in time")
}

#[tokio::test]
async fn a_killed_worker_is_replaced_and_no_connection_is_refused() {
    let worker = start(staff(fake()), snapshot(1), nobody_asks(), Sessions::default()).await.unwrap();
    let (listener, address) = listener(1);
    worker.listen(vec![listener]).await.unwrap();
    let (first, generation) = ask(address).await;
    assert_eq!(generation, 1);
    assert_eq!(worker.view().pid(), Some(first));
    worker.refresh().await.unwrap();
    let counted = worker.view().report.threads[0].connections;
    assert!(counted >= 1);

    crate::privileges::signal(first, rustix::process::Signal::KILL).unwrap();
    let second = loop {
        let (pid, _) = ask(address).await;
        if pid != first {
            break pid;
        }
    };
    worker.refresh().await.unwrap();
    let view = worker.view();
    assert_eq!((view.pid(), view.restarts), (Some(second), 1));
    assert!(view.last_error.unwrap().contains("signal: 9"));
    assert!(view.report.threads[0].connections > counted, "counters go on from where they were");
}

#[tokio::test]
async fn a_snapshot_that_is_refused_changes_nothing() {
    let worker = start(staff(fake()), snapshot(1), nobody_asks(), Sessions::default()).await.unwrap();
    let (listener, address) = listener(1);
    worker.listen(vec![listener]).await.unwrap();
    let (pid, _) = ask(address).await;
    let refused = worker.publish(snapshot(REFUSED)).await.unwrap_err();
    assert!(refused.to_string().contains("unlucky"), "{refused}");
    assert_eq!(ask(address).await, (pid, 1));
    worker.publish(snapshot(14)).await.unwrap();
    assert_eq!(ask(address).await, (pid, 14));
}

#[tokio::test]
async fn a_snapshot_that_kills_the_worker_is_not_tried_again() {
    let worker = start(staff(fake()), snapshot(5), nobody_asks(), Sessions::default()).await.unwrap();
    let (listener, address) = listener(1);
    worker.listen(vec![listener]).await.unwrap();
    let (first, _) = ask(address).await;
    assert!(worker.publish(snapshot(DEADLY)).await.is_err());
    let (second, generation) = ask(address).await;
    assert_ne!(first, second);
    assert_eq!(generation, 5);
}

#[tokio::test]
async fn questions_about_clients_are_in_nobodys_way() {
    let counts = Arc::default();
    let (ours, mut agent) = crate::ocsp::channel(&counts);
    let worker = start(staff(fake()), snapshot(1), ours, Sessions::default()).await.unwrap();
    // Nobody reads the questions, and there are more than are kept.
    worker.publish(snapshot(ASKING)).await.unwrap();
    assert!(counts.read_dropped() > 0 && counts.read_dropped() < u64::from(QUESTIONS));
    let query = agent.queries.recv().await.unwrap();
    assert_eq!(query, question(0));
    for _ in 0..100 {
        let answer = OcspAnswer { query: query.clone(), status: OcspStatus::Good, valid_seconds: 9 };
        agent.answers.send(answer).await.unwrap();
    }
    timeout(Duration::from_secs(20), async {
        while worker.view().report.threads.first().map(|thread| thread.connections_unknown) != Some(100) {
            worker.refresh().await.unwrap();
        }
    })
    .await
    .expect("every answer arrives");
}

#[tokio::test]
async fn a_listener_that_is_gone_is_let_go() {
    let worker = start(staff(fake()), snapshot(1), nobody_asks(), Sessions::default()).await.unwrap();
    let (one, address_one) = listener(1);
    let (two, address_two) = listener(2);
    worker.listen(vec![one.clone(), two]).await.unwrap();
    ask(address_two).await;
    worker.listen(vec![one]).await.unwrap();
    timeout(Duration::from_secs(10), async {
        while TcpStream::connect(address_two).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the port is closed in the end");
    ask(address_one).await;
}

#[tokio::test]
async fn a_drained_worker_is_gone_and_stays_gone() {
    let worker = start(staff(fake()), snapshot(1), nobody_asks(), Sessions::default()).await.unwrap();
    let pid = worker.view().pid().unwrap();
    worker.drain(Duration::from_secs(5)).await.unwrap();
    assert_eq!(worker.view().pid(), None);
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_err(), "the process is reaped");
    assert!(matches!(worker.publish(snapshot(2)).await, Err(WorkerError::Closing)));
}

#[tokio::test]
async fn a_worker_that_cannot_start_is_an_error_at_once() {
    let launch: Launch = Box::new(|| Command::new("/bin/false"));
    let error = start(staff(launch), snapshot(1), nobody_asks(), Sessions::default()).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 1"), "{error}");
    let launch: Launch = Box::new(|| Command::new("/nonexistent/worker"));
    assert!(matches!(
        start(staff(launch), snapshot(1), nobody_asks(), Sessions::default()).await,
        Err(WorkerError::Spawn(_))
    ));
}

#[test]
fn only_a_worker_that_keeps_dying_is_waited_for() {
    let mut backoff = Backoff::default();
    let ms: Vec<_> = (0..9).map(|_| backoff.next(Duration::from_millis(400)).as_millis()).collect();
    assert_eq!(ms, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(backoff.next(STEADY), Duration::ZERO);
}
