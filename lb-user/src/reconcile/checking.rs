//! What is to be checked, and what the checks have said.

use super::overlay::Overlay;
use super::plan::Health;
use crate::config::Config;
use crate::health::{Counts, Gauges, Key, Target, Targets, Verdict};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Earlier states of a backend that are remembered.
const MAX_HISTORY: usize = 8;

/// What the checks of a backend said last.
#[derive(Debug, Clone)]
pub struct HealthNote {
    /// Up or down.
    pub up: bool,
    /// For people.
    pub cause: String,
    /// Since when it is so.
    pub since: Instant,
    /// What they said before, the newest first.
    pub history: Arc<[Past]>,
    /// How often the state changed.
    pub changes: u64,
}

/// A state that a backend was in.
#[derive(Debug, Clone)]
pub struct Past {
    /// Up or down.
    pub up: bool,
    /// For people.
    pub cause: String,
    /// When it began.
    pub since: Instant,
}

impl HealthNote {
    /// A state, after one that was noted before.
    pub fn new(up: bool, cause: String, since: Instant, before: Option<HealthNote>) -> Self {
        let Some(before) = before else { return Self { up, cause, since, history: [].into(), changes: 0 } };
        let changes = before.changes + u64::from(before.up != up);
        let last = Past { up: before.up, cause: before.cause, since: before.since };
        let older = before.history.iter().take(MAX_HISTORY - 1).cloned();
        Self { up, cause, since, history: std::iter::once(last).chain(older).collect(), changes }
    }
}

/// What the reconciler keeps of checks.
pub(super) struct Checking {
    /// By pool and backend; none before the first check.
    pub(super) notes: BTreeMap<Key, HealthNote>,
    /// Of every backend that is checked.
    pub(super) counts: BTreeMap<Key, Arc<Counts>>,
    pub(super) gauges: Arc<Gauges>,
    targets: watch::Sender<Arc<Targets>>,
    /// What the targets were made from.
    made_from: Option<(Arc<Config>, Overlay)>,
}

impl Checking {
    /// With what was said before this start.
    pub(super) fn of(notes: BTreeMap<Key, HealthNote>) -> Self {
        Self {
            notes,
            counts: BTreeMap::new(),
            gauges: Arc::default(),
            targets: watch::Sender::default(),
            made_from: None,
        }
    }

    pub(super) fn targets(&self) -> watch::Receiver<Arc<Targets>> {
        self.targets.subscribe()
    }

    /// Note what the checks say.
    pub(super) fn heed(&mut self, verdicts: impl Iterator<Item = Verdict>) {
        for Verdict { pool, address, up, cause } in verdicts {
            let key = (pool, address);
            if !self.counts.contains_key(&key) {
                continue;
            }
            // The first check of one that is known to be so tells nothing new.
            if self.notes.get(&key).is_some_and(|note| note.up == up) {
                continue;
            }
            tracing::info!(pool = key.0, backend = %address, up, cause, "backend");
            let before = self.notes.remove(&key);
            self.notes.insert(key, HealthNote::new(up, cause, Instant::now(), before));
        }
    }

    /// What the checks say of pools that this config has checked.
    pub(super) fn health(&self, config: &Config) -> Health {
        let checked = |(pool, _): &Key| config.pool(pool).is_some_and(|pool| pool.health.is_some());
        self.notes.iter().filter(|(key, _)| checked(key)).map(|(key, note)| (key.clone(), note.up)).collect()
    }

    /// Have the agent check what there is, and forget what it said of what is gone.
    pub(super) fn retarget(&mut self, config: &Arc<Config>, overlay: &Overlay) {
        let same = |(made, over): &(Arc<Config>, Overlay)| Arc::ptr_eq(made, config) && over == overlay;
        // Each verdict comes by here, and changes nothing about what is checked.
        if self.made_from.as_ref().is_some_and(same) {
            return;
        }
        self.made_from = Some((Arc::clone(config), overlay.clone()));
        let mut list = Vec::new();
        for pool in &config.pools {
            for backend in overlay.effective(pool) {
                let Some(check) = pool.check_of(&backend.address) else { break };
                let key = (pool.name.clone(), backend.address);
                let counts = self.counts.get(&key).cloned().unwrap_or_default();
                let known = self.notes.get(&key).map(|note| note.up);
                let (pool, address) = key;
                list.push(Target { pool, address, check, counts, known });
            }
        }
        self.counts = list.iter().map(|t| ((t.pool.clone(), t.address), Arc::clone(&t.counts))).collect();
        self.notes.retain(|key, _| self.counts.contains_key(key));
        let targets = Targets { most: config.edge.max_health_checks as usize, list };
        self.targets.send_if_modified(|before| {
            let changed = !before.is_as(&targets);
            if changed {
                *before = Arc::new(targets);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_states_are_remembered_newest_first() {
        let mut note = None;
        for i in 0..20 {
            note = Some(HealthNote::new(i % 2 == 0, i.to_string(), Instant::now(), note));
        }
        let note = note.unwrap();
        assert_eq!((note.cause.as_str(), note.changes), ("19", 19));
        let causes: Vec<&str> = note.history.iter().map(|past| past.cause.as_str()).collect();
        assert_eq!(causes, ["18", "17", "16", "15", "14", "13", "12", "11"]);
    }
}
