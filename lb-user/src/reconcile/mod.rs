//! One task that alone decides: it owns the config, what operators changed, what the checks say, and the datapath.
//! Others send it events; it plans, carries the plan out, and answers.

mod agents;
mod changes;
mod checking;
mod delta;
mod handing;
mod names;
mod note;
mod overlay;
mod plan;
mod prefixes;
mod recovered;
mod serve;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_pure;
mod tickets;
pub mod words;

use agents::Keeper;
pub use agents::{Agents, Refreshed, TlsNotes, Watched};
pub use changes::{Asked, Change, Done, MAX_CHANGES, OnlyIf};
use checking::Checking;
pub use checking::{HealthNote, Past};
pub use delta::Delta;
use handing::Handing;
pub use handing::{Handed, UpgradeError, UpgradeRequest, Upgraded};
pub use note::{NOTE_VERSION, Note, NoteError};
pub use overlay::{ChangeError, Effective, Mark, Overlay, PoolChange};
pub use plan::{Health, Intent, Observed, Plan, PlanError, ServiceIds, build_snapshot, plan, state};
pub use prefixes::{MAX_RULES, PrefixChange, RuleSources, RuntimeRule, RuntimeRules};
pub use recovered::Recovered;
pub use state::{Event, FlowWay, Refusal, Reloaded, State, Watch};
pub use tickets::KeptKeys;

use crate::access_log::AccessLogs;
use crate::config::{self, Config, Loaded, ProblemView};
use crate::datapath::{Datapath, DatapathError, Description, Listener};
use crate::health::{Gauges, Targets, Verdict};
use crate::ocsp::staple::{self, StapleTarget};
use crate::ocsp::{self, WorkerSide};
use crate::state::Book;
use crate::supervisor::{self, AbortOnPanic, Staff, WorkerHandle};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tls_worker::api::Snapshot;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Verdicts that one change of state takes up at the most.
const VERDICTS_AT_ONCE: usize = 256;

/// Between two looks at what time alone changes.
const TICK: Duration = Duration::from_secs(1);

/// Owner of the state and of the datapath.
pub struct Reconciler<D> {
    path: PathBuf,
    started: Instant,
    config: Arc<Config>,
    warnings: Arc<[ProblemView]>,
    overlay: Overlay,
    /// What was changed, and where it is kept.
    book: Book,
    /// The first generation that was seen after the last change that people made.
    said: u64,
    /// Why what operators had changed is not in force since the start.
    aside: Option<String>,
    checking: Checking,
    names: watch::Sender<ServiceIds>,
    observed: Observed,
    datapath: D,
    worker: WorkerHandle,
    reloads: (u64, u64),
    changes: (u64, u64),
    keeper: Keeper,
    names_of_backends: names::Names,
    /// A change that nobody may refuse (health) is not carried out yet.
    behind: bool,
    /// What stands.
    listeners: Vec<Listener>,
    /// The datapath's part of the note that workers have.
    noted: serde_json::Value,
    handing: Handing,
}

impl<D: Datapath> Reconciler<D> {
    /// Bring the edge into its first state. When that fails, the datapath is taken down again.
    pub async fn start(
        path: PathBuf,
        loaded: Loaded,
        recovered: Recovered,
        mut datapath: D,
        staff: Staff,
        ocsp: (WorkerSide, Arc<ocsp::Counts>),
    ) -> Result<Self, Refusal> {
        let (overlay, aside) = recovered.overlay(&loaded.config, SystemTime::now());
        let inherited = recovered.inherited;
        match first_state(&loaded.config, &overlay, &recovered, &mut datapath, staff, ocsp).await {
            Ok((observed, worker, keeper, listeners)) => {
                let checking = Checking::of(recovered.health(&loaded.config));
                let mut reconciler = Self {
                    path,
                    started: Instant::now(),
                    config: Arc::new(loaded.config),
                    warnings: loaded.warnings.views().into(),
                    overlay,
                    book: recovered.book,
                    said: 0,
                    aside,
                    checking,
                    names: watch::Sender::new(observed.ids.clone()),
                    observed,
                    datapath,
                    worker,
                    reloads: (0, 0),
                    changes: (0, 0),
                    keeper,
                    names_of_backends: names::Names::default(),
                    behind: false,
                    listeners,
                    noted: serde_json::Value::Null,
                    handing: Handing::default(),
                };
                reconciler.worker.logs().adopt(&reconciler.config.access_logs);
                reconciler.checking.retarget(&reconciler.config, &reconciler.overlay);
                reconciler.retarget_files();
                reconciler.note_tickets();
                reconciler.begin().await;
                reconciler.tell_note().await;
                Ok(reconciler)
            }
            // Who comes next finds it as it was left to us.
            Err(refusal) if inherited => {
                datapath.leave();
                Err(refusal)
            }
            Err(refusal) => {
                if let Err(error) = datapath.close().await {
                    tracing::error!(%error, "datapath not taken down");
                }
                Err(refusal)
            }
        }
    }

