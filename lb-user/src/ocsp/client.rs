//! Answers the worker's questions about clients' certificates: each is asked of its responder once at a time, and
//! what was answered is kept for as long as it holds.
//!
//! Nothing here waits for the worker, and the worker's control messages wait for nothing here: a queue that is full
//! loses a question or an answer, counted, and the handshake that asked ends at its own deadline.

use super::ask::{Ask, AskError, Counts, Use};
use super::message::{Checked, Question, responder_url};
use ring::digest::{Context, SHA256};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tls_worker::api::{OcspAnswer, OcspQuery, OcspStatus};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Questions, and answers, that wait between worker and agent.
const QUEUE: usize = 1024;
/// Responders asked at one time.
const MAX_RUNNING: usize = 64;
/// Questions that wait for that; more are answered by "unavailable" at once.
const MAX_WAITING: usize = 1024;
/// Answers kept.
const MAX_KEPT: usize = 65_536;
/// What is no clear answer (unknown, unavailable) is kept so long.
const SHORT: Duration = Duration::from_secs(30);
/// An answer is kept for no longer, whatever it says of itself.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// Responders whose state is remembered, so that each is logged once for each change.
const MAX_NOTED: usize = 256;

/// Where the supervisor puts questions and has answers from.
#[derive(Debug)]
pub struct WorkerSide {
    /// What the worker asks.
    pub questions: Questions,
    /// For the worker.
    pub answers: mpsc::Receiver<OcspAnswer>,
}

/// Takes questions without waiting. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Questions {
    sender: mpsc::Sender<OcspQuery>,
    counts: Arc<Counts>,
}

impl Questions {
    /// Ask; lost and counted when too many wait.
    pub fn put(&self, query: OcspQuery) {
        if self.sender.try_send(query).is_err() {
            self.counts.dropped();
        }
    }
}

/// Where the agent has questions from and puts answers.
#[derive(Debug)]
pub struct AgentSide {
    /// What the worker asks.
    pub queries: mpsc::Receiver<OcspQuery>,
    /// For the worker.
    pub answers: mpsc::Sender<OcspAnswer>,
    counts: Arc<Counts>,
}

/// What leads from worker to agent and back.
pub fn channel(counts: &Arc<Counts>) -> (WorkerSide, AgentSide) {
    let (sender, queries) = mpsc::channel(QUEUE);
    let (answers_sender, answers) = mpsc::channel(QUEUE);
    let questions = Questions { sender, counts: Arc::clone(counts) };
    (WorkerSide { questions, answers }, AgentSide { queries, answers: answers_sender, counts: Arc::clone(counts) })
}

/// Digest of a query: two certificates are longer than what is remembered of them.
type Key = [u8; 32];

/// The agent.
#[derive(Debug)]
pub struct ClientAgent<A> {
    ask: A,
    side: AgentSide,
    cache: Cache,
    waiting: VecDeque<(Key, OcspQuery)>,
    /// Waiting or being asked.
    open: HashSet<Key>,
    /// Responders by URL: whether they answered last.
    noted: HashMap<String, bool>,
}

type Outcome = (Key, OcspQuery, Result<Checked, AskError>);

impl<A: Ask> ClientAgent<A> {
    /// Not running yet.
    pub fn new(ask: A, side: AgentSide) -> Self {
        Self {
            ask,
            side,
            cache: Cache::default(),
            waiting: VecDeque::new(),
            open: HashSet::new(),
            noted: HashMap::new(),
        }
    }

    /// Until nobody asks any more.
    pub async fn run(mut self) {
        let mut running: JoinSet<Outcome> = JoinSet::new();
        loop {
            while running.len() < MAX_RUNNING
                && let Some((key, query)) = self.waiting.pop_front()
            {
                let ask = self.ask.clone();
                running.spawn(async move {
                    let result = question(&ask, &query).await;
                    (key, query, result)
                });
            }
            tokio::select! {
                query = self.side.queries.recv() => match query {
                    Some(query) => self.take(query),
                    None => return,
                },
                Some(outcome) = running.join_next() => match outcome {
                    Ok(outcome) => self.record(outcome),
                    Err(error) => tracing::error!(%error, "a question to a responder ended without an answer"),
                },
            }
        }
    }

