//! A worker thread: pinned, with a runtime, listeners, connections, upstream pools and counters of its own. It takes
//! [`Order`]s from the control loop and shares nothing else with anybody.

use crate::accept;
use crate::api::{Event, Report, ThreadInfo, ThreadReport};
use crate::compile::Compiled;
use crate::conn::{Bell, Signal};
use crate::drain;
use crate::handshakes::Handshakes;
use crate::log::Way;
use crate::overload::Room;
use crate::stats::{self, BackendFailure, Ejection, Registry, ThreadStats};
use crate::stream;
use crate::tls::{Answer, Ocsp, UpstreamConfigs, UpstreamIdentity};
use crate::upstream::{Backend, PoolState};
use crate::view::View;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

/// Orders that wait at a thread before the control loop waits too.
const QUEUE: usize = 64;

/// From the control loop to a thread.
pub(crate) enum Order {
    /// Accept on these, by [`crate::api::ListenerInfo::id`].
    Listen(Vec<(u64, std::net::TcpListener)>),
    /// No longer accept on these.
    Unlisten(Vec<u64>),
    /// Serve by this; answered when new connections and requests do.
    Apply(Arc<Compiled>, oneshot::Sender<()>),
    /// What is known of a client's certificate.
    Ocsp(Answer),
    /// Lines of access logs go here.
    Log(OwnedFd),
    /// Answer with the thread's part of a report.
    Report(oneshot::Sender<Report>),
    /// Accept no more, end what is idle, cut the rest after this long, then end.
    Drain(Duration),
}

/// The control loop's hold on a thread.
pub(crate) struct Handle {
    pub(crate) index: u32,
    pub(crate) orders: mpsc::Sender<Order>,
    /// Resolves when the thread has drained.
    pub(crate) done: oneshot::Receiver<()>,
}

/// Start a thread, one of so many; returns when it is pinned and runs. What it asks the control plane goes to `events`.
pub(crate) fn start(info: &ThreadInfo, threads: u32, events: mpsc::Sender<Event>) -> io::Result<Handle> {
    let (orders, inbox) = mpsc::channel(QUEUE);
    let (done_tx, done) = oneshot::channel();
    let (started_tx, started) = std::sync::mpsc::channel();
    let info = info.clone();
    let index = info.index;
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        // Connections run as tasks, whose panics end just them. What panics outside of a task leaves a thread's
        // connections with nobody: the process ends, and the control plane starts another one.
        let run = AssertUnwindSafe(|| run(&info, threads, events, inbox, &started_tx));
        if std::panic::catch_unwind(run).is_err() {
            std::process::abort();
        }
        let _ = done_tx.send(());
    })?;
    match started.recv() {
        Ok(result) => result.map(|()| Handle { index, orders, done }),
        Err(_) => Err(io::Error::other("the thread ended before it began")),
    }
}

fn run(
    info: &ThreadInfo,
    threads: u32,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Order>,
    started: &std::sync::mpsc::Sender<io::Result<()>>,
) {
    let prepare = || {
        if let Some(cpu) = info.cpu {
            pin(cpu)?;
        }
        Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
    };
    match prepare() {
        Ok(runtime) => {
            let _ = started.send(Ok(()));
            let thread = Rc::new(Thread::new(info, threads, events));
            runtime.block_on(thread.serve(inbox));
        }
        Err(e) => {
            let _ = started.send(Err(e));
        }
    }
}

fn pin(cpu: u32) -> io::Result<()> {
    let mut set = CpuSet::new();
    if cpu as usize >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("cannot pin to CPU {cpu}: no such CPU")));
    }
    set.set(cpu as usize);
    sched_setaffinity(None, &set)
        .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("cannot pin to CPU {cpu}: {e}")))
}

/// Pool and address.
type BackendKey = (Arc<str>, SocketAddr);
type Pools = HashMap<Arc<str>, Rc<PoolState>>;

