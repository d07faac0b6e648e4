//! `bailey run`: the order of start and of end.
//!
//! Start: config, names that only one daemon may have (socket, metrics port), datapath, worker, agents; then the
//! service manager is told. Whatever fails takes back what was done before it. End: drain, then everything out.

use crate::admin::{self, AdminSocket, Room, SocketError};
use crate::config::{self, Config, DatapathKind, Edge, LoadError, Loaded, Resolved, Severity};
use crate::datapath::{Datapath, DatapathError, KernelDatapath, KernelOptions, SocketsDatapath, Worker};
use crate::files::FilesAgent;
use crate::health;
use crate::metrics;
use crate::names::{self, NamesAgent};
use crate::ocsp;
use crate::open_files;
use crate::reconcile::{Event, OnlyIf, Reconciler, Recovered, Refusal};
use crate::state::{Book, SessionStore, StateError, Who};
use crate::supervisor::{self, LaunchError, Sessions};
use rustix::process::{Resource, Rlimit, setrlimit};
use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::{self, Hello, ThreadInfo, WIRE_VERSION};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

/// For connections that are open at the end.
const GRACE: Duration = Duration::from_secs(10);
/// For everything else at the end.
const CLOSE: Duration = Duration::from_secs(10);
/// Requests that wait for the reconciler; more wait at their senders.
const EVENTS: usize = 64;

/// Why the edge does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The admin socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The metrics port cannot be had.
    #[error("cannot listen on {address} for metrics: {source}; set another `metrics` under [admin]")]
    Metrics {
        /// `[admin] metrics`.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The worker's program cannot be run.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The datapath cannot be had.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The state directory is not for this edge.
    #[error(transparent)]
    State(#[from] StateError),
    /// The first state was refused.
    #[error(transparent)]
    Start(#[from] Refusal),
    /// Signals cannot be taken.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// The end took too long.
    #[error("the edge did not end within {0:?}")]
    Stuck(Duration),
}

/// Run until SIGTERM or SIGINT.
pub async fn run(path: PathBuf, loaded: Loaded) -> Result<(), RunError> {
    let workers = (0..).zip(&loaded.config.edge.cpus).map(|(index, cpu)| Worker { index, cpu: *cpu }).collect();
    if loaded.config.edge.datapath == DatapathKind::Sockets {
        return serve(path, loaded, async |_| Ok(SocketsDatapath::open(workers, None))).await;
    }
    serve(path, loaded, async |config| KernelDatapath::open(kernel_options(&config.edge, workers), None).await).await
}

fn kernel_options(edge: &Edge, workers: Vec<Worker>) -> KernelOptions {
    KernelOptions {
        name: edge.name.clone(),
        interfaces: edge.interfaces.clone(),
        native: edge.datapath == DatapathKind::Native,
        steering: edge.steering,
        workers,
        max_services: edge.max_services,
        max_addresses: edge.max_addresses,
        packet_log_sample: edge.packet_log_sample,
        tuning: edge.tuning.clone(),
    }
}

/// Log to standard error, by `[edge] log`.
pub fn log_to_stderr(filter: &str, color: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).try_init();
}

/// The edge with a datapath that is opened when everything that can be refused earlier was not.
pub async fn serve<D: Datapath>(
    path: PathBuf,
    loaded: Loaded,
    open: impl AsyncFnOnce(&Config) -> Result<D, DatapathError>,
) -> Result<(), RunError> {
    let edge = &loaded.config.edge;
    for warning in loaded.warnings.views().iter().filter(|view| view.severity == Severity::Warning) {
        tracing::warn!("{warning}");
    }
    open_files::raise();
    // Private keys are in this memory.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps stay possible, and would hold private keys");
    }
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let launch = supervisor::launch(edge.worker_binary.as_deref(), edge.user.as_deref())?;
    let admin = &loaded.config.admin;
    let socket = AdminSocket::bind(&admin.socket, &admin.access)?;
    let read_only = admin.read_only.as_ref().map(|(path, access)| AdminSocket::bind(path, access)).transpose()?;
    let rooms = [(); 2].map(|()| Room::new(admin.max_connections as usize));
    let (recovered, store) = recover(&loaded.config).await?;
    let metrics = match loaded.config.admin.metrics {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|source| RunError::Metrics { address, source })?)
        }
        None => None,
    };
    let threads = (0..).zip(&edge.cpus).map(|(index, cpu)| ThreadInfo { index, cpu: Some(*cpu) }).collect();
    let hello = Hello { version: WIRE_VERSION, threads, log: Some(edge.log.clone()) };
    let datapath = open(&loaded.config).await?;
    let description = datapath.describe();
    let name = edge.name.clone();
    let counts = Arc::new(ocsp::Counts::default());
    let (worker_side, agent_side) = ocsp::channel(&counts);
    let link = (worker_side, Arc::clone(&counts));
    let resolved = Resolved::first(&loaded.config).await;
    let loaded = Loaded { config: loaded.config.resolved(&resolved), ..loaded };
    let reconciler = Reconciler::start(path, loaded, recovered, datapath, launch, hello, link).await?;
    let reconciler = reconciler.with_names(resolved);

    let (events, event_receiver) = mpsc::channel(EVENTS);
    let (verdicts, verdict_receiver) = mpsc::channel(EVENTS);
    let agent = health::Agent { targets: reconciler.targets(), verdicts, gauges: reconciler.checking() };
    let staples = ocsp::StapleAgent {
        ask: ocsp::Responders,
        targets: reconciler.staple_targets(),
        events: events.clone(),
        store: reconciler.staple_store(),
        counts,
    };
    let names = NamesAgent {
        lookup: names::Dns::new(&reconciler.wanted_names().borrow().rules),
        wanted: reconciler.wanted_names(),
        events: events.clone(),
        notes: reconciler.name_notes(),
        store: reconciler.name_store(),
    };
    let logs = reconciler.access_logs();
    let files = FilesAgent { watched: reconciler.watched(), events: events.clone() };
    let mut reconciling = tokio::spawn(reconciler.run(event_receiver, verdict_receiver));
    let mut servers = JoinSet::new();
    servers.spawn(agent.run());
    servers.spawn(ocsp::ClientAgent::new(ocsp::Responders, agent_side).run());
    servers.spawn(staples.run());
    servers.spawn(files.run());
    servers.spawn(names.run());
    let [room, readers] = &rooms;
    servers.spawn(admin::serve(socket, events.clone(), false, room.clone()));
    if let Some(socket) = read_only {
        servers.spawn(admin::serve(socket, events.clone(), true, readers.clone()));
    }
    if let Some(listener) = metrics {
        servers.spawn(metrics::serve(listener, events.clone(), rooms.clone()));
    }
    let (end_saving, ending) = oneshot::channel();
    let saving = store.map(|store| tokio::spawn(store.run(ending)));
    tracing::info!(name, datapath = description.datapath, interfaces = ?description.interfaces, "edge runs");
    notify(&[NotifyState::Ready]);

    loop {
        tokio::select! {
            ask = signals.next() => match ask {
                Ask::Reload => reload(&events).await,
                Ask::Reopen => logs.reopen(),
                Ask::End => break,
            },
            _ = &mut reconciling => break,
        }
    }

    notify(&[NotifyState::Stopping]);
    tracing::info!(grace_seconds = GRACE.as_secs(), "edge ends; open connections are given the grace");
    // The socket goes with its server: from here on the command line is told that nobody listens.
    servers.shutdown().await;
    let (reply, closed) = oneshot::channel();
    let all = GRACE + CLOSE;
    if events.send(Event::Shutdown { grace: GRACE, reply }).await.is_ok() {
        match timeout(all, closed).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) | Err(_) => return Err(RunError::Stuck(all)),
        }
    }
    drop(end_saving);
    if let Some(saving) = saving
        && timeout(CLOSE, saving).await.is_err()
    {
        tracing::warn!("the last sessions are not saved");
    }
    tracing::info!("edge ended");
    Ok(())
}

