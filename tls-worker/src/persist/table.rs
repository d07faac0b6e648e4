//! What a pool's clients are known by, and where they go. Every thread reads and writes it, without a lock; the control
//! loop takes out what is old, and tells the control plane what has changed. The clock is passed in.

use crate::api::{ClearSessions, Session, SessionChanges};
use crate::clock::Millis;
use papaya::{Compute, HashMap, HashSet, Operation};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A use that follows another one so soon is not noted: the line of memory stays shared.
const NOTED_EVERY: Millis = 250;
/// Changes that wait to be told. More are told when their entries are used again.
const MAX_UNTOLD: usize = 65_536;
/// Changes in one message.
const TOLD_AT_ONCE: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: HashMap<Arc<str>, Entry>,
    /// Keys of entries that were set or removed since the control plane was told.
    changed: HashSet<Arc<str>>,
    pub(crate) expired: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) cleared: AtomicU64,
    pub(crate) untold: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    backend: SocketAddr,
    used: AtomicU64,
    /// When the control plane was told of it.
    told: AtomicU64,
}

impl Entry {
    fn new(backend: SocketAddr, now: Millis) -> Self {
        Entry { backend, used: AtomicU64::new(now), told: AtomicU64::new(now) }
    }

    fn lives(&self, now: Millis, timeout: Millis) -> bool {
        now.saturating_sub(self.used.load(Relaxed)) <= timeout
    }
}

/// What an entry may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) timeout: Millis,
    pub(crate) max: usize,
}

impl Table {
    /// Where a client goes, and that it was here.
    pub(crate) fn find(&self, key: &str, now: Millis, timeout: Millis) -> Option<SocketAddr> {
        let entries = self.entries.pin();
        let (key, entry) = entries.get_key_value(key)?;
        if !entry.lives(now, timeout) {
            return None;
        }
        if now.saturating_sub(entry.used.load(Relaxed)) > NOTED_EVERY {
            entry.used.store(now, Relaxed);
        }
        // So that it does not count as old where it is remembered for the next worker.
        if now.saturating_sub(entry.told.load(Relaxed)) > timeout / 4 {
            entry.told.store(now, Relaxed);
            if !self.note(key.clone()) {
                entry.told.store(0, Relaxed);
            }
        }
        Some(entry.backend)
    }

    /// Send a client here, unless it is sent elsewhere already: `but` is where it may not stay. Where it goes now;
    /// None: the table is full.
    pub(crate) fn pin(
        &self,
        key: &Arc<str>,
        backend: SocketAddr,
        but: Option<SocketAddr>,
        now: Millis,
        limits: Limits,
    ) -> Option<SocketAddr> {
        let entries = self.entries.pin();
        let full = entries.len() >= limits.max;
        let computed = entries.compute(key.clone(), |entry| match entry {
            Some((_, entry)) if entry.lives(now, limits.timeout) && Some(entry.backend) != but => {
                Operation::Abort(Some(entry.backend))
            }
            None if full => Operation::Abort(None),
            _ => Operation::Insert(Entry::new(backend, now)),
        });
        match computed {
            Compute::Aborted(other) => other,
            _ => {
                self.note(key.clone());
                Some(backend)
            }
        }
    }

    /// Note what has changed, to be told. Whether there was room.
    fn note(&self, key: Arc<str>) -> bool {
        let changed = self.changed.pin();
        let room = changed.len() < MAX_UNTOLD;
        if room {
            changed.insert(key);
        } else {
            self.untold.fetch_add(1, Relaxed);
        }
        room
    }

    /// Have everything told again. What there is no room for is told when it is used.
    pub(crate) fn note_all(&self) {
        for (key, entry) in &self.entries.pin() {
            if !self.note(key.clone()) {
                entry.told.store(0, Relaxed);
            }
        }
    }

    /// Entries now.
    pub(crate) fn len(&self) -> usize {
        self.entries.pin().len()
    }

