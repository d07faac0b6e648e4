//! The agent: it tells changes, shares checks, and keeps within its bounds.

use super::*;
use crate::config::{HealthCheck, HttpProbe, Probe};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(10);

/// A server that answers with the code it is told to, and counts.
struct Server {
    address: SocketAddr,
    code: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

async fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (code, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
    let (told, count) = (Arc::clone(&code), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let code = told.load(Ordering::SeqCst);
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Server { address, code, asked }
}

fn http() -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(10),
        timeout: LONG,
        ..HealthCheck::new(Probe::Http(HttpProbe::default()))
    }
}

fn target(pool: &str, address: SocketAddr, check: &Arc<HealthCheck>) -> Target {
    Target { pool: pool.into(), address, check: Arc::clone(check), counts: Arc::default(), known: None }
}

/// An agent that runs.
struct Running {
    targets: watch::Sender<Arc<Targets>>,
    told: mpsc::Receiver<Verdict>,
    gauges: Arc<Gauges>,
    agent: JoinHandle<()>,
}

impl Running {
    fn of(list: Vec<Target>) -> Self {
        let (targets, receiver) = watch::channel(Arc::new(Targets { most: 8, list }));
        let (verdicts, told) = mpsc::channel(4);
        let gauges = Arc::<Gauges>::default();
        let agent = Agent { targets: receiver, verdicts, gauges: Arc::clone(&gauges) };
        Self { targets, told, gauges, agent: tokio::spawn(agent.run()) }
    }

    fn retarget(&self, list: Vec<Target>) {
        self.targets.send(Arc::new(Targets { most: 8, list })).unwrap();
    }

    async fn next(&mut self) -> Verdict {
        timeout(LONG, self.told.recv()).await.unwrap().unwrap()
    }
}