    /// The datapath as it is.
    pub fn describe(&self) -> Description {
        self.datapath.describe()
    }

    /// What is to be checked.
    pub fn targets(&self) -> watch::Receiver<Arc<Targets>> {
        self.checking.targets()
    }

    /// Where the agent of checks tells how busy it is.
    pub fn checking(&self) -> Arc<Gauges> {
        Arc::clone(&self.checking.gauges)
    }

    /// Where access logs go.
    pub fn access_logs(&self) -> AccessLogs {
        self.worker.logs()
    }

    /// What wants a staple.
    pub fn staple_targets(&self) -> watch::Receiver<Vec<StapleTarget>> {
        self.keeper.staple_targets.subscribe()
    }

    /// Where staples are kept; it holds for the life of the process.
    pub fn staple_store(&self) -> Option<ocsp::store::Store> {
        agents::store(&self.config)
    }

    /// Files that are to be read again when they change.
    pub fn watched(&self) -> watch::Receiver<Watched> {
        self.keeper.watched.subscribe()
    }

    /// Serve events until [`Event::Shutdown`].
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, mut verdicts: mpsc::Receiver<Verdict>) {
        let mut batch = Vec::new();
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let _abort = AbortOnPanic;
        loop {
            let ours = !self.handing.over();
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Shutdown { grace, reply }) => {
                        let _ = reply.send(self.close(grace).await);
                        return;
                    }
                    Some(Event::Leave { grace, reply }) => return self.leave(grace, reply).await,
                    Some(event) => self.serve(event).await,
                    None => {
                        if let Err(error) = self.close(Duration::ZERO).await {
                            tracing::error!(%error, "datapath not taken down");
                        }
                        return;
                    }
                },
                count = verdicts.recv_many(&mut batch, VERDICTS_AT_ONCE), if ours && (!verdicts.is_closed() || !verdicts.is_empty()) => {
                    if count > 0 {
                        self.heed(batch.drain(..)).await;
                    }
                }
                () = self.worker.changed(), if ours && self.behind => self.catch_up().await,
                _ = ticks.tick(), if ours => self.tick().await,
            }
        }
    }

    /// What time alone changes.
    async fn tick(&mut self) {
        self.datapath.tick().await;
        if self.noted != self.datapath.note() {
            self.tell_note().await;
        }
        self.turn_tickets().await;
        self.book.mend();
        self.let_leave().await;
        let Some(overlay) = self.overlay.without_old_rules(SystemTime::now()) else { return };
        let config = Arc::clone(&self.config);
        if let Err(error) = self.adopt(config, overlay).await {
            // The kernel heeds no rule that has run out, so nothing is kept out for longer.
            tracing::warn!(%error, "rules that have run out stay for now");
        }
    }

    async fn reload(&mut self, only_if: OnlyIf) -> Result<Reloaded, Refusal> {
        self.expects(only_if)?;
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await.map_err(|_| Refusal::Closing)??;
        let keys = state::restart_keys(&self.config, &loaded.config);
        if !keys.is_empty() {
            return Err(Refusal::Restart(keys));
        }
        self.resolve_new(&loaded.config).await?;
        let overlay = self.overlay.over(&loaded.config);
        let generation = self.adopt(Arc::new(loaded.config), overlay).await?;
        self.warnings = loaded.warnings.views().into();
        // Every file was good.
        self.keeper.stale = [].into();
        self.keeper.refused = None;
        Ok(Reloaded { generation, warnings: Arc::clone(&self.warnings) })
    }

    /// Make this the state, or change nothing.
    async fn adopt(&mut self, config: Arc<Config>, overlay: Overlay) -> Result<u64, Refusal> {
        let config = self.with_addresses(&config);
        let plan = self.plan(&config, &overlay)?;
        self.execute(plan).await?;
        let other = !Arc::ptr_eq(&self.config, &config);
        if other {
            self.worker.logs().adopt(&config.access_logs);
        }
        self.config = config;
        self.overlay = overlay;
        self.behind = false;
        self.checking.retarget(&self.config, &self.overlay);
        if other {
            self.retarget_files();
            self.retarget_names();
        }
        self.note_tickets();
        self.tell_note().await;
        self.book.note(&self.observed.ids, self.observed.generation);
        Ok(self.generation())
    }

    /// Carry a plan out. On an error the edge is as it was.
    async fn execute(&mut self, plan: Plan) -> Result<(), Refusal> {
        let before = self.observed.snapshot.clone();
        if let Some(snapshot) = plan.snapshot {
            self.publish(Arc::new(snapshot)).await?;
        }
        if let Some(desired) = plan.datapath {
            match self.datapath.apply(&desired).await {
                Ok(listeners) => {
                    self.observed.datapath = Some(desired);
                    self.listeners.clone_from(&listeners);
                    self.worker.listen(listeners).await?;
                }
                Err(error) => {
                    self.roll_back(before).await;
                    return Err(error.into());
                }
            }
        }
        self.observed.rules = plan.rules;
        self.names.send_if_modified(|names| {
            let changed = *names != plan.ids;
            names.clone_from(&plan.ids);
            changed
        });
        self.observed.ids = plan.ids;
        Ok(())
    }

    async fn publish(&mut self, snapshot: Arc<Snapshot>) -> Result<(), Refusal> {
        self.observed.generation = snapshot.generation;
        self.worker.publish(Arc::clone(&snapshot)).await?;
        self.observed.snapshot = Some(snapshot);
        Ok(())
    }

    /// The worker took a state that the datapath refused.
    async fn roll_back(&mut self, before: Option<Arc<Snapshot>>) {
        if before.as_ref().map(|s| s.generation) == self.observed.snapshot.as_ref().map(|s| s.generation) {
            return;
        }
        let Some(before) = before else { return };
        let generation = self.observed.generation + 1;
        if let Err(error) = self.publish(Arc::new(Snapshot { generation, ..Snapshot::clone(&before) })).await {
            tracing::error!(%error, "the worker did not go back; it is tried again when it answers");
            self.behind = true;
        }
    }

    /// What the checks say holds, whether the worker can be told now or later.
    async fn heed(&mut self, verdicts: impl Iterator<Item = Verdict>) {
        self.checking.heed(verdicts);
        self.catch_up().await;
    }

    async fn catch_up(&mut self) {
        self.behind = false;
        let (config, overlay) = (Arc::clone(&self.config), self.overlay.clone());
        if let Err(error) = self.adopt(config, overlay).await {
            tracing::warn!(%error, "not carried out yet; it is tried again when the worker answers");
            self.behind = true;
        }
    }

    async fn close(mut self, grace: Duration) -> Result<(), DatapathError> {
        // A control plane that was about to take over may have led the kernel to itself: what is not ours is not taken out.
        if self.handing.over()
            && let Err(error) = self.datapath.retake().await
        {
            tracing::error!(%error, "what the other control plane changed is not taken back");
        }
        self.book.close(self.observed.generation).await;
        // The addresses stay until the worker is done: connections in flight go over them.
        let _ = self.worker.drain(grace).await;
        self.datapath.close().await
    }
}

