//! Runs the checks of all backends: one input (what to check), one output (what changed).

use super::entries::{Entries, Targets};
use super::news::{Gauges, Key, Verdict};
use super::probe::{Found, Outcome, Tools, probe};
use super::schedule::{Class, Id, Schedule};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep_until};

/// A check that begins so much after it was due is late.
const LATE: Duration = Duration::from_secs(1);

/// The agent.
#[derive(Debug)]
pub struct Agent {
    /// What to check. A target whose check stays the same keeps its state.
    pub targets: watch::Receiver<Arc<Targets>>,
    /// Changes only.
    pub verdicts: mpsc::Sender<Verdict>,
    /// What it tells of itself.
    pub gauges: Arc<Gauges>,
}

/// What a check that runs is known by: its entry, and what that was when it began.
type Begun = (Id, Class);

#[derive(Default)]
struct Work {
    entries: Entries,
    schedule: Schedule,
    running: JoinSet<Outcome>,
    begun: HashMap<task::Id, Begun>,
    tools: Arc<Tools>,
    /// Not told yet, the last word of each: as many as there are backends at the most.
    news: BTreeMap<Key, Verdict>,
}

impl Agent {
    /// Until nobody gives targets or takes verdicts any more.
    pub async fn run(mut self) {
        let mut work = Work::default();
        work.retarget(&self.targets.borrow_and_update().clone(), &self.gauges);
        loop {
            work.begin_due(&self.gauges);
            let wake = work.schedule.wake();
            tokio::select! {
                changed = self.targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let targets = self.targets.borrow_and_update().clone();
                    work.retarget(&targets, &self.gauges);
                }
                Some(ended) = work.running.join_next_with_id() => work.end(ended),
                room = self.verdicts.reserve(), if !work.news.is_empty() => {
                    let Ok(room) = room else { return };
                    if let Some((_, verdict)) = work.news.pop_first() {
                        room.send(verdict);
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }
}

impl Work {
    fn retarget(&mut self, targets: &Targets, gauges: &Gauges) {
        self.schedule.set_most(targets.most);
        self.tools.forget();
        let news = self.entries.retarget(targets, &mut self.schedule, Instant::now());
        self.tell(news);
        gauges.probes.store(self.entries.len() as u64, Ordering::Relaxed);
        gauges.most.store(targets.most as u64, Ordering::Relaxed);
    }

    fn begin_due(&mut self, gauges: &Gauges) {
        let now = Instant::now();
        while let Some((due, id, class)) = self.schedule.next(now) {
            let Some(entry) = self.entries.get_mut(id) else {
                self.schedule.done(class);
                continue;
            };
            if now.saturating_duration_since(due) > LATE {
                gauges.late.fetch_add(1, Ordering::Relaxed);
            }
            entry.running = true;
            entry.machine.begin(now);
            let (backend, prepared, tools) = (entry.address, Arc::clone(&entry.prepared), Arc::clone(&self.tools));
            let task = self.running.spawn(async move { probe(backend, &prepared, &tools).await });
            self.begun.insert(task.id(), (id, class));
        }
        gauges.running.store(self.schedule.running() as u64, Ordering::Relaxed);
    }

    fn end(&mut self, ended: Result<(task::Id, Outcome), task::JoinError>) {
        let (task, outcome) = match ended {
            Ok(ended) => ended,
            // A panic is a fault of ours, and says nothing of the backend.
            Err(error) => (error.id(), Outcome { found: Found::Unable, text: error.to_string(), took: Duration::ZERO }),
        };
        let Some((id, class)) = self.begun.remove(&task) else { return };
        self.schedule.done(class);
        let now = Instant::now();
        let jitter = self.entries.jitter(id, now);
        // A check of what is gone meanwhile says nothing.
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.running = false;
        let news = entry.record(&outcome);
        entry.machine.end(now, jitter);
        let (due, class) = (entry.machine.due(), entry.class());
        self.schedule.add(due, id, class);
        self.tell(news);
    }

    fn tell(&mut self, news: Vec<Verdict>) {
        self.news.extend(news.into_iter().map(|verdict| ((verdict.pool.clone(), verdict.address), verdict)));
    }
}
