//! What is checked: targets of pools, and the checks that they share.

use super::machine::Machine;
use super::news::{Counts, Key, Verdict};
use super::probe::{Found, Outcome, Prepared};
use super::schedule::{Class, Id, Schedule};
use crate::config::{HealthCheck, Probe};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// First checks of so many backends begin in a second at the most, and no sooner than in [`FIRST_SPREAD`] all of them.
const FIRST_PER_SECOND: u32 = 2_000;
const FIRST_SPREAD: Duration = Duration::from_millis(200);

/// A backend of a pool that is checked.
#[derive(Debug, Clone)]
pub struct Target {
    /// Pool.
    pub pool: String,
    /// Backend.
    pub address: SocketAddr,
    /// How.
    pub check: Arc<HealthCheck>,
    /// Where checks are counted.
    pub counts: Arc<Counts>,
    /// What earlier checks said, those of another control plane or of other words included; none: nothing is known.
    pub known: Option<bool>,
}

/// All that is to be checked.
#[derive(Debug, Default)]
pub struct Targets {
    /// Checks at one time.
    pub most: usize,
    /// Backends of pools.
    pub list: Vec<Target>,
}

impl Targets {
    /// Whether the same backends of the same pools are asked the same.
    pub(crate) fn is_as(&self, other: &Targets) -> bool {
        // Backends of a pool share its check, which holds certificates: it is compared once for all of them.
        let mut alike: Option<(*const HealthCheck, *const HealthCheck)> = None;
        let mut same = |(a, b): (&Target, &Target)| {
            let pair = (Arc::as_ptr(&a.check), Arc::as_ptr(&b.check));
            let same = alike == Some(pair) || a.check.is_as(&b.check);
            alike = same.then_some(pair);
            same && (&a.pool, a.address) == (&b.pool, b.address)
        };
        self.most == other.most
            && self.list.len() == other.list.len()
            && self.list.iter().zip(&other.list).all(&mut same)
    }
}

/// A backend that is asked one thing, by one pool or more.
pub(super) struct Entry {
    pub(super) address: SocketAddr,
    pub(super) prepared: Arc<Prepared>,
    pub(super) machine: Machine,
    pub(super) running: bool,
    /// Why it is up or down.
    cause: String,
    askers: Vec<(String, Arc<Counts>)>,
}

impl Entry {
    /// Note what a check came to; what it changes, for each pool that asks.
    pub(super) fn record(&mut self, outcome: &Outcome) -> Vec<Verdict> {
        let change = match outcome.found {
            Found::Good => self.machine.record(true),
            Found::Bad => self.machine.record(false),
            Found::Unable => None,
        };
        for (pool, counts) in &self.askers {
            if counts.note(outcome, self.machine.against()) {
                tracing::warn!(pool, backend = %self.address, why = outcome.text, "cannot be checked; it stays as it is");
            }
        }
        let Some(change) = change else { return Vec::new() };
        self.cause = format!("{}, {} of {}", outcome.text, change.streak, change.needed);
        self.askers.iter().map(|(pool, _)| self.verdict(pool, change.up)).collect()
    }

    pub(super) fn class(&self) -> Class {
        match (&self.prepared.check.probe, self.machine.up()) {
            (Probe::Script(_), _) => Class::Script,
            (_, Some(false)) => Class::Down,
            _ => Class::Living,
        }
    }

    fn verdict(&self, pool: &str, up: bool) -> Verdict {
        Verdict { pool: pool.to_owned(), address: self.address, up, cause: self.cause.clone() }
    }
}

/// Everything that is checked.
#[derive(Default)]
pub(super) struct Entries {
    entries: HashMap<Id, Entry>,
    prepared: Vec<Arc<Prepared>>,
    next_id: Id,
    random: RandomState,
}

impl Entries {
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// -1 to 1.
    pub(super) fn jitter(&self, id: Id, now: Instant) -> f64 {
        let hash = self.random.hash_one((id, now));
        (hash >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Check these from now on. What is asked as before keeps its state; what that is, is told to pools that are new to it.
    pub(super) fn retarget(&mut self, targets: &Targets, schedule: &mut Schedule, now: Instant) -> Vec<Verdict> {
        let places = self.prepare(targets);
        let mut before: HashMap<(usize, SocketAddr), Id> = HashMap::new();
        let mut askers: HashMap<Id, Vec<(String, Arc<Counts>)>> = HashMap::new();
        for (id, entry) in &mut self.entries {
            askers.insert(*id, std::mem::take(&mut entry.askers));
            let place = self.prepared.iter().position(|one| Arc::ptr_eq(one, &entry.prepared));
            if let Some(place) = place {
                before.insert((place, entry.address), *id);
            }
        }
        let mut news = Vec::new();
        let spread = FIRST_SPREAD.max(Duration::from_secs(1) * targets.list.len() as u32 / FIRST_PER_SECOND);
        for target in &targets.list {
            let Some(place) = places.get(&Arc::as_ptr(&target.check)).copied() else { continue };
            let id = *before.entry((place, target.address)).or_insert_with(|| {
                self.next_id += 1;
                self.next_id
            });
            let asker = (target.pool.clone(), Arc::clone(&target.counts));
            if let Some(entry) = self.entries.get_mut(&id) {
                let known = askers.get(&id).is_some_and(|list| {
                    list.iter().any(|(pool, counts)| *pool == target.pool && Arc::ptr_eq(counts, &target.counts))
                });
                if let Some(up) = entry.machine.up().filter(|_| !known) {
                    news.push(entry.verdict(&target.pool, up));
                }
                entry.askers.push(asker);
                continue;
            }
            let within = spread.min(target.check.interval);
            let first = now + within.mul_f64((1.0 + self.jitter(id, now)) / 2.0);
            let entry = Entry {
                address: target.address,
                prepared: Arc::clone(&self.prepared[place]),
                machine: Machine::new(&target.check, first).knowing(target.known),
                running: false,
                cause: String::new(),
                askers: vec![asker],
            };
            schedule.add(first, id, entry.class());
            self.entries.insert(id, entry);
        }
        // What runs is let run: its end finds nobody.
        self.entries.retain(|id, entry| {
            let asked = !entry.askers.is_empty();
            if !asked && !entry.running {
                schedule.remove(entry.machine.due(), *id, entry.class());
            }
            asked
        });
        news
    }

    /// Have each different check ready, once: its place by the check of each target.
    fn prepare(&mut self, targets: &Targets) -> HashMap<*const HealthCheck, usize> {
        let before = std::mem::take(&mut self.prepared);
        let mut places: HashMap<*const HealthCheck, usize> = HashMap::new();
        let mut failed: BTreeMap<Key, String> = BTreeMap::new();
        for target in &targets.list {
            let check = &target.check;
            if places.contains_key(&Arc::as_ptr(check)) {
                continue;
            }
            if let Some(place) = self.prepared.iter().position(|one| one.check.is_as(check)) {
                places.insert(Arc::as_ptr(check), place);
                continue;
            }
            let known = before.iter().find(|one| one.check.is_as(check)).cloned();
            let prepared = match known {
                Some(known) => known,
                None => match Prepared::new(Arc::clone(check)) {
                    Ok(prepared) => Arc::new(prepared),
                    Err(error) => {
                        failed.insert((target.pool.clone(), target.address), error.to_string());
                        continue;
                    }
                },
            };
            places.insert(Arc::as_ptr(check), self.prepared.len());
            self.prepared.push(prepared);
        }
        for ((pool, backend), error) in failed {
            // The config was checked by the same function. A check in clear text would say nothing.
            tracing::error!(error, pool, %backend, "cannot be checked");
        }
        places
    }
}
