//! Changes that operators ask for: laid over one another, written down, carried out; all of them, or none.

use super::overlay::{ChangeError, Overlay, PoolChange};
use super::prefixes::PrefixChange;
use super::{Intent, Plan, Reconciler, Refusal, words};
use crate::config::Config;
use crate::datapath::Datapath;
use crate::state::{Record, Who};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes in one transaction.
pub const MAX_CHANGES: usize = 10_000;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// Of a pool.
    Pool {
        /// Name.
        pool: String,
        /// Backend.
        address: SocketAddr,
        /// What.
        #[serde(flatten)]
        change: PoolChange,
    },
    /// Of what is denied and allowed.
    Rule(PrefixChange),
    /// What the file says, and nothing else.
    Reset {
        /// Of this pool alone; none: of everything.
        pool: Option<String>,
    },
    /// As it was after a change of the history.
    Rollback {
        /// Number of that change; 0: none.
        number: u64,
    },
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asked {
    /// In this order.
    pub changes: Vec<Change>,
    /// By whom.
    pub who: Who,
    /// Only if nobody has changed anything since.
    pub only_if: OnlyIf,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What the asker has seen: another's change since then is not to be built upon unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct OnlyIf {
    /// Generation. What the checks say makes generations too; these do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// The last change of the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_change: Option<u64>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Done {
    /// In force.
    pub generation: u64,
    /// In the history; none: nothing differs from before.
    pub number: Option<u64>,
    /// Where it is kept; none: until the daemon ends.
    pub kept: Option<PathBuf>,
    /// What was done, or would be, for people.
    pub steps: Vec<String>,
}

impl Change {
    /// For people, in the words of the command line.
    pub fn words(&self) -> String {
        match self {
            Self::Pool { pool, address, change } => match change {
                PoolChange::Add { weight: None } => format!("pool add {pool} {address}"),
                PoolChange::Add { weight: Some(weight) } => format!("pool add {pool} {address} --weight {weight}"),
                PoolChange::Remove => format!("pool remove {pool} {address}"),
                PoolChange::Drain { seconds: None } => format!("pool drain {pool} {address}"),
                PoolChange::Drain { seconds: Some(seconds) } => {
                    format!("pool drain {pool} {address} --timeout {seconds}s")
                }
                PoolChange::Enable => format!("pool enable {pool} {address}"),
                PoolChange::Disable => format!("pool disable {pool} {address}"),
                PoolChange::Weight { weight } => format!("pool weight {pool} {address} {weight}"),
            },
            Self::Rule(change) => {
                let (verb, network, service, more) = match change {
                    PrefixChange::Add { service, network, allow, seconds } => {
                        let allow = if *allow { " --allow" } else { "" };
                        let period = seconds.map(|seconds| format!(" --for {seconds}s")).unwrap_or_default();
                        ("add", network, service, format!("{allow}{period}"))
                    }
                    PrefixChange::Remove { service, network } => ("remove", network, service, String::new()),
                };
                let service = service.as_ref().map(|name| format!(" --service {name}")).unwrap_or_default();
                format!("deny {verb} {network}{more}{service}")
            }
            Self::Reset { pool: None } => "reset".into(),
            Self::Reset { pool: Some(pool) } => format!("reset --pool {pool}"),
            Self::Rollback { number } => format!("rollback {number}"),
        }
    }
}

impl<D: Datapath> Reconciler<D> {
    /// Carry a transaction out, or say what it would do.
    pub(super) async fn change(&mut self, asked: Asked) -> Result<Done, Refusal> {
        self.expects(asked.only_if)?;
        let now = SystemTime::now();
        let overlay = self.changed(&asked.changes, now)?;
        let config = Arc::clone(&self.config);
        let plan = self.plan(&config, &overlay)?;
        let steps = steps(&config, &self.overlay, &overlay, &plan);
        let before = self.generation();
        let kept = self.book.place().map(ToOwned::to_owned);
        if asked.dry_run || overlay == self.overlay {
            return Ok(Done { generation: before, number: None, kept, steps });
        }
        let number = self.book.history().last() + 1;
        let old = asked.changes.iter().any(|change| matches!(change, Change::Reset { .. } | Change::Rollback { .. }));
        let record = Record {
            number,
            unix_ms: unix_ms(now),
            who: asked.who,
            what: asked.changes.iter().map(Change::words).collect(),
            generation: plan.snapshot.as_ref().map_or(before, |snapshot| snapshot.generation),
            delta: self.book.history().overlay().delta(&overlay),
        };
        // First it is written down: what was answered is there after a crash, and a full disk stops it here.
        self.book.record(record).await?;
        match self.adopt(config, overlay).await {
            Ok(generation) => {
                self.book.settle();
                self.was_said(before);
                if old {
                    self.aside = None;
                }
                Ok(Done { generation, number: Some(number), kept, steps })
            }
            Err(refusal) => {
                self.book.take_back().await;
                Err(refusal)
            }
        }
    }

