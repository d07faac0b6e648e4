//! The reconciler with a datapath that records and a worker that answers as it is told.

mod agents;
mod forward;
mod names;
mod survive;

use super::*;
use crate::datapath::{Counters, Description, Desired, FlowAnswer, Listener, PacketEvent, Protocol};
use crate::state::Who;
use crate::supervisor::{Request, WorkerError, WorkerView};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use tls_worker::api::BackendState;
use tokio::sync::{broadcast, oneshot};

/// What happened outside, in its order.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Published(u64),
    Applied(usize),
    Forwarded(Vec<BackendState>),
    Listening,
    Drained,
    Closed,
}

#[derive(Clone, Default)]
struct World {
    seen: Arc<Mutex<Vec<Seen>>>,
    snapshot: Arc<Mutex<Snapshot>>,
    desired: Arc<Mutex<Desired>>,
    ticks: Arc<AtomicU32>,
    datapath_refuses: Arc<Mutex<bool>>,
    worker_refuses: Arc<Mutex<bool>>,
}

impl World {
    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn backend(&self) -> BackendState {
        self.snapshot.lock().unwrap().pools[0].backends[0].state
    }

    /// Stands in for the supervisor.
    fn worker(&self) -> (WorkerHandle, watch::Sender<WorkerView>) {
        let (requests, mut asked) = mpsc::channel(4);
        let (news, view) = watch::channel(WorkerView::default());
        let world = self.clone();
        tokio::spawn(async move {
            while let Some(request) = asked.recv().await {
                match request {
                    supervisor::Request::ClearSessions { reply, .. } => drop(reply.send(Ok(0))),
                    Request::Publish { snapshot, reply } => {
                        let refuses = *world.worker_refuses.lock().unwrap();
                        if !refuses {
                            world.note(Seen::Published(snapshot.generation));
                            *world.snapshot.lock().unwrap() = Snapshot::clone(&snapshot);
                        }
                        let no = || Err(WorkerError::Rejected("not today".into()));
                        let _ = reply.send(if refuses { no() } else { Ok(()) });
                    }
                    Request::Listen { reply, .. } => {
                        world.note(Seen::Listening);
                        let _ = reply.send(());
                    }
                    Request::Refresh { reply } => drop(reply.send(())),
                    Request::Note { reply, .. } | Request::Meet { reply, .. } | Request::Leave { reply, .. } => {
                        let _ = reply.send(());
                    }
                    Request::Drain { reply, .. } => {
                        world.note(Seen::Drained);
                        let _ = reply.send(());
                    }
                }
            }
        });
        (WorkerHandle::of(requests, view), news)
    }
}

impl Datapath for World {
    async fn apply(&mut self, desired: &Desired) -> Result<Vec<Listener>, DatapathError> {
        if *self.datapath_refuses.lock().unwrap() {
            return Err(DatapathError::Kernel { what: "apply".into(), why: "no".into() });
        }
        self.note(Seen::Applied(desired.services.len()));
        let states = desired.forwards.iter().flat_map(|forward| &forward.backends).map(|backend| backend.state);
        let states: Vec<_> = states.collect();
        if !states.is_empty() {
            self.note(Seen::Forwarded(states));
        }
        *self.desired.lock().unwrap() = desired.clone();
        Ok(Vec::new())
    }

    fn counters(&self) -> Result<Counters, DatapathError> {
        Ok(Counters::default())
    }

    fn flow(&self, _: Protocol, _: SocketAddr, _: SocketAddr) -> Option<FlowAnswer> {
        let to = FlowAnswer { service: Some(1), hash: Some(2), slot: Some(3), ..FlowAnswer::default() };
        Some(FlowAnswer { worker: Some(0), cpu: Some(1), ..to })
    }