    fn take(&mut self, query: OcspQuery) {
        let key = key(&query);
        if let Some((status, until)) = self.cache.get(&key, Instant::now()) {
            self.answer(query, status, until);
        } else if self.waiting.len() >= MAX_WAITING {
            self.side.counts.fetched(Use::Client, OcspStatus::Unavailable);
            self.answer(query, OcspStatus::Unavailable, Instant::now());
        } else if self.open.insert(key) {
            self.waiting.push_back((key, query));
        }
        // Whoever asks what is being asked already gets that answer: it names its query.
    }

    fn record(&mut self, (key, query, result): Outcome) {
        self.open.remove(&key);
        self.note(&query, &result);
        let (status, keep) = match result {
            Ok(checked) => (checked.status, checked.valid_until.duration_since(SystemTime::now()).unwrap_or_default()),
            Err(_) => (OcspStatus::Unavailable, SHORT),
        };
        let keep = match status {
            OcspStatus::Good | OcspStatus::Revoked => keep.min(LONG),
            OcspStatus::Unknown | OcspStatus::Unavailable => keep.min(SHORT),
        };
        self.side.counts.fetched(Use::Client, status);
        let until = Instant::now() + keep;
        self.cache.put(key, status, until);
        self.answer(query, status, until);
    }

    /// One line when a responder stops answering, and one when it does again.
    fn note(&mut self, query: &OcspQuery, result: &Result<Checked, AskError>) {
        let url = url(query).unwrap_or_default();
        if self.noted.len() >= MAX_NOTED && !self.noted.contains_key(&url) {
            self.noted.clear();
        }
        let before = self.noted.insert(url.clone(), result.is_ok()).unwrap_or(true);
        match result {
            Err(error) if before => {
                tracing::warn!(responder = url, %error, "no state of client certificates is had; other failures are counted");
            }
            Ok(_) if !before => tracing::info!(responder = url, "the responder for client certificates answers again"),
            _ => {}
        }
    }

    fn answer(&self, query: OcspQuery, status: OcspStatus, until: Instant) {
        let left = until.saturating_duration_since(Instant::now()).as_secs();
        let valid_seconds = u32::try_from(left).unwrap_or(u32::MAX);
        if self.side.answers.try_send(OcspAnswer { query, status, valid_seconds }).is_err() {
            self.side.counts.dropped();
        }
    }
}

async fn question<A: Ask>(ask: &A, query: &OcspQuery) -> Result<Checked, AskError> {
    let url = url(query).ok_or(AskError::NoResponder)?;
    let question = Question::new(&query.issuer.0, &query.certificate.0)?;
    ask.ask(&url, &question).await.map(|(checked, _)| checked)
}

fn url(query: &OcspQuery) -> Option<String> {
    query.responder.clone().or_else(|| responder_url(&query.certificate.0))
}

fn key(query: &OcspQuery) -> Key {
    let mut context = Context::new(&SHA256);
    for part in [&query.issuer.0, &query.certificate.0, query.responder.as_deref().unwrap_or_default().as_bytes()] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// Answers while they hold, the soonest to end given up first when there are too many.
#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<Key, (OcspStatus, Instant)>,
    by_end: BTreeSet<(Instant, Key)>,
}

impl Cache {
    fn get(&self, key: &Key, now: Instant) -> Option<(OcspStatus, Instant)> {
        self.entries.get(key).copied().filter(|(_, until)| *until > now)
    }

    fn put(&mut self, key: Key, status: OcspStatus, until: Instant) {
        if let Some((_, before)) = self.entries.insert(key, (status, until)) {
            self.by_end.remove(&(before, key));
        }
        self.by_end.insert((until, key));
        while self.entries.len() > MAX_KEPT
            && let Some((_, first)) = self.by_end.pop_first()
        {
            self.entries.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_forgets_what_ends_first() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let key = |n: u32| {
            let mut key = Key::default();
            key[..4].copy_from_slice(&n.to_le_bytes());
            key
        };
        for n in 0..=MAX_KEPT as u32 {
            cache.put(key(n), OcspStatus::Good, now + Duration::from_secs(1 + u64::from(n)));
        }
        assert_eq!((cache.entries.len(), cache.by_end.len()), (MAX_KEPT, MAX_KEPT));
        assert_eq!(cache.get(&key(0), now), None);
        assert!(cache.get(&key(1), now).is_some());
        cache.put(key(1), OcspStatus::Revoked, now + Duration::from_secs(9));
        assert_eq!(cache.by_end.len(), MAX_KEPT);
        assert_eq!(cache.get(&key(1), now + Duration::from_secs(9)), None, "it has ended");
    }
}