    /// The overlay after these changes; the one in force stays.
    fn changed(&self, changes: &[Change], now: SystemTime) -> Result<Overlay, Refusal> {
        if changes.len() > MAX_CHANGES {
            return Err(Refusal::TooMany(changes.len()));
        }
        let mut overlay = self.overlay.clone();
        for (index, change) in changes.iter().enumerate() {
            let done = self.apply(&mut overlay, change, now);
            done.map_err(|refusal| match changes.len() {
                1 => refusal,
                _ => Refusal::Part { index, change: change.words(), why: Box::new(refusal) },
            })?;
        }
        Ok(overlay)
    }

    fn apply(&self, overlay: &mut Overlay, change: &Change, now: SystemTime) -> Result<(), Refusal> {
        match change {
            Change::Pool { pool, address, change } => overlay.change(&self.config, pool, *address, *change)?,
            Change::Rule(_) if !self.config.edge.filters() => return Err(Refusal::Unfiltered),
            Change::Rule(change) => overlay.change_rule(&self.config, change.clone(), now)?,
            Change::Reset { pool } => overlay.reset(&self.config, pool.as_deref())?,
            Change::Rollback { number } => {
                let then = self.book.history().at(*number).map_err(ChangeError::from)?.over(&self.config);
                *overlay = then.without_old_rules(now).unwrap_or(then);
            }
        }
        Ok(())
    }

    /// Whether nobody changed anything since what the asker has seen.
    pub(super) fn expects(&self, only_if: OnlyIf) -> Result<(), Refusal> {
        let last = self.book.history().last();
        if let Some(seen) = only_if.if_change.filter(|seen| *seen != last) {
            return Err(Refusal::Overtaken { what: "change", seen, now: last });
        }
        let generation = self.generation();
        if let Some(seen) = only_if.if_generation.filter(|seen| !(self.said..=generation).contains(seen)) {
            return Err(Refusal::Overtaken { what: "generation", seen, now: generation });
        }
        Ok(())
    }

    /// Something that people said came into force: what was seen before it is old. A change that makes no generation,
    /// as one of rules alone, cannot be seen by its number, so that every generation up to now is.
    pub(super) fn was_said(&mut self, before: u64) {
        let now = self.generation();
        self.said = if now > before { now } else { now + 1 };
    }

    /// Note in the history what changed otherwise than by a transaction. What came of it is in force already, so a disk
    /// that fails refuses nothing; the next record has what this one had.
    pub(super) async fn note_change(&mut self, who: Who, what: Vec<String>) {
        let history = self.book.history();
        let record = Record {
            number: history.last() + 1,
            unix_ms: unix_ms(SystemTime::now()),
            who,
            what,
            generation: self.generation(),
            delta: history.overlay().delta(&self.overlay),
        };
        match self.book.record(record).await {
            Ok(()) => self.book.settle(),
            Err(error) => tracing::warn!(why = error.why, "not in the history"),
        }
    }

    /// The first state is in force.
    pub(super) async fn begin(&mut self) {
        self.said = self.generation();
        self.book.note_first(&self.observed.ids, self.observed.generation).await;
        if let Some(why) = self.aside.clone() {
            tracing::error!(why, "what operators had changed does not go with this file, and is not in force");
            let number = self.book.history().last();
            let what = format!("set aside at start: {why}; mend the file, then: bailey rollback {number}");
            self.note_change(Who::named("bailey"), vec![what]).await;
        }
    }

    pub(super) fn plan(&self, config: &Config, overlay: &Overlay) -> Result<Plan, Refusal> {
        let health = self.checking.health(config);
        let intent = Intent { config, overlay, health: &health, agents: &self.keeper.agents };
        Ok(super::plan(intent, &self.observed)?)
    }

    /// What the worker serves by.
    pub(crate) fn generation(&self) -> u64 {
        self.observed.snapshot.as_ref().map_or(0, |snapshot| snapshot.generation)
    }
}

fn steps(config: &Config, before: &Overlay, after: &Overlay, plan: &Plan) -> Vec<String> {
    let mut steps: Vec<String> = words::between(config, before, after).into_iter().map(|row| row.to_string()).collect();
    if steps.is_empty() {
        return steps;
    }
    if let Some(snapshot) = &plan.snapshot {
        steps.push(format!("the worker gets generation {}", snapshot.generation));
    }
    if plan.datapath.is_some() && config.edge.filters() {
        steps.push("the kernel's tables are written".into());
    }
    steps
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
