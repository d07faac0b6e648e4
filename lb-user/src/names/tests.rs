//! The agent against a scripted DNS, on a clock that is the test's.

use super::*;
use crate::config;
use crate::reconcile::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// What is answered, by name; and when what was asked.
#[derive(Debug, Clone, Default)]
struct Script {
    answers: Arc<Mutex<BTreeMap<String, Heard>>>,
    asked: Arc<Mutex<Vec<(Duration, String)>>>,
    began: Option<Instant>,
    /// Each answer takes so long.
    takes: Duration,
    running: Arc<Mutex<(usize, usize)>>,
}

impl Script {
    fn new() -> Self {
        Script { began: Some(Instant::now()), ..Script::default() }
    }

    fn says(&self, host: &str, heard: Heard) {
        self.answers.lock().unwrap().insert(host.into(), heard);
    }

    fn asked(&self) -> Vec<(u64, String)> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.into_iter().map(|(at, host)| (at.as_secs(), host)).collect()
    }
}

impl Lookup for Script {
    fn rules(&mut self, _: &config::Dns) {}

    async fn lookup(&self, host: &str, v6: bool) -> Heard {
        assert!(!v6, "IPv4 alone was wanted");
        self.asked.lock().unwrap().push((self.began.unwrap().elapsed(), host.into()));
        let count = |by: isize| {
            let mut running = self.running.lock().unwrap();
            running.0 = running.0.strict_add_signed(by);
            running.1 = running.1.max(running.0);
        };
        count(1);
        tokio::time::sleep(self.takes).await;
        count(-1);
        self.answers.lock().unwrap().get(host).cloned().unwrap_or(Heard::Failed("no such script".into()))
    }
}

fn rules() -> config::Dns {
    config::Dns {
        families: config::Families::V4,
        min_ttl: SECOND,
        max_ttl: 100 * SECOND,
        retry: 5 * SECOND,
        hold: 30 * SECOND,
        ..config::Dns::default()
    }
}

fn set(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn found(list: &[&str], ttl: u32) -> Heard {
    Heard::Addresses(set(list), ttl * SECOND)
}

fn wanted(hosts: &[&str]) -> Wanted {
    Wanted { rules: rules(), hosts: hosts.iter().map(|host| (host.to_string(), BTreeSet::new())).collect() }
}

struct Running {
    script: Script,
    wanted: watch::Sender<Wanted>,
    events: mpsc::Receiver<Event>,
    notes: Notes,
}

impl Running {
    fn start(script: Script, hosts: Wanted, store: Option<Store>) -> Self {
        let (wanted, receiver) = watch::channel(hosts);
        let (sender, events) = mpsc::channel(8);
        let notes = Notes::default();
        let agent =
            NamesAgent { lookup: script.clone(), wanted: receiver, events: sender, notes: notes.clone(), store };
        tokio::spawn(agent.run());
        Running { script, wanted, events, notes }
    }

    /// The next change, within so many seconds.
    async fn told(&mut self, seconds: u32) -> Option<(String, BTreeSet<IpAddr>)> {
        match timeout(seconds * SECOND, self.events.recv()).await {
            Ok(Some(Event::Resolved { host, addresses })) => Some((host, addresses)),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_for_again_when_its_answer_runs_out_and_only_changes_are_told() {
    let script = Script::new();
    script.says("a.test", found(&["192.0.2.1"], 10));
    let mut agent = Running::start(script, wanted(&["a.test"]), None);
    assert_eq!(agent.told(1).await, Some(("a.test".into(), set(&["192.0.2.1"]))));
    assert_eq!(agent.told(35).await, None);
    assert_eq!(agent.script.asked().into_iter().map(|(at, _)| at).collect::<Vec<_>>(), [0, 10, 20, 30]);
    agent.script.says("a.test", found(&["192.0.2.2"], 3));
    assert_eq!(agent.told(6).await, Some(("a.test".into(), set(&["192.0.2.2"]))));
    // While it fails it is asked for in the pace of failures, and nothing changes.
    agent.script.asked();
    agent.script.says("a.test", Heard::Failed("SERVFAIL".into()));
    assert_eq!(agent.told(20).await, None);
    assert_eq!(agent.script.asked().len(), 4);
    let note = agent.notes.read().remove("a.test").unwrap();
    assert_eq!((note.addresses, note.failing.unwrap().1.as_str()), (set(&["192.0.2.2"]), "SERVFAIL"));
    agent.script.says("a.test", found(&["192.0.2.2"], 3));
    assert_eq!(agent.told(20).await, None);
    let note = agent.notes.read().remove("a.test").unwrap();
    assert!(note.failing.is_none() && note.lookups[0] > 5 && note.lookups[2] == 4, "{note:?}");
}

#[tokio::test(start_paused = true)]
async fn names_come_and_go_and_those_that_stay_are_not_asked_for_anew() {
    let script = Script::new();
    script.says("a.test", found(&["192.0.2.1"], 50));
    script.says("b.test", found(&["192.0.2.2"], 50));
    let mut agent = Running::start(script, wanted(&["a.test"]), None);
    assert_eq!(agent.told(1).await.unwrap().0, "a.test");
    agent.wanted.send_replace(wanted(&["a.test", "b.test"]));
    assert_eq!(agent.told(1).await.unwrap().0, "b.test");
    assert_eq!(agent.script.asked().len(), 2);
    agent.wanted.send_replace(wanted(&["b.test"]));
    assert_eq!(agent.told(60).await, None);
    assert!(agent.script.asked().iter().all(|(_, host)| host == "b.test"));
    assert_eq!(agent.notes.read().keys().collect::<Vec<_>>(), ["b.test"]);
    // Other rules are heeded at once.
    let mut other = wanted(&["b.test"]);
    other.rules.max_ttl = 2 * SECOND;
    agent.wanted.send_replace(other);
    assert_eq!(agent.told(10).await, None);
    assert!(agent.script.asked().len() >= 5);
}

#[tokio::test(start_paused = true)]
async fn many_names_are_asked_for_a_few_at_a_time_and_the_last_answers_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let script = Script { takes: SECOND / 10, ..Script::new() };
    let hosts: Vec<String> = (0..200).map(|n| format!("h{n}.test")).collect();
    hosts.iter().for_each(|host| script.says(host, found(&["192.0.2.1"], 100)));
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let mut agent = Running::start(script, wanted(&names), Some(store.clone()));
    for _ in 0..200 {
        assert!(agent.told(5).await.is_some());
    }
    assert_eq!(agent.script.running.lock().unwrap().1, 32);
    assert_eq!(agent.told(1).await, None);
    assert_eq!(store.read().len(), 200);
    // A start while nothing is answered has what was stored, and says why of the others.
    let silent = Script::new();
    let hosts: BTreeSet<String> = ["h7.test".to_owned(), "new.test".to_owned()].into();
    let first = first(silent, &rules(), hosts.clone(), Some(store.clone())).await;
    assert_eq!(first["h7.test"], Ok(set(&["192.0.2.1"])));
    assert_eq!(first["new.test"], Err("no such script".into()));
    // Nobody waits for longer than a lookup may take.
    let began = Instant::now();
    let slow = Script { takes: 1000 * SECOND, ..Script::new() };
    let first = super::first(slow, &rules(), hosts, None).await;
    assert_eq!(first["h7.test"], Err("no answer in time".into()));
    assert_eq!(began.elapsed(), rules().deadline());
}