    async fn tick(&mut self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    fn events(&self) -> Option<broadcast::Receiver<PacketEvent>> {
        None
    }

    fn describe(&self) -> Description {
        Description { datapath: "recording".into(), ..Default::default() }
    }

    fn note(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn leave(self) {}

    async fn close(self) -> Result<(), DatapathError> {
        World::note(&self, Seen::Closed);
        Ok(())
    }
}

/// A running reconciler and all that it touches.
struct Edge {
    world: World,
    events: mpsc::Sender<Event>,
    verdicts: mpsc::Sender<Verdict>,
    news: watch::Sender<WorkerView>,
    file: PathBuf,
    dir: Arc<tempfile::TempDir>,
}

const FILE: &str = "[edge]\ndatapath = \"sockets\"\n[service.a]\naddresses = [\"127.0.0.1:8001\"]\nmode = \"http\"\npool = \"p\"\n[pool.p]\nbackends = [\"10.0.0.1:80\"]\nhealth.type = \"tcp\"\n";

impl Edge {
    async fn start() -> Self {
        Self::start_with(FILE).await
    }

    async fn start_with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.toml");
        std::fs::write(&file, text).unwrap();
        let config = config::load(&file).unwrap().config;
        Self::start_of(config, file, dir).await
    }

    async fn start_of(config: Config, file: PathBuf, dir: tempfile::TempDir) -> Self {
        Self::recover(config, file, Arc::new(dir), Recovered::default()).await
    }

    /// As after a start with what was recovered.
    async fn recover(config: Config, file: PathBuf, dir: Arc<tempfile::TempDir>, recovered: Recovered) -> Self {
        let (overlay, aside) = recovered.overlay(&config, SystemTime::now());
        let world = World::default();
        let (worker, news) = world.worker();
        let mut reconciler = Reconciler {
            path: file.clone(),
            started: Instant::now(),
            config: Arc::new(config),
            warnings: [].into(),
            observed: recovered.observed(),
            overlay,
            book: recovered.book,
            said: 0,
            aside,
            checking: Checking::of(Default::default()),
            names: watch::Sender::new(ServiceIds::default()),
            datapath: world.clone(),
            worker,
            reloads: (0, 0),
            changes: (0, 0),
            keeper: Keeper::new(tickets::RandomKeys::new(Instant::now()).unwrap(), Arc::default()),
            names_of_backends: super::names::Names::default(),
            behind: false,
            listeners: Vec::new(),
            noted: serde_json::Value::Null,
            handing: Default::default(),
        };
        reconciler.catch_up().await;
        reconciler.begin().await;
        reconciler.retarget_names();
        let (events, event_receiver) = mpsc::channel(4);
        let (verdicts, verdict_receiver) = mpsc::channel(4);
        tokio::spawn(reconciler.run(event_receiver, verdict_receiver));
        Self { world, events, verdicts, news, file, dir }
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> T {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.unwrap();
        answer.await.unwrap()
    }

    async fn reload(&self, text: &str) -> Result<Reloaded, Refusal> {
        std::fs::write(&self.file, text).unwrap();
        self.ask(|reply| Event::Reload { who: Who::named("test"), only_if: OnlyIf::default(), reply }).await
    }

    async fn pool(&self, change: PoolChange) -> Result<u64, Refusal> {
        let address = ([10, 0, 0, 1], 80).into();
        self.make(Change::Pool { pool: "p".into(), address, change }).await
    }

    async fn make(&self, change: Change) -> Result<u64, Refusal> {
        let asked = Asked { changes: vec![change], who: Who::named("test"), ..Asked::default() };
        Ok(self.ask(|reply| Event::Change { asked, reply }).await?.generation)
    }

    async fn state(&self) -> State {
        self.ask(|reply| Event::Query { counters: true, reply }).await
    }

    /// Tell what a check says, and wait until the state shows it.
    async fn verdict(&self, up: bool) {
        let address = ([10, 0, 0, 1], 80).into();
        self.verdicts.send(Verdict { pool: "p".into(), address, up, cause: "said so".into() }).await.unwrap();
        while self.state().await.health.values().next().map(|note| note.up) != Some(up) {}
    }
}

fn with_service_b() -> String {
    FILE.to_owned() + "[service.b]\naddresses = [\"127.0.0.1:8002\"]\nmode = \"http\"\npool = \"p\"\n"
}

#[tokio::test]
async fn the_worker_knows_a_service_before_the_datapath_leads_to_it() {
    let edge = Edge::start().await;
    assert_eq!(edge.world.take(), [Seen::Published(1), Seen::Applied(1), Seen::Listening]);
    assert_eq!(edge.reload(&with_service_b()).await.unwrap().generation, 2);
    assert_eq!(edge.world.take(), [Seen::Published(2), Seen::Applied(2), Seen::Listening]);
    // The same file again: nothing to do.
    assert_eq!(edge.reload(&with_service_b()).await.unwrap().generation, 2);
    assert_eq!(edge.world.take(), []);
    assert_eq!(edge.state().await.reloads, (2, 0));
}

#[tokio::test]
async fn what_the_datapath_refuses_is_taken_back_from_the_worker() {
    let edge = Edge::start().await;
    *edge.world.datapath_refuses.lock().unwrap() = true;
    assert!(matches!(edge.reload(&with_service_b()).await, Err(Refusal::Datapath(_))));
    assert_eq!(edge.world.snapshot.lock().unwrap().services.len(), 1);
    let state = edge.state().await;
    assert_eq!((state.generation, state.config.services.len(), state.reloads), (3, 1, (0, 1)));
    *edge.world.datapath_refuses.lock().unwrap() = false;
    assert_eq!(edge.reload(&with_service_b()).await.unwrap().generation, 4);
}

#[tokio::test]
async fn what_the_worker_refuses_reaches_no_datapath() {
    let edge = Edge::start().await;
    edge.world.take();
    *edge.world.worker_refuses.lock().unwrap() = true;
    let refused = edge.reload(&with_service_b()).await.unwrap_err();
    assert!(refused.to_string().contains("not today"), "{refused}");
    assert_eq!(edge.world.take(), []);
    assert_eq!(edge.state().await.config.services.len(), 1);
}

#[tokio::test]
async fn a_bad_file_and_a_fixed_key_change_nothing() {
    let edge = Edge::start().await;
    edge.world.take();
    assert!(matches!(edge.reload("[egde]\n").await, Err(Refusal::Config(_))));
    let moved = FILE.replace("[edge]", "[admin]\nmetrics = \"127.0.0.1:9999\"\n[edge]\nname = \"other\"");
    let refused = edge.reload(&moved).await.unwrap_err();
    assert!(refused.to_string().contains("edge.name, admin.metrics"), "{refused}");
    assert_eq!(edge.world.take(), []);
    assert_eq!(edge.state().await.reloads, (0, 2));
}

#[tokio::test]
async fn runtime_changes_survive_a_reload() {
    let edge = Edge::start().await;
    edge.pool(PoolChange::Drain { seconds: None }).await.unwrap();
    assert_eq!(edge.world.backend(), BackendState::Draining);
    edge.reload(&with_service_b()).await.unwrap();
    assert_eq!(edge.world.backend(), BackendState::Draining);
    edge.pool(PoolChange::Enable).await.unwrap();
    assert_eq!(edge.world.backend(), BackendState::Up);
    edge.pool(PoolChange::Remove).await.unwrap();
    assert!(matches!(
        edge.pool(PoolChange::Drain { seconds: None }).await,
        Err(Refusal::Change(ChangeError::NoBackend { .. }))
    ));
}

#[tokio::test]
async fn health_reaches_the_worker_also_when_it_cannot_be_told_at_once() {
    let edge = Edge::start().await;
    edge.verdict(false).await;
    assert_eq!(edge.world.backend(), BackendState::Down);
    *edge.world.worker_refuses.lock().unwrap() = true;
    edge.verdict(true).await;
    assert_eq!(edge.world.backend(), BackendState::Down);
    *edge.world.worker_refuses.lock().unwrap() = false;
    edge.news.send_modify(|view| view.restarts += 1);
    tokio::time::timeout(Duration::from_secs(10), async {
        while edge.world.backend() != BackendState::Up {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("told when the worker answers again");
    // Without checks the backend counts as up, whatever they said.
    edge.verdict(false).await;
    edge.reload(&FILE.replace("health.type = \"tcp\"\n", "")).await.unwrap();
    assert_eq!(edge.world.backend(), BackendState::Up);
}

#[tokio::test]
async fn the_end_drains_before_it_takes_the_addresses_away() {
    let edge = Edge::start().await;
    edge.world.take();
    let source = ([10, 9, 9, 9], 5).into();
    let destination = ([127, 0, 0, 1], 8001).into();
    let way = edge.ask(|reply| Event::Flow { protocol: Protocol::Tcp, source, destination, reply }).await.unwrap();
    assert_eq!((way.service.as_deref(), way.answer.cpu), (Some("a"), Some(1)));
    edge.ask(|reply| Event::Shutdown { grace: Duration::from_secs(1), reply }).await.unwrap();
    assert_eq!(edge.world.take(), [Seen::Drained, Seen::Closed]);
}
