//! Keeps the staples of the edge's own certificates: asked for at start, checked, asked for again at half of their
//! life, and kept until their end when no newer one is had. What is revoked is never stapled.

use super::ask::{Ask, AskError, Counts, Use};
use super::message::{Checked, Question};
use super::store::Store;
use crate::reconcile::Event;
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tls_worker::api::{Certificate, Der, OcspStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Responders asked at one time.
const MAX_RUNNING: usize = 8;
/// Never asked again sooner than after this.
const SOONEST: Duration = Duration::from_secs(60);
/// After the first failure; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// Longest wait after failures, and between looks at a certificate that is revoked.
const LAST_RETRY: Duration = Duration::from_secs(3600);

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// Hexadecimal, lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Fingerprint of a certificate's leaf.
pub fn fingerprint(certificate: &Certificate) -> Fingerprint {
    let leaf = certificate.chain.first().map(|der| der.0.as_slice()).unwrap_or_default();
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest(&SHA256, leaf).as_ref());
    fingerprint
}

/// A certificate that wants a staple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StapleTarget {
    /// Name in the config.
    pub name: String,
    /// Of the leaf.
    pub fingerprint: Fingerprint,
    /// What to ask, and whom; or why nobody can be asked.
    pub ask: Result<(Question, String), String>,
}

impl StapleTarget {
    /// For a certificate, its issuer's, and the URL of a responder.
    pub fn new(certificate: &Certificate, issuer: Option<&Der>, responder: Option<&str>) -> Self {
        let leaf = certificate.chain.first().map(|der| der.0.as_slice()).unwrap_or_default();
        let url = responder.ok_or("it names no responder that is asked over http; set `ocsp_responder`");
        let issuer = issuer.ok_or("its issuer's certificate is not known; add it to the chain's file");
        let question = issuer
            .map_err(str::to_owned)
            .and_then(|issuer| Question::new(&issuer.0, leaf).map_err(|error| error.to_string()));
        let ask = question.and_then(|question| Ok((question, url?.to_owned())));
        Self { name: certificate.name.clone(), fingerprint: fingerprint(certificate), ask }
    }
}

/// What is known of a certificate's staple.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Staple {
    /// OCSPResponse; none: handshakes go without.
    pub response: Option<Der>,
    /// End of its validity.
    pub valid_until: Option<SystemTime>,
    /// When the responder knew it.
    pub this_update: Option<SystemTime>,
    /// The last answer that was believed.
    pub status: Option<OcspStatus>,
    /// Why there is no newer one.
    pub problem: Option<String>,
}

impl Staple {
    fn of(checked: Checked, response: Vec<u8>) -> Self {
        Self {
            response: Some(Der(response)),
            valid_until: Some(checked.valid_until),
            this_update: Some(checked.this_update),
            status: Some(checked.status),
            problem: None,
        }
    }

    /// The response, while it holds.
    pub fn at(&self, now: SystemTime) -> Option<&Der> {
        self.response.as_ref().filter(|_| self.valid_until.is_some_and(|until| until > now))
    }
}

/// By the leaf's fingerprint.
pub type Staples = BTreeMap<Fingerprint, Staple>;

/// What the store has for these, and is still good.
pub fn stored(store: &Store, targets: &[StapleTarget], now: SystemTime) -> Staples {
    let read = |target: &StapleTarget| {
        let (question, _) = target.ask.as_ref().ok()?;
        let (checked, response) = store.read(&target.fingerprint, question, now)?;
        (checked.status == OcspStatus::Good).then(|| (target.fingerprint, Staple::of(checked, response)))
    };
    targets.iter().filter_map(read).collect()
}

/// The agent.
#[derive(Debug)]
pub struct StapleAgent<A> {
    /// Asks responders.
    pub ask: A,
    /// What wants a staple.
    pub targets: watch::Receiver<Vec<StapleTarget>>,
    /// Takes [`Event::Staple`].
    pub events: mpsc::Sender<Event>,
    /// None: nothing is kept across restarts.
    pub store: Option<Store>,
    /// Where answers are counted.
    pub counts: Arc<Counts>,
}