/// What the tasks of one thread share.
pub(crate) struct Thread {
    pub(crate) index: u32,
    /// How many there are.
    pub(crate) threads: u32,
    pub(crate) cpu: Option<u32>,
    pub(crate) stats: Arc<ThreadStats>,
    pub(crate) registry: RefCell<Registry>,
    /// Open connections and tunnels, the oldest first.
    pub(crate) open: RefCell<BTreeMap<u64, Rc<Bell>>>,
    pub(crate) room: Room,
    pub(crate) next_connection: Cell<u64>,
    /// Notified when the last of `open` is gone.
    pub(crate) closed: Notify,
    pub(crate) draining: Cell<bool>,
    /// Answers that are being compressed.
    pub(crate) compressing: Cell<u32>,
    pub(crate) handshakes: Rc<Handshakes>,
    pub(crate) ocsp: Ocsp,
    /// Lines of access logs, on their way out.
    pub(crate) log: Rc<Way>,
    /// Buffers and pipes of connections without HTTP.
    pub(crate) relay: Rc<stream::Store>,
    view: RefCell<Rc<View>>,
    listeners: RefCell<HashMap<u64, AbortHandle>>,
    backends: RefCell<HashMap<BackendKey, Rc<Backend>>>,
    pools: RefCell<Pools>,
    /// By [`UpstreamIdentity::id`], those of the view in force.
    upstream_configs: RefCell<HashMap<u64, Rc<UpstreamConfigs>>>,
}

impl Thread {
    fn new(info: &ThreadInfo, threads: u32, events: mpsc::Sender<Event>) -> Self {
        let empty = View::empty();
        let stats = Arc::<ThreadStats>::default();
        Thread {
            index: info.index,
            threads,
            cpu: info.cpu,
            handshakes: Rc::new(Handshakes::new(stats.clone())),
            ocsp: Ocsp::new(events),
            stats,
            registry: RefCell::default(),
            open: RefCell::default(),
            room: Room::default(),
            next_connection: Cell::new(0),
            closed: Notify::new(),
            draining: Cell::new(false),
            log: Rc::default(),
            compressing: Cell::new(0),
            relay: Rc::default(),
            view: RefCell::new(Rc::new(empty)),
            listeners: RefCell::default(),
            backends: RefCell::default(),
            pools: RefCell::default(),
            upstream_configs: RefCell::default(),
        }
    }

    /// The generation in force.
    pub(crate) fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// What is kept of a backend across generations.
    pub(crate) fn backend(&self, pool: &Rc<PoolState>, address: SocketAddr) -> Rc<Backend> {
        let new = || Rc::new(Backend::new(address, pool.clone()));
        self.backends.borrow_mut().entry((pool.name.clone(), address)).or_insert_with(new).clone()
    }

    /// What is kept of a pool across generations.
    pub(crate) fn pool(&self, name: &Arc<str>) -> Rc<PoolState> {
        let new = || Rc::new(PoolState::new(name.clone()));
        self.pools.borrow_mut().entry(name.clone()).or_insert_with(new).clone()
    }

    /// This thread's TLS configurations towards backends.
    pub(crate) fn upstream_configs(&self, identity: &UpstreamIdentity) -> Rc<UpstreamConfigs> {
        let mut known = self.upstream_configs.borrow_mut();
        known.entry(identity.id).or_insert_with(|| Rc::new(identity.for_thread())).clone()
    }