/// What the state directory says of the edge before this one.
async fn recover(config: &Config) -> Result<(Recovered, Option<SessionStore>), RunError> {
    let edge = &config.edge;
    let opened = Book::open(edge.state.as_deref(), edge.state_history as usize)?;
    let sessions = Sessions::default();
    let store = match &edge.state {
        Some(state) if edge.state_sessions > 0 => {
            let named = |pool: &config::Pool| api::Pool {
                name: pool.name.clone(),
                persistence: pool.persistence.clone(),
                ..api::Pool::default()
            };
            let pools: Vec<_> = config.pools.iter().map(named).collect();
            Some(SessionStore::open(state, edge.state_sessions, &pools, &sessions).await)
        }
        _ => None,
    };
    let found = opened.found;
    let overlay = found.history.overlay().clone();
    let recovered = Recovered { overlay, ids: found.ids, generation: found.generation, sessions, book: opened.book };
    Ok((recovered, store))
}

/// What a signal asks for.
enum Ask {
    Reload,
    /// Files of access logs were rotated.
    Reopen,
    End,
}

struct Signals {
    hangup: Signal,
    user1: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.hangup.recv() => Ask::Reload,
            _ = self.user1.recv() => Ask::Reopen,
            _ = self.terminate.recv() => Ask::End,
            _ = self.interrupt.recv() => Ask::End,
        }
    }
}

/// The reconciler logs what came of it.
async fn reload(events: &mpsc::Sender<Event>) {
    let now = NotifyState::monotonic_usec_now();
    if let Ok(now) = now {
        notify(&[NotifyState::Reloading, now]);
    }
    let (reply, done) = oneshot::channel();
    if events.send(Event::Reload { who: Who::named("SIGHUP"), only_if: OnlyIf::default(), reply }).await.is_ok() {
        let _ = done.await;
    }
    notify(&[NotifyState::Ready]);
}

/// Tell the service manager, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "service manager not told");
    }
}