async fn until(what: impl Fn() -> bool) {
    timeout(LONG, async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_agent_tells_changes_and_only_changes() {
    let server = server().await;
    let one = target("p", server.address, &Arc::new(http()));
    let mut running = Running::of(vec![one.clone()]);
    assert!(running.next().await.up);
    server.code.store(503, Ordering::SeqCst);
    let down = running.next().await;
    assert!(!down.up && down.cause.contains("HTTP 503 after") && down.cause.ends_with("3 of 3"), "{down:?}");
    // The same target again keeps its state: the next news is that it is up.
    running.retarget(vec![one.clone()]);
    server.code.store(204, Ordering::SeqCst);
    let up = running.next().await;
    assert!(up.up && up.cause.ends_with("1 of 1"), "{up:?}");
    let tally = one.counts.read();
    assert!(tally.good >= 2 && tally.bad >= 3 && tally.unable == 0, "{tally:?}");
    assert_eq!(tally.seconds.count(), tally.good + tally.bad);
    drop(running.targets);
    timeout(LONG, running.agent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_backend_of_ten_pools_is_asked_once_and_each_pool_is_told() {
    let server = server().await;
    // Equal, not the same: each pool's own.
    let pools: Vec<Target> = (0..10).map(|i| target(&format!("p{i}"), server.address, &Arc::new(http()))).collect();
    let mut running = Running::of(pools.clone());
    let mut names = Vec::new();
    for _ in &pools {
        let verdict = running.next().await;
        assert!(verdict.up);
        names.push(verdict.pool);
    }
    names.sort();
    assert_eq!(names, pools.iter().map(|pool| pool.pool.clone()).collect::<Vec<_>>());
    assert_eq!(running.gauges.probes(), 1);
    until(|| pools[0].counts.read().good >= 20).await;
    let asked = server.asked.load(Ordering::SeqCst) as u64;
    let good = pools[9].counts.read().good;
    assert!(asked <= good + 2, "{asked} requests, {good} results for each pool");

    // One more is told at once what is known; one that asks something else is not, until that is asked.
    let mut more = pools.clone();
    more.push(target("late", server.address, &Arc::new(http())));
    running.retarget(more);
    let late = running.next().await;
    assert!(late.pool == "late" && late.up && late.cause.ends_with("1 of 1"), "{late:?}");
    let other = Arc::new(HealthCheck { rise: 2, ..http() });
    running.retarget(vec![pools[0].clone(), target("other", server.address, &other)]);
    assert_eq!(running.next().await.pool, "other");
    assert_eq!(running.gauges.probes(), 2);
}

#[tokio::test]
async fn what_the_edge_cannot_ask_changes_no_state() {
    let server = server().await;
    // RFC 5737: no host has it.
    let from_nowhere = HealthCheck { source: Some(IpAddr::from([192, 0, 2, 77])), fall: 1, ..http() };
    let reversed = HealthCheck { reverse: true, ..from_nowhere.clone() };
    let one = target("p", server.address, &Arc::new(from_nowhere));
    let other = target("reversed", server.address, &Arc::new(reversed));
    let mut running = Running::of(vec![one.clone(), other.clone()]);
    until(|| one.counts.read().unable >= 3 && other.counts.read().unable >= 3).await;
    let trouble = one.counts.read().trouble.unwrap();
    assert!(trouble.contains("no socket at 192.0.2.77"), "{trouble}");
    assert!(running.told.try_recv().is_err());
    // Once it can, there is a finding, and the trouble is over.
    let able = Target { check: Arc::new(http()), ..one };
    running.retarget(vec![able.clone()]);
    assert!(running.next().await.up);
    assert_eq!(able.counts.read().trouble, None);
}

#[tokio::test]
async fn a_flapping_backend_is_told_of_each_change_and_no_more() {
    let server = server().await;
    let check = Arc::new(HealthCheck { rise: 2, fall: 2, ..http() });
    let mut running = Running::of(vec![target("p", server.address, &check)]);
    assert!(running.next().await.up);
    for round in 0..5 {
        for (code, up) in [(500, false), (200, true)] {
            server.code.store(code, Ordering::SeqCst);
            let verdict = running.next().await;
            assert_eq!(verdict.up, up, "{round}: {verdict:?}");
            assert!(verdict.cause.contains(&code.to_string()) && verdict.cause.ends_with("2 of 2"), "{verdict:?}");
        }
    }
}

#[tokio::test]
async fn a_stalled_listener_gets_the_last_word_of_each() {
    let server = server().await;
    let check = Arc::new(HealthCheck { fall: 1, ..http() });
    let pools: Vec<Target> = (0..20).map(|i| target(&format!("p{i:02}"), server.address, &check)).collect();
    let mut running = Running::of(pools.clone());
    // Nobody takes verdicts: four wait in the channel, the others at the agent, which goes on checking.
    until(|| pools[0].counts.read().good >= 5).await;
    server.code.store(500, Ordering::SeqCst);
    until(|| pools[0].counts.read().bad >= 5).await;
    let mut last = std::collections::BTreeMap::new();
    while last.len() < 20 || last.values().any(|up| *up) {
        let verdict = running.next().await;
        last.insert(verdict.pool, verdict.up);
    }
}

/// Figures for docs/operating.md: `cargo test -p lb-user --lib ten_thousand -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures for ten seconds"]
async fn ten_thousand_backends_are_checked_with_bounded_sockets() {
    const BACKENDS: u32 = 10_000;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let check = Arc::new(HealthCheck { jitter: 50, ..HealthCheck::new(Probe::Tcp) });
    let address = |i: u32| SocketAddr::from((Ipv4Addr::from(0x7f00_0100 + i), port));
    let list: Vec<Target> = (0..BACKENDS).map(|i| target("p", address(i), &check)).collect();
    let (targets, receiver) = watch::channel(Arc::new(Targets { most: 256, list: list.clone() }));
    let (verdicts, mut told) = mpsc::channel(64);
    let gauges = Arc::<Gauges>::default();
    let agent = tokio::spawn(Agent { targets: receiver, verdicts, gauges: Arc::clone(&gauges) }.run());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (began, before) = (Instant::now(), descriptors());
    for _ in 0..BACKENDS {
        assert!(timeout(LONG, told.recv()).await.unwrap().unwrap().up);
    }
    let first = began.elapsed();
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<u64> =
            stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
        fields.iter().sum::<u64>()
    };
    let done = || list.iter().map(|one| one.counts.read().good).sum::<u64>();
    let (start, from, cpu) = (Instant::now(), done(), ticks());
    let mut most = 0;
    while start.elapsed() < Duration::from_secs(5) {
        most = most.max(descriptors().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (seconds, checks) = (start.elapsed().as_secs_f64(), done() - from);
    let percent = (ticks() - cpu) as f64 / seconds;
    eprintln!(
        "all {BACKENDS} first checked in {first:?}; then {:.0} checks/s, {percent:.0}% of a CPU with the backends' side, \
         {most} descriptors, {} late",
        checks as f64 / seconds,
        gauges.late()
    );
    assert!(most <= 256 + 16 && checks as f64 / seconds > 1_500.0);
    drop(targets);
    let _ = agent.await;
}