async fn first_state<D: Datapath>(
    config: &Config,
    overlay: &Overlay,
    recovered: &Recovered,
    datapath: &mut D,
    staff: Staff,
    (worker_side, counts): (WorkerSide, Arc<ocsp::Counts>),
) -> Result<(Observed, WorkerHandle, Keeper, Vec<Listener>), Refusal> {
    let health = recovered.health(config).into_iter().map(|(key, note)| (key, note.up)).collect();
    let mut keeper = Keeper::new(recovered.keys(Instant::now())?, counts);
    // The first handshake has its staple, where one is stored that holds.
    let targets = agents::staple_targets(config);
    let stored = |store| staple::stored(&store, &targets, SystemTime::now());
    keeper.agents.staples = Arc::new(agents::store(config).map(stored).unwrap_or_default());
    let intent = Intent { config, overlay, health: &health, agents: &keeper.agents };
    let plan = plan(intent, &recovered.observed())?;
    let snapshot = Arc::new(plan.snapshot.unwrap_or_default());
    let desired = plan.datapath.unwrap_or_default();
    let worker = supervisor::start(staff, Arc::clone(&snapshot), worker_side, recovered.sessions.clone()).await?;
    let listeners = match datapath.apply(&desired).await {
        Ok(listeners) => listeners,
        Err(error) => {
            let _ = worker.leave(false).await;
            return Err(error.into());
        }
    };
    worker.listen(listeners.clone()).await?;
    let observed = Observed {
        generation: snapshot.generation,
        snapshot: Some(snapshot),
        datapath: Some(desired),
        rules: plan.rules,
        ids: plan.ids,
    };
    Ok((observed, worker, keeper, listeners))
}
