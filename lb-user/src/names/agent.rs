//! Looks names up when they are due, and tells the reconciler what changed.

use super::lookup::Lookup;
use super::machine::{Heard, Machine, Outcome};
use super::notes::Notes;
use super::store::{Answers, Store};
use crate::config::{self, Families};
use crate::reconcile::Event;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Names that are asked for at one time.
const MAX_RUNNING: usize = 32;

/// What is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// By which rules.
    pub rules: config::Dns,
    /// Names, and the addresses that those have that are new here.
    pub hosts: Answers,
}

impl Wanted {
    /// Whether the same is to be looked up in the same way.
    pub fn asks_like(&self, other: &Wanted) -> bool {
        self.rules == other.rules && self.hosts.keys().eq(other.hosts.keys())
    }
}

/// The agent.
#[derive(Debug)]
pub struct NamesAgent<L> {
    /// Who is asked.
    pub lookup: L,
    /// Names that stay keep what is known of them.
    pub wanted: watch::Receiver<Wanted>,
    /// Takes [`Event::Resolved`].
    pub events: mpsc::Sender<Event>,
    /// What is told of each name.
    pub notes: Notes,
    /// Where good answers are kept.
    pub store: Option<Store>,
}

struct Entry {
    machine: Machine,
    running: bool,
    /// What an earlier life of the name asked for is nothing to it.
    life: u64,
}

type Answered = (String, u64, [Option<Heard>; 2]);

impl<L: Lookup> NamesAgent<L> {
    /// Until nobody says what to look up, or takes events, any more.
    pub async fn run(mut self) {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut due: BTreeSet<(Instant, String)> = BTreeSet::new();
        let mut running: JoinSet<Answered> = JoinSet::new();
        let mut lives = 0;
        let mut wanted = self.retarget(&mut entries, &mut due, &mut lives);
        // What is in the store, as far as it was written here.
        let mut stored = Answers::new();
        loop {
            let now = Instant::now();
            while running.len() < MAX_RUNNING
                && due.first().is_some_and(|(at, _)| *at <= now)
                && let Some((_, host)) = due.pop_first()
            {
                let Some(entry) = entries.get_mut(&host) else { continue };
                entry.running = true;
                self.lookup.rules(&wanted.rules);
                running.spawn(ask(self.lookup.clone(), wanted.rules.families, host, entry.life));
            }
            let next = due.first().map(|(at, _)| *at).filter(|_| running.len() < MAX_RUNNING);
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    wanted = self.retarget(&mut entries, &mut due, &mut lives);
                }
                Some(Ok((host, life, answers))) = running.join_next() => {
                    let Some(entry) = entries.get_mut(&host).filter(|entry| entry.life == life) else { continue };
                    entry.running = false;
                    let Ok(changed) = self.heard(&host, &mut entry.machine, answers).await else { return };
                    due.insert((entry.machine.due(), host));
                    if changed || stored.is_empty() {
                        self.keep(&entries, &mut stored).await;
                    }
                }
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            }
        }
    }

    fn retarget(
        &mut self,
        entries: &mut BTreeMap<String, Entry>,
        due: &mut BTreeSet<(Instant, String)>,
        lives: &mut u64,
    ) -> Wanted {
        let wanted = self.wanted.borrow_and_update().clone();
        let now = Instant::now();
        entries.retain(|host, _| wanted.hosts.contains_key(host));
        self.notes.keep(|host| wanted.hosts.contains_key(host));
        for (host, known) in &wanted.hosts {
            let entry = entries.entry(host.clone()).or_insert_with(|| {
                *lives += 1;
                Entry { machine: Machine::new(wanted.rules.clone(), known.clone(), now), running: false, life: *lives }
            });
            entry.machine.rule(&wanted.rules, now);
        }
        let waiting = entries.iter().filter(|(_, entry)| !entry.running);
        *due = waiting.map(|(host, entry)| (entry.machine.due(), host.clone())).collect();
        wanted
    }

    /// Take an answer, and tell what it changes. False: nothing. An error: nobody listens any more.
    async fn heard(&self, host: &str, machine: &mut Machine, answers: [Option<Heard>; 2]) -> Result<bool, ()> {
        let before = machine.current().clone();
        let said = machine.hear(answers, Instant::now());
        let known = self.notes.read().get(host).and_then(|note| note.failing.clone());
        match (&said.result, known) {
            (Outcome::Failed(why), None) => tracing::warn!(host, why, "name not looked up; what it had stays"),
            (Outcome::Addresses | Outcome::Nothing, Some(_)) => tracing::info!(host, "name looked up again"),
            _ => {}
        }
        if said.rejected > 0 {
            tracing::warn!(host, rejected = said.rejected, "addresses that no backend can have, or too many");
        }
        self.notes.heard(host, &said, machine.current(), machine.due());
        if *machine.current() == before {
            return Ok(false);
        }
        let addresses = machine.current().clone();
        self.events.send(Event::Resolved { host: host.to_owned(), addresses }).await.map(|()| true).map_err(|_| ())
    }

    /// Store the good answers, if they are others than before.
    async fn keep(&self, entries: &BTreeMap<String, Entry>, stored: &mut Answers) {
        let Some(store) = self.store.clone() else { return };
        let has = |(host, entry): (&String, &Entry)| {
            let current = entry.machine.current();
            (!current.is_empty()).then(|| (host.clone(), current.clone()))
        };
        let answers: Answers = entries.iter().filter_map(has).collect();
        if answers == *stored {
            return;
        }
        stored.clone_from(&answers);
        // A disk that hangs holds up this agent alone.
        let written = tokio::task::spawn_blocking(move || store.write(&answers)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "addresses of names not stored; a start without DNS has older ones");
        }
    }
}

