//! `bailey run`: the order of start and of end.
//!
//! Start: config, names that only one daemon may have (socket, metrics port), datapath, worker, agents; then the
//! service manager is told. Whatever fails takes back what was done before it. End: drain, then everything out; or, after
//! an upgrade, everything is another control plane's, and the workers drain.

mod asks;
mod before;
mod kept;
mod signals;

use crate::admin::{self, AdminSocket, HandOn, Room, SocketAccess, SocketError};
use crate::config::{Config, DatapathKind, Edge, LoadError, Loaded, Resolved, Severity};
use crate::datapath::{Datapath, DatapathError, Inherited, KernelDatapath, KernelOptions, SocketsDatapath, Worker};
use crate::files::FilesAgent;
use crate::health;
use crate::metrics;
use crate::names::{self, NamesAgent};
use crate::ocsp;
use crate::open_files;
use crate::reconcile::{Event, Reconciler, Refusal, Upgraded};
use crate::state::{SessionStore, StateError};
use crate::supervisor::{self, LaunchError, Places, Staff};
use crate::upgrade::{HandoverError, Old, Predecessor, Sockets};
use asks::{leave, pass_on_the_end, reload, upgrade_by_signal};
use before::Before;
use kept::{recover, saved};
use rustix::process::{Resource, Rlimit, setrlimit};
use sd_notify::NotifyState;
use signals::{Ask, Signals, notify};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::ThreadInfo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
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
    /// Another control plane does not hand over.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// Signals cannot be taken.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// The end took too long.
    #[error("the edge did not end within {0:?}")]
    Stuck(Duration),
}

/// Run until SIGTERM or SIGINT, or until another control plane has taken over. `predecessor` lives, and hands over.
pub async fn run(path: PathBuf, loaded: Loaded, predecessor: Option<Predecessor>) -> Result<(), RunError> {
    let workers = (0..).zip(&loaded.config.edge.cpus).map(|(index, cpu)| Worker { index, cpu: *cpu }).collect();
    if loaded.config.edge.datapath == DatapathKind::Sockets {
        let open = async |_: &Config, inherited| Ok(SocketsDatapath::open(workers, inherited));
        return serve(path, loaded, predecessor, open).await;
    }
    let open =
        async |config: &Config, inherited| KernelDatapath::open(kernel_options(&config.edge, workers), inherited).await;
    serve(path, loaded, predecessor, open).await
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
    predecessor: Option<Predecessor>,
    open: impl AsyncFnOnce(&Config, Option<Inherited>) -> Result<D, DatapathError>,
) -> Result<(), RunError> {
    let places = Places::beside(&loaded.config.admin.socket, &loaded.config.edge.name);
    let mut before = Before::look(&loaded.config.edge, &places, predecessor).await?;
    match begin(path, loaded, &places, &mut before, open).await {
        Ok(begun) => begun.go_on(before, places).await,
        Err(error) => {
            before.refuse(&error).await;
            Err(error)
        }
    }
}

/// An edge whose workers accept, and that nobody can ask anything yet.
struct Begun<D> {
    reconciler: Reconciler<D>,
    signals: Signals,
    socket: AdminSocket,
    read_only: Option<AdminSocket>,
    rooms: [Room; 2],
    hand_on: Vec<HandOn>,
    store: Option<SessionStore>,
    metrics: Option<TcpListener>,
    counts: Arc<ocsp::Counts>,
    ocsp: ocsp::AgentSide,
    old: Old,
    drain: Duration,
}

async fn begin<D: Datapath>(
    path: PathBuf,
    loaded: Loaded,
    places: &Places,
    before: &mut Before,
    open: impl AsyncFnOnce(&Config, Option<Inherited>) -> Result<D, DatapathError>,
) -> Result<Begun<D>, RunError> {
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
    let signals = Signals::new().map_err(RunError::Signals)?;
    // By the name that it has now: an upgrade of the package replaces the file.
    let program = std::env::current_exe().unwrap_or_else(|_| Path::new("/proc/self/exe").to_owned());
    let launch = supervisor::launch(edge.worker_binary.as_deref(), edge.user.as_deref())?;
    let admin = &loaded.config.admin;
    let mut sockets = Sockets::new();
    let mut hand_on = Vec::new();
    let mut bound = |name: &'static str, path: &Path, access: &SocketAccess| -> Result<AdminSocket, RunError> {
        let socket = match before.socket(name) {
            // One whose place is another now stays with its maker.
            Some(socket) if path.exists() => AdminSocket::inherit(socket, path, access)?,
            _ => AdminSocket::bind(path, access)?,
        };
        let (once_more, word) = socket.hand_on()?;
        sockets.push((name, once_more));
        hand_on.push(word);
        Ok(socket)
    };
    let socket = bound("admin", &admin.socket, &admin.access)?;
    let read_only = admin.read_only.as_ref().map(|(path, access)| bound("read_only", path, access)).transpose()?;
    let rooms = [(); 2].map(|()| Room::new(admin.max_connections as usize));
    let (recovered, store) = recover(&loaded.config).await?;
    let metrics = match loaded.config.admin.metrics {
        Some(address) => {
            let listener = metrics_listener(address, before);
            let listener = listener.map_err(|source| RunError::Metrics { address, source })?;
            let once_more = listener.as_fd().try_clone_to_owned();
            sockets.push(("metrics", once_more.map_err(|source| RunError::Metrics { address, source })?));
            Some(listener)
        }
        None => None,
    };
    let threads = (0..).zip(&edge.cpus).map(|(index, cpu)| ThreadInfo { index, cpu: Some(*cpu) }).collect();
    let resolved = Resolved::first(&loaded.config).await;
    let loaded = Loaded { config: loaded.config.resolved(&resolved), ..loaded };
    let edge = &loaded.config.edge;
    let datapath = open(&loaded.config, before.inherited()).await?;
    let recovered = before.recovered(recovered);
    let staff = Staff {
        log: Some(edge.log.clone()),
        processes: edge.life.workers as usize,
        // While somebody lives who has the edge, workers that lose this process are not to be found by a third.
        places: (!before.lives()).then(|| places.clone()),
        alone: edge.life.alone,
        drain: edge.life.drain,
        orphans: std::mem::take(&mut before.orphans),
        ..Staff::new(launch, threads)
    };
    let old = Old { program, config: path.clone(), edge: edge.name.clone(), sockets };
    let drain = edge.life.drain;
    let counts = Arc::new(ocsp::Counts::default());
    let (worker_side, ocsp) = ocsp::channel(&counts);
    let link = (worker_side, Arc::clone(&counts));
    let reconciler = Reconciler::start(path, loaded, recovered, datapath, staff, link).await?;
    let reconciler = reconciler.with_names(resolved);
    Ok(Begun { reconciler, signals, socket, read_only, rooms, hand_on, store, metrics, counts, ocsp, old, drain })
}