    async fn serve(self: Rc<Self>, mut inbox: mpsc::Receiver<Order>) {
        let mut drained: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            let finished = async {
                match drained.as_mut() {
                    Some(task) => {
                        let _ = task.await;
                    }
                    None => std::future::pending().await,
                }
            };
            let order = tokio::select! {
                order = inbox.recv() => order,
                () = finished => return self.log.finish().await,
            };
            match order {
                Some(Order::Listen(listeners)) => self.listen(listeners),
                Some(Order::Unlisten(ids)) => self.unlisten(&ids),
                Some(Order::Apply(compiled, answer)) => {
                    self.apply(compiled);
                    let _ = answer.send(());
                }
                Some(Order::Ocsp(answer)) => self.ocsp.answer(answer),
                Some(Order::Log(pipe)) => self.log.open(pipe),
                Some(Order::Report(answer)) => {
                    let _ = answer.send(self.report());
                }
                Some(Order::Drain(grace)) => {
                    self.unlisten_all();
                    if let Some(longer) = drained.replace(tokio::task::spawn_local(drain::run(self.clone(), grace))) {
                        longer.abort();
                    }
                }
                // The control loop is gone without a word: so is the process, in a moment.
                None => return,
            }
        }
    }

    fn listen(self: &Rc<Self>, listeners: Vec<(u64, std::net::TcpListener)>) {
        for (id, listener) in listeners {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(id, %error, "a listener that was handed over cannot be used");
                    continue;
                }
            };
            let task = tokio::task::spawn_local(accept::run(self.clone(), listener));
            if let Some(old) = self.listeners.borrow_mut().insert(id, task.abort_handle()) {
                old.abort();
            }
        }
    }

    fn unlisten(&self, ids: &[u64]) {
        let mut listeners = self.listeners.borrow_mut();
        ids.iter().filter_map(|id| listeners.remove(id)).for_each(|task| task.abort());
    }

    fn unlisten_all(&self) {
        self.listeners.borrow_mut().drain().for_each(|(_, task)| task.abort());
    }

    fn apply(&self, compiled: Arc<Compiled>) {
        self.handshakes.configure(compiled.handshakes);
        self.room.configure(compiled.max_connections);
        let view = Rc::new(View::new(self, compiled));
        let used: Vec<u64> = view.pools.iter().filter_map(|p| p.tls.as_ref()).map(|t| t.identity.id).collect();
        self.upstream_configs.borrow_mut().retain(|id, _| used.contains(id));
        // Its service is gone, or it was made under rules that hold no longer.
        let ends = |bell: &&Rc<Bell>| {
            let place = view.place_of(&bell.service);
            place.is_none_or(|index| !bell.may_go_on(view.compiled.services[index].tls.as_deref()))
        };
        self.open.borrow().values().filter(ends).for_each(|bell| bell.ring(Signal::Finish));
        let serving: HashSet<*const Backend> =
            view.pools.iter().flat_map(|p| &p.all).map(|c| Rc::as_ptr(&c.backend)).collect();
        let mut backends = self.backends.borrow_mut();
        backends.values().filter(|b| !serving.contains(&Rc::as_ptr(b))).for_each(|b| b.retire());
        drop(self.view.replace(view));
        stats::bound(&mut backends, |b| Rc::strong_count(b) == 1);
        stats::bound(&mut self.pools.borrow_mut(), |p| Rc::strong_count(p) == 1);
        self.registry.borrow_mut().bound();
    }

    /// What threads share is told by one of them.
    fn tell_limits(&self, report: &mut Report) {
        let view = self.view.borrow();
        for service in &mut report.services {
            let compiled = view.place_of(&service.service).map(|index| &view.compiled.services[index]);
            service.limited_sources =
                compiled.and_then(|s| s.client_limits.as_ref()).map_or(0, |limits| limits.sources());
        }
    }

    fn report(&self) -> Report {
        let mut report = self.registry.borrow().report();
        if self.index == 0 {
            self.tell_limits(&mut report);
        }
        report.threads.push(ThreadReport {
            index: self.index,
            cpu: self.cpu,
            generation: self.view.borrow().generation(),
            connections: self.stats.connections.get(),
            connections_on_cpu: self.stats.on_cpu.get(),
            connections_unknown: self.stats.unknown.get(),
            connections_active: self.stats.active.get(),
            handshakes_active: self.stats.handshakes_active.get(),
            handshakes_waiting: self.stats.handshakes_waiting.get(),
            handshakes_queued: self.stats.handshakes_queued.get(),
            connections_asked: self.stats.asked_to_end.get(),
            connections_refused: self.stats.refused.get(),
            accept_failures: self.stats.accept_failures.get(),
        });
        let view = self.view();
        for ready in &view.compiled.authorizers {
            let known = report.authorizers.iter_mut().find(|report| report.authorizer == *ready.name);
            known.into_iter().for_each(|report| report.kept = ready.kept() as u64);
        }
        for ((pool, backend), kept) in self.backends.borrow().iter() {
            report.backends.push(crate::api::BackendReport {
                pool: pool.to_string(),
                backend: *backend,
                active: kept.stats.active.get(),
                tunnels: kept.stats.tunnels.get(),
                cut_requests: kept.stats.cut_requests.get(),
                cut_tunnels: kept.stats.cut_tunnels.get(),
                drain_left_ms: kept.drain_left(),
                connections: kept.stats.connections.get(),
                connections_open: kept.stats.open.get(),
                failures: kept.stats.failures.read(BackendFailure::NAMES),
                ejected: kept.is_out().into(),
                ejections: kept.stats.ejections.read(Ejection::NAMES),
            });
        }
        report.pools.extend(self.pools.borrow().values().map(|pool| pool.stats.report(&pool.name, pool.waiting())));
        report
    }
}
