//! What is known of each name, for those who ask: the agent writes, state and metrics read.

use super::machine::{Outcome, Said};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::time::Instant;

/// Of one name.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// In force.
    pub addresses: BTreeSet<IpAddr>,
    /// When DNS last said something about it.
    pub answered: Option<SystemTime>,
    /// Since when it fails, and why it did last.
    pub failing: Option<(Instant, String)>,
    /// Since when DNS says that it has none.
    pub empty_since: Option<Instant>,
    /// When it is asked for next.
    pub next: Option<Instant>,
    /// Lookups that found addresses, that found that there are none, and that failed.
    pub lookups: [u64; 3],
    /// Addresses that were not taken.
    pub rejected: u64,
}

/// Of all names; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<BTreeMap<String, Note>>>);

impl Notes {
    /// As they are now.
    pub fn read(&self) -> BTreeMap<String, Note> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forget the others.
    pub(super) fn keep(&self, stays: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|host, _| stays(host));
    }

    /// An answer was heard.
    pub(super) fn heard(&self, host: &str, said: &Said, addresses: &BTreeSet<IpAddr>, next: Instant) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let note = notes.entry(host.to_owned()).or_default();
        note.addresses.clone_from(addresses);
        note.next = Some(next);
        note.rejected += said.rejected as u64;
        let now = Instant::now();
        let kind = match &said.result {
            Outcome::Addresses => 0,
            Outcome::Nothing => 1,
            Outcome::Failed(why) => {
                let since = note.failing.as_ref().map_or(now, |(since, _)| *since);
                note.failing = Some((since, why.clone()));
                2
            }
        };
        note.lookups[kind] += 1;
        note.empty_since = (kind == 1).then(|| note.empty_since.unwrap_or(now));
        if kind != 2 {
            note.failing = None;
            note.answered = Some(SystemTime::now());
        }
    }
}