fn metrics_listener(address: SocketAddr, before: &mut Before) -> std::io::Result<TcpListener> {
    let handed = before.socket("metrics").map(std::net::TcpListener::from);
    let same = handed.filter(|listener| listener.local_addr().is_ok_and(|at| at == address));
    let listener = match same {
        Some(listener) => listener,
        None => std::net::TcpListener::bind(address)?,
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

impl<D: Datapath> Begun<D> {
    async fn go_on(self, before: Before, places: Places) -> Result<(), RunError> {
        let Self {
            mut reconciler,
            mut signals,
            socket,
            read_only,
            rooms,
            hand_on,
            store,
            metrics,
            counts,
            ocsp,
            old,
            drain,
        } = self;
        let successor = match before.ready(reconciler.generation()).await {
            Ok(successor) => successor,
            Err(error) => {
                hand_on.iter().for_each(HandOn::done);
                reconciler.abandon().await;
                return Err(error);
            }
        };
        if let Some(successor) = successor {
            // In this order: until it is over, workers of ours that lose us end, and are found by nobody.
            successor.serving().await;
            reconciler.taken_over(places).await;
        }
        [Some(&socket), read_only.as_ref()].into_iter().flatten().for_each(AdminSocket::ours);
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
        let mut wishes = reconciler.wishes();
        let description = reconciler.describe();
        let mut reconciling = tokio::spawn(reconciler.run(event_receiver, verdict_receiver));
        let mut servers = JoinSet::new();
        servers.spawn(agent.run());
        servers.spawn(ocsp::ClientAgent::new(ocsp::Responders, ocsp).run());
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
        // While the old control plane has the store, this one waits for it.
        let (end_saving, ending) = oneshot::channel();
        let saving = store.map(|store| tokio::spawn(store.run(ending)));
        let (name, datapath, interfaces) = (&old.edge, &description.datapath, &description.interfaces);
        tracing::info!(name, datapath, ?interfaces, "edge runs");
        notify(&[NotifyState::Ready]);

        let old = Arc::new(old);
        let mut upgrade: Option<JoinHandle<Option<Upgraded>>> = None;
        let taken = loop {
            tokio::select! {
                ask = signals.next() => match ask {
                    Ask::Reload => reload(&events).await,
                    Ask::Reopen => logs.reopen(),
                    Ask::Upgrade => drop(tokio::spawn(upgrade_by_signal(events.clone()))),
                    Ask::End => break None,
                },
                Some((request, reply)) = wishes.recv(), if upgrade.is_none() => {
                    let (old, events) = (Arc::clone(&old), events.clone());
                    upgrade = Some(tokio::spawn(async move {
                        let result = old.hand_over(&request, &events).await;
                        match &result {
                            Ok(new) => tracing::info!(pid = new.pid, release = new.release, "another control plane has the edge"),
                            Err(error) => tracing::error!(%error, "upgrade failed; this control plane goes on"),
                        }
                        let upgraded = result.as_ref().ok().cloned();
                        let _ = reply.send(result);
                        upgraded
                    }));
                }
                upgraded = ended(&mut upgrade) => {
                    upgrade = None;
                    if let Some(upgraded) = upgraded {
                        break Some(upgraded);
                    }
                }
                _ = &mut reconciling => break None,
            }
        };
        let taken = match (taken, upgrade) {
            // A new control plane that is on its way ends with this one; one that has the edge already is told to end, too.
            (None, Some(upgrade)) => {
                upgrade.abort();
                let taken = upgrade.await.ok().flatten();
                taken.iter().for_each(|new| pass_on_the_end(new.pid));
                taken
            }
            (taken, _) => taken,
        };
        if let Some(upgraded) = taken {
            hand_on.iter().for_each(HandOn::done);
            notify(&[NotifyState::MainPid(upgraded.pid)]);
            servers.shutdown().await;
            saved(end_saving, saving).await;
            leave(&events, drain, &mut signals).await;
            return Ok(());
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
        saved(end_saving, saving).await;
        tracing::info!("edge ended");
        Ok(())
    }
}

/// None: it failed, and has said so.
async fn ended(upgrade: &mut Option<JoinHandle<Option<Upgraded>>>) -> Option<Upgraded> {
    match upgrade {
        Some(upgrade) => upgrade.await.ok().flatten(),
        None => std::future::pending().await,
    }
}