    /// Take out what is old; where the table is full, an eighth of it, the longest unused.
    pub(crate) fn sweep(&self, now: Millis, limits: Limits) {
        let entries = self.entries.pin();
        let mut ages = Vec::new();
        for (key, entry) in &entries {
            if entry.lives(now, limits.timeout) {
                ages.push(entry.used.load(Relaxed));
            } else if entries.remove_if(key, |_, entry| !entry.lives(now, limits.timeout)).is_ok_and(|e| e.is_some()) {
                self.expired.fetch_add(1, Relaxed);
                self.note(key.clone());
            }
        }
        if ages.len() < limits.max {
            return;
        }
        let surplus = (ages.len() - limits.max + limits.max / 8).clamp(1, ages.len());
        let (_, oldest, _) = ages.select_nth_unstable(surplus - 1);
        let (oldest, mut left) = (*oldest, surplus);
        for (key, entry) in &entries {
            if left == 0 {
                return;
            }
            if entry.used.load(Relaxed) <= oldest && entries.remove(key).is_some() {
                left -= 1;
                self.evicted.fetch_add(1, Relaxed);
                self.note(key.clone());
            }
        }
    }

    /// Whether it is time for [`Table::sweep`] before it is due.
    pub(crate) fn is_full(&self, max: usize) -> bool {
        self.len() >= max
    }

    /// Changes that were not told yet, as many as go into a message. None: there are none.
    pub(crate) fn changes(&self, now: Millis) -> Option<SessionChanges> {
        let (changed, entries) = (self.changed.pin(), self.entries.pin());
        let mut told = SessionChanges::default();
        // Taken off first: who changes it again meanwhile puts it there again.
        for key in changed.iter().take(TOLD_AT_ONCE).filter(|key| changed.remove(*key)) {
            match entries.get(key) {
                Some(entry) => told.set.push(session(key, entry, now)),
                None => told.removed.push(key.to_string()),
            }
        }
        (!told.set.is_empty() || !told.removed.is_empty()).then_some(told)
    }

    /// Changes that could not be told after all.
    pub(crate) fn not_told(&self, changes: SessionChanges) {
        let keys = changes.set.into_iter().map(|session| session.key).chain(changes.removed);
        keys.for_each(|key| {
            self.note(key.into());
        });
    }

    /// What an earlier worker knew. What is known here is newer.
    pub(crate) fn restore(&self, sessions: Vec<Session>, now: Millis, limits: Limits) {
        let entries = self.entries.pin();
        for session in sessions {
            if session.idle_ms <= limits.timeout && entries.len() < limits.max {
                let entry = Entry::new(session.backend, now.saturating_sub(session.idle_ms));
                let _ = entries.try_insert(session.key.into(), entry);
            }
        }
    }

    /// Forget entries; how many.
    pub(crate) fn clear(&self, which: &ClearSessions) -> u64 {
        let entries = self.entries.pin();
        let gone = |key: &Arc<str>| {
            let there = entries.remove(key).is_some();
            if there {
                self.note(key.clone());
            }
            there
        };
        let count = match which {
            ClearSessions::Key(text) => {
                let ways = [Arc::from(text.as_str()), super::key(text.as_bytes(), true)];
                ways.iter().filter(|key| gone(key)).count()
            }
            ClearSessions::Backend(backend) => {
                let of_it = entries.iter().filter(|(_, entry)| entry.backend == *backend);
                of_it.filter(|(key, _)| gone(key)).count()
            }
            ClearSessions::All => entries.keys().filter(|key| gone(key)).count(),
        };
        self.cleared.fetch_add(count as u64, Relaxed);
        count as u64
    }
}

fn session(key: &str, entry: &Entry, now: Millis) -> Session {
    let idle_ms = now.saturating_sub(entry.used.load(Relaxed));
    Session { key: key.to_owned(), backend: entry.backend, idle_ms }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