async fn ask<L: Lookup>(lookup: L, families: Families, host: String, life: u64) -> Answered {
    let one = async |wanted: bool, v6: bool| if wanted { Some(lookup.lookup(&host, v6).await) } else { None };
    let (v4, v6) = tokio::join!(one(families != Families::V6, false), one(families != Families::V4, true));
    (host, life, [v4, v6])
}

/// Look these names up once, in the time that one lookup may take; those that fail have what was stored of them, or
/// else why they did.
pub async fn first<L: Lookup>(
    mut lookup: L,
    rules: &config::Dns,
    hosts: BTreeSet<String>,
    store: Option<Store>,
) -> BTreeMap<String, Result<BTreeSet<std::net::IpAddr>, String>> {
    if hosts.is_empty() {
        return BTreeMap::new();
    }
    lookup.rules(rules);
    let deadline = Instant::now() + rules.deadline();
    let mut running = JoinSet::new();
    let mut waiting = hosts.iter().cloned();
    let mut found = BTreeMap::new();
    loop {
        while running.len() < MAX_RUNNING
            && let Some(host) = waiting.next()
        {
            running.spawn(ask(lookup.clone(), rules.families, host, 0));
        }
        let Ok(Some(Ok((host, _, answers)))) = timeout_at(deadline, running.join_next()).await else { break };
        let mut machine = Machine::new(rules.clone(), BTreeSet::new(), Instant::now());
        let said = machine.hear(answers, Instant::now());
        let answer = match (machine.current().is_empty(), said.result) {
            (false, _) => Ok(machine.current().clone()),
            (true, Outcome::Failed(why)) => Err(why),
            (true, _) => Err("it has no address".into()),
        };
        found.insert(host, answer);
    }
    let stored = match store {
        Some(store) => tokio::task::spawn_blocking(move || store.read()).await.unwrap_or_default(),
        None => Answers::new(),
    };
    let settled = |host: String| {
        let answer = found.remove(&host).unwrap_or_else(|| Err("no answer in time".into()));
        let answer = match (answer, stored.get(&host)) {
            (Err(why), Some(stored)) => {
                tracing::warn!(host, why, "name not looked up; it has the addresses that it had before");
                Ok(stored.clone())
            }
            (answer, _) => answer,
        };
        (host, answer)
    };
    hosts.into_iter().map(settled).collect()
}