struct Entry {
    target: StapleTarget,
    staple: Staple,
    /// None: never.
    due: Option<Instant>,
    failures: u32,
    running: bool,
}

type Outcome = (Fingerprint, Result<(Checked, Vec<u8>), AskError>);

impl<A: Ask> StapleAgent<A> {
    /// Until nobody gives targets or takes events any more.
    pub async fn run(mut self) {
        let mut entries = BTreeMap::new();
        let mut running: JoinSet<Outcome> = JoinSet::new();
        let random = RandomState::new();
        let mut news = self.retarget(&mut entries);
        loop {
            news.extend(expired(&mut entries, SystemTime::now()));
            for (fingerprint, staple) in news.drain(..) {
                if self.events.send(Event::Staple { fingerprint, staple }).await.is_err() {
                    return;
                }
            }
            self.begin_due(&mut entries, &mut running);
            let next = next_look(&entries, running.len() < MAX_RUNNING);
            tokio::select! {
                changed = self.targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    news = self.retarget(&mut entries);
                }
                Some(joined) = running.join_next() => match joined {
                    Ok((fingerprint, result)) => {
                        let Some(entry) = entries.get_mut(&fingerprint) else { continue };
                        self.record(entry, result, jitter(&random, &fingerprint));
                        news.push((fingerprint, entry.staple.clone()));
                    }
                    Err(error) => tracing::error!(%error, "asking for a staple ended without an answer"),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Entries for what wants a staple now; those that stay the same keep what they know.
    fn retarget(&mut self, entries: &mut BTreeMap<Fingerprint, Entry>) -> Vec<(Fingerprint, Staple)> {
        let targets = self.targets.borrow_and_update().clone();
        if let Some(store) = &self.store {
            store.keep_only(&targets.iter().map(|target| target.fingerprint).collect());
        }
        let mut before = std::mem::take(entries);
        let mut news = Vec::new();
        let now = Instant::now();
        for target in targets {
            if let Some(entry) = before.remove(&target.fingerprint).filter(|entry| entry.target.ask == target.ask) {
                entries.insert(target.fingerprint, Entry { target, ..entry });
                continue;
            }
            let found = self.store.iter().find_map(|store| {
                stored(store, std::slice::from_ref(&target), SystemTime::now()).remove(&target.fingerprint)
            });
            let mut entry =
                Entry { staple: found.unwrap_or_default(), due: Some(now), failures: 0, running: false, target };
            if let Err(why) = &entry.target.ask {
                tracing::error!(certificate = entry.target.name, why, "no staple can be had");
                entry.staple.problem = Some(why.clone());
                entry.due = None;
            }
            if entry.staple != Staple::default() {
                news.push((entry.target.fingerprint, entry.staple.clone()));
            }
            entries.insert(entry.target.fingerprint, entry);
        }
        news
    }

    fn begin_due(&self, entries: &mut BTreeMap<Fingerprint, Entry>, running: &mut JoinSet<Outcome>) {
        let now = Instant::now();
        let due = |entry: &&mut Entry| !entry.running && entry.due.is_some_and(|due| due <= now);
        for entry in entries.values_mut().filter(due).take(MAX_RUNNING.saturating_sub(running.len())) {
            let Ok((question, url)) = entry.target.ask.clone() else { continue };
            entry.running = true;
            let (ask, store, fingerprint) = (self.ask.clone(), self.store.clone(), entry.target.fingerprint);
            running.spawn(async move {
                let result = ask.ask(&url, &question).await;
                if let (Some(store), Ok((checked, response))) = (store, &result) {
                    let (status, response) = (checked.status, response.clone());
                    let _ = tokio::task::spawn_blocking(move || keep(&store, &fingerprint, status, &response)).await;
                }
                (fingerprint, result)
            });
        }
    }

    fn record(&self, entry: &mut Entry, result: Result<(Checked, Vec<u8>), AskError>, jitter: f64) {
        entry.running = false;
        let name = &entry.target.name;
        let status = result.as_ref().map_or(OcspStatus::Unavailable, |(checked, _)| checked.status);
        self.counts.fetched(Use::Staple, status);
        let wait = match result {
            Ok((checked, response)) if status == OcspStatus::Good => {
                tracing::info!(certificate = name, valid_until = unix(checked.valid_until), "staple fetched");
                entry.failures = 0;
                let older = entry.staple.valid_until.is_some_and(|until| until > checked.valid_until);
                if older && entry.staple.response.is_some() {
                    entry.staple.problem = None;
                } else {
                    entry.staple = Staple::of(checked, response);
                }
                refresh(checked, SystemTime::now(), jitter)
            }
            Ok((checked, _)) if status == OcspStatus::Revoked => {
                tracing::error!(
                    certificate = name,
                    "the issuer's responder calls it revoked; replace it; no staple is sent"
                );
                let problem = Some("the issuer's responder calls it revoked; replace it".into());
                entry.staple = Staple { problem, response: None, ..Staple::of(checked, Vec::new()) };
                LAST_RETRY
            }
            other => {
                let why = match other {
                    Err(error) => error.to_string(),
                    Ok(_) => "the responder does not know the certificate".into(),
                };
                if entry.failures == 0 {
                    tracing::warn!(certificate = name, why, "no staple fetched; one that is there stays until its end");
                }
                entry.failures += 1;
                entry.staple.problem = Some(why);
                retry(entry.failures, jitter)
            }
        };
        entry.due = Some(Instant::now() + wait);
    }
}

fn keep(store: &Store, fingerprint: &Fingerprint, status: OcspStatus, response: &[u8]) {
    match status {
        OcspStatus::Good => {
            if let Err(error) = store.write(fingerprint, response) {
                tracing::warn!(%error, "a staple is not stored; after a restart it is fetched again");
            }
        }
        OcspStatus::Revoked => store.remove(fingerprint),
        OcspStatus::Unknown | OcspStatus::Unavailable => {}
    }
}

/// Takes responses away that have come to their end.
fn expired(entries: &mut BTreeMap<Fingerprint, Entry>, now: SystemTime) -> Vec<(Fingerprint, Staple)> {
    let over = |entry: &&mut Entry| entry.staple.response.is_some() && entry.staple.at(now).is_none();
    let end = |entry: &mut Entry| {
        tracing::error!(certificate = entry.target.name, "its staple has ended, and no newer one is had");
        entry.staple.response = None;
        (entry.target.fingerprint, entry.staple.clone())
    };
    entries.values_mut().filter(over).map(end).collect()
}

/// When something is to be done without being asked.
fn next_look(entries: &BTreeMap<Fingerprint, Entry>, room: bool) -> Option<Instant> {
    let (clock, now) = (SystemTime::now(), Instant::now());
    let due = entries.values().filter(|entry| room && !entry.running).filter_map(|entry| entry.due);
    let ends = entries.values().filter(|entry| entry.staple.response.is_some()).filter_map(|entry| {
        let left = entry.staple.valid_until?.duration_since(clock).unwrap_or_default();
        // Not a moment before: it would be found to hold still.
        Some(now + left.min(LAST_RETRY) + Duration::from_millis(10))
    });
    due.chain(ends).min()
}

/// How long a good response is left alone: to the middle of its life, give or take a tenth of that. Pure.
pub(super) fn refresh(checked: Checked, now: SystemTime, jitter: f64) -> Duration {
    let life = checked.valid_until.duration_since(checked.this_update).unwrap_or_default();
    let middle = checked.this_update + life.mul_f64(0.5 + 0.05 * jitter.clamp(-1.0, 1.0));
    let wait = middle.duration_since(now).unwrap_or_else(|_| {
        // The responder gives what is past its middle already: a newer one comes before its end.
        checked.valid_until.duration_since(now).unwrap_or_default() / 4
    });
    wait.max(SOONEST)
}

/// How long to wait after so many failures in a row, give or take a tenth. Pure.
pub(super) fn retry(failures: u32, jitter: f64) -> Duration {
    let wait = FIRST_RETRY * (1 << failures.saturating_sub(1).min(10));
    wait.min(LAST_RETRY).mul_f64(1.0 + 0.1 * jitter.clamp(-1.0, 1.0))
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// -1 to 1.
fn jitter(random: &RandomState, fingerprint: &Fingerprint) -> f64 {
    let hash = random.hash_one((fingerprint, Instant::now()));
    (hash >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
