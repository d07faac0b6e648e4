//! What of the tables is not saved yet, in the order in which it changed; each entry waits once.

use super::{Kept, Sessions, table};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tls_worker::api::{Persistence, Pool};
use tokio::time::Instant;

/// Entries that wait, those that were removed included; more are not saved, and counted.
const MAX_WAITING: usize = 2_000_000;

/// An entry as it is to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Pool.
    pub pool: String,
    /// What a client is known by.
    pub key: String,
    /// None: it is gone.
    pub now: Option<Entry>,
}

/// Where a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Backend.
    pub backend: SocketAddr,
    /// Its last request, milliseconds since 1970.
    pub used_ms: u64,
    /// What keys of the pool mean, as a number.
    pub kind: u32,
}

/// What is known of the saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saving {
    /// Whether anything is saved.
    pub on: bool,
    /// Entries that wait.
    pub waiting: u64,
    /// Entries written, and those that were not or late.
    pub written: (u64, u64),
    /// Entries read at start.
    pub loaded: u64,
}

#[derive(Debug, Default)]
pub(super) struct Unsaved {
    queue: VecDeque<(String, String)>,
    kinds: HashMap<String, u32>,
    saving: Saving,
}

impl Unsaved {
    /// It changed. Whether it waits now.
    pub(super) fn add(&mut self, pool: &str, key: &str) -> bool {
        if !self.saving.on {
            return false;
        }
        if self.queue.len() >= MAX_WAITING {
            self.saving.written.1 += 1;
            return false;
        }
        self.queue.push_back((pool.to_owned(), key.to_owned()));
        true
    }

    /// What the keys of pools mean from now on.
    pub(super) fn know(&mut self, pools: &[Pool]) {
        let kind = |pool: &Pool| Some((pool.name.clone(), kind(table(pool)?)));
        self.kinds = pools.iter().filter_map(kind).collect();
    }
}

impl Sessions {
    /// Note what changes from now on, so that it can be saved.
    pub fn save(&self, pools: &[Pool]) {
        let mut store = self.store();
        store.unsaved.saving.on = true;
        store.unsaved.know(pools);
    }

    /// What is known of the saving.
    pub fn saving(&self) -> Saving {
        let store = self.store();
        Saving { waiting: store.unsaved.queue.len() as u64, ..store.unsaved.saving }
    }

    /// Take what waits, so many at most.
    pub fn unsaved(&self, most: usize) -> Vec<Saved> {
        let (now, wall) = (Instant::now(), unix_ms(SystemTime::now()));
        let mut store = self.store();
        let store = &mut *store;
        let count = most.min(store.unsaved.queue.len());
        let queue = store.unsaved.queue.drain(..count);
        let kinds = &store.unsaved.kinds;
        let pools = &mut store.pools;
        let taken = queue.map(|(pool, key)| {
            let kept = pools.get_mut(&pool).and_then(|kept| kept.get_mut(&key));
            let now = kept.and_then(|kept| {
                kept.queued = false;
                let idle = now.duration_since(kept.used).as_millis() as u64;
                let kind = *kinds.get(&pool)?;
                Some(Entry { backend: kept.backend, used_ms: wall.saturating_sub(idle), kind })
            });
            Saved { pool, key, now }
        });
        taken.collect()
    }

    /// These were written; or they were not, and wait again.
    pub fn saved(&self, entries: Vec<Saved>, done: bool) {
        let mut store = self.store();
        let store = &mut *store;
        let saving = &mut store.unsaved.saving;
        if done {
            saving.written.0 += entries.len() as u64;
            return;
        }
        saving.written.1 += entries.len() as u64;
        for Saved { pool, key, .. } in entries {
            let kept = store.pools.get_mut(&pool).and_then(|kept| kept.get_mut(&key));
            if kept.as_ref().is_some_and(|kept| kept.queued) {
                continue;
            }
            let queued = store.unsaved.add(&pool, &key);
            if let Some(kept) = kept {
                kept.queued = queued;
            }
        }
    }

    /// Take what was saved before, where it still means something; what does not is to be removed.
    pub fn load(&self, pools: &[Pool], entries: impl Iterator<Item = (String, String, Entry)>) {
        let (now, wall) = (Instant::now(), unix_ms(SystemTime::now()));
        let rules: HashMap<&str, (&Persistence, u32)> = pools
            .iter()
            .filter_map(|pool| table(pool).map(|persistence| (&*pool.name, (persistence, kind(persistence)))))
            .collect();
        let mut store = self.store();
        let store = &mut *store;
        let mut count = store.pools.values().map(std::collections::BTreeMap::len).sum::<usize>();
        for (pool, key, entry) in entries {
            // A clock that was set back makes nobody older than new.
            let idle = Duration::from_millis(wall.saturating_sub(entry.used_ms));
            let good = rules.get(&*pool).is_some_and(|(persistence, kind)| {
                *kind == entry.kind && idle <= persistence.timeout + persistence.timeout / 4
            });
            let Some(used) = now.checked_sub(idle).filter(|_| good && count < super::MAX_ENTRIES) else {
                store.unsaved.add(&pool, &key);
                continue;
            };
            let kept = Kept { backend: entry.backend, used, queued: false };
            count += usize::from(store.pools.entry(pool).or_default().insert(key, kept).is_none());
            store.unsaved.saving.loaded += 1;
        }
    }
}

/// Keys that are made otherwise are others.
fn kind(persistence: &Persistence) -> u32 {
    crc32fast::hash(&serde_json::to_vec(&persistence.by).unwrap_or_default())
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
