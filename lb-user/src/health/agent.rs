//! Runs the checks of all backends: one input (what to check), one output (what changed).

use super::machine::Machine;
use super::probe::{Opening, Outcome, probe};
use crate::config::HealthCheck;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tls_worker::api::tls::{UpstreamIdentity, upstream_identity};
use tls_worker::api::{ProxyVersion, UpstreamTls};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Checks at one time.
const MAX_RUNNING: usize = 64;
/// The first checks of many backends are spread over this.
const FIRST_SPREAD: Duration = Duration::from_millis(200);

/// Pool and backend.
pub type Key = (String, SocketAddr);

/// A backend that is checked.
#[derive(Debug, Clone)]
pub struct Target {
    /// Pool.
    pub pool: String,
    /// Backend.
    pub address: SocketAddr,
    /// How.
    pub check: HealthCheck,
    /// TLS of its pool.
    pub tls: Option<UpstreamTls>,
    /// Whether its pool sends PROXY headers.
    pub proxy_version: Option<ProxyVersion>,
    /// Where checks are counted.
    pub counts: Arc<Counts>,
}

impl Target {
    /// Whether what one found holds for the other.
    pub(crate) fn asks_like(&self, other: &Target) -> bool {
        self.check == other.check && self.tls == other.tls && self.proxy_version == other.proxy_version
    }
}

/// Checks done. The agent writes, the metrics read.
#[derive(Debug, Default)]
pub struct Counts {
    good: AtomicU64,
    bad: AtomicU64,
}

impl Counts {
    /// Good and bad ones so far.
    pub fn read(&self) -> (u64, u64) {
        (self.good.load(Ordering::Relaxed), self.bad.load(Ordering::Relaxed))
    }
}

/// What the checks of a backend say from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Pool.
    pub pool: String,
    /// Backend.
    pub address: SocketAddr,
    /// Up or down.
    pub up: bool,
    /// For people: `HTTP 503 after 12 ms, 3 of 3`.
    pub cause: String,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    /// What to check. A target whose check stays the same keeps its state.
    pub targets: watch::Receiver<Vec<Target>>,
    /// Changes only.
    pub verdicts: mpsc::Sender<Verdict>,
}

struct Entry {
    target: Target,
    identity: Option<Arc<UpstreamIdentity>>,
    machine: Machine,
    running: bool,
    /// A result of an earlier life of the same key is not ours.
    life: u64,
}

impl Agent {
    /// Until nobody gives targets or takes verdicts any more.
    pub async fn run(mut self) {
        let mut entries = BTreeMap::new();
        let mut running: JoinSet<(Key, u64, Outcome)> = JoinSet::new();
        let random = RandomState::new();
        let mut lives = 0;
        let targets = self.targets.borrow_and_update().clone();
        retarget(&mut entries, targets, &random, &mut lives);
        loop {
            let now = Instant::now();
            begin_due(&mut entries, &mut running, now, &random);
            let next = entries.values().filter(|e| !e.running).map(|e| e.machine.due()).min();
            let idle = running.len() < MAX_RUNNING;
            tokio::select! {
                changed = self.targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let targets = self.targets.borrow_and_update().clone();
                    retarget(&mut entries, targets, &random, &mut lives);
                }
                Some(Ok((key, life, outcome))) = running.join_next() => {
                    let Some(entry) = entries.get_mut(&key).filter(|entry| entry.life == life) else { continue };
                    if let Some(verdict) = entry.record(outcome) && self.verdicts.send(verdict).await.is_err() {
                        return;
                    }
                }
                () = sleep_until(next.unwrap_or(now)), if next.is_some() && idle => {}
            }
        }
    }
}

impl Entry {
    fn record(&mut self, outcome: Outcome) -> Option<Verdict> {
        self.running = false;
        let count = if outcome.good { &self.target.counts.good } else { &self.target.counts.bad };
        count.fetch_add(1, Ordering::Relaxed);
        let change = self.machine.record(outcome.good)?;
        Some(Verdict {
            pool: self.target.pool.clone(),
            address: self.target.address,
            up: change.up,
            cause: format!("{}, {} of {}", outcome.text, change.streak, change.needed),
        })
    }
}

fn begin_due(
    entries: &mut BTreeMap<Key, Entry>,
    running: &mut JoinSet<(Key, u64, Outcome)>,
    now: Instant,
    random: &RandomState,
) {
    // Who waits longest goes first, so that a bound on running checks starves nobody.
    let mut due: Vec<_> = entries.iter_mut().filter(|(_, e)| !e.running && e.machine.due() <= now).collect();
    due.sort_by_key(|(_, entry)| entry.machine.due());
    for (key, entry) in due.into_iter().take(MAX_RUNNING.saturating_sub(running.len())) {
        entry.running = true;
        entry.machine.begin(now, jitter(random, key, now));
        let (key, life, identity) = (key.clone(), entry.life, entry.identity.clone());
        let HealthCheck { probe: what, timeout, .. } = entry.target.check.clone();
        let proxy_version = entry.target.proxy_version;
        running.spawn(async move {
            let opening = Opening { proxy_version, identity: identity.as_deref() };
            let outcome = probe(key.1, &what, opening, timeout).await;
            (key, life, outcome)
        });
    }
}

fn retarget(entries: &mut BTreeMap<Key, Entry>, targets: Vec<Target>, random: &RandomState, lives: &mut u64) {
    let mut before = std::mem::take(entries);
    let mut identities: BTreeMap<String, Arc<UpstreamIdentity>> = BTreeMap::new();
    let now = Instant::now();
    for target in targets {
        let key = (target.pool.clone(), target.address);
        if let Some(entry) = before.remove(&key).filter(|e| e.target.asks_like(&target)) {
            entries.insert(key, Entry { target, ..entry });
            continue;
        }
        let identity = match (&target.tls, identities.get(&target.pool)) {
            (None, _) => None,
            (Some(_), Some(identity)) => Some(Arc::clone(identity)),
            (Some(tls), None) => match upstream_identity(tls) {
                Ok(identity) => {
                    let identity = Arc::new(identity);
                    identities.insert(target.pool.clone(), Arc::clone(&identity));
                    Some(identity)
                }
                Err(error) => {
                    // The config was checked by the same function. A check in clear text would say nothing.
                    tracing::error!(%error, pool = target.pool, backend = %target.address, "cannot be checked");
                    continue;
                }
            },
        };
        *lives += 1;
        let first = now + FIRST_SPREAD.mul_f64((1.0 + jitter(random, &key, now)) / 2.0);
        let machine = Machine::new(&target.check, first);
        let entry = Entry { identity, machine, running: false, life: *lives, target };
        entries.insert(key, entry);
    }
}

/// -1 to 1.
fn jitter(random: &RandomState, key: &Key, now: Instant) -> f64 {
    let hash = random.hash_one((key, now));
    (hash >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
