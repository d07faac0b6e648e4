//! What workers told of tables of persistence: listed for operators, given to the next worker when one dies, and kept
//! over a restart (`saving`). It follows the living worker by about a second.

mod saving;

pub use saving::{Entry, Saved, Saving};

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tls_worker::api::{PersistBy, Persistence, Pool, Session, SessionChanges, Snapshot};
use tokio::time::Instant;

/// Entries of all pools; more are not kept, and counted.
const MAX_ENTRIES: usize = 1_000_000;
/// Entries in one message to a worker.
const AT_ONCE: usize = 4_096;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<Store>>);

#[derive(Debug, Default)]
struct Store {
    pools: HashMap<String, BTreeMap<String, Kept>>,
    lost: u64,
    /// What is not saved yet.
    unsaved: saving::Unsaved,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    backend: SocketAddr,
    used: Instant,
    /// Waits to be saved.
    queued: bool,
}

impl Sessions {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker tells.
    pub(crate) fn heed(&self, changes: SessionChanges, now: Instant) {
        let mut store = self.store();
        let store = &mut *store;
        let mut room = MAX_ENTRIES.saturating_sub(store.pools.values().map(BTreeMap::len).sum());
        let name = changes.pool;
        let pool = store.pools.entry(name.clone()).or_default();
        let mut lost = 0;
        for key in changes.removed {
            if pool.remove(&key).is_some() {
                room += 1;
                store.unsaved.add(&name, &key);
            }
        }
        for Session { key, backend, idle_ms } in changes.set {
            let used = now.checked_sub(Duration::from_millis(idle_ms)).unwrap_or(now);
            if let Some(kept) = pool.get_mut(&key) {
                let queued = kept.queued || store.unsaved.add(&name, &key);
                *kept = Kept { backend, used, queued };
            } else if room > 0 {
                room -= 1;
                let queued = store.unsaved.add(&name, &key);
                pool.insert(key, Kept { backend, used, queued });
            } else {
                lost += 1;
            }
        }
        store.lost += lost;
    }

    /// Workers serve by another snapshot: what its tables cannot have is forgotten.
    pub(super) fn adopt(&self, before: &Snapshot, now: &Snapshot) {
        let of = |snapshot: &Snapshot, name: &str| -> Option<PersistBy> {
            let pool = snapshot.pools.iter().find(|pool| pool.name == *name)?;
            Some(table(pool)?.by.clone())
        };
        let mut store = self.store();
        let store = &mut *store;
        store.pools.retain(|name, kept| {
            let stays = of(now, name).is_some_and(|by| of(before, name) == Some(by));
            if !stays {
                for key in kept.keys() {
                    store.unsaved.add(name, key);
                }
            }
            stays
        });
        store.unsaved.know(&now.pools);
    }

    /// Forget what is old by now.
    pub(super) fn expire(&self, snapshot: &Snapshot, now: Instant) {
        let mut store = self.store();
        let store = &mut *store;
        for pool in &snapshot.pools {
            if let (Some(persistence), Some(kept)) = (table(pool), store.pools.get_mut(&pool.name)) {
                // Uses are told with a quarter of the time behind them.
                let most = persistence.timeout + persistence.timeout / 4;
                kept.retain(|key, kept| {
                    let stays = now.duration_since(kept.used) <= most;
                    if !stays {
                        store.unsaved.add(&pool.name, key);
                    }
                    stays
                });
            }
        }
    }

    /// Everything, in messages for a new worker.
    pub(crate) fn messages(&self, now: Instant) -> Vec<(String, Vec<Session>)> {
        let store = self.store();
        let mut messages = Vec::new();
        for (pool, kept) in &store.pools {
            let all: Vec<Session> = kept.iter().map(|(key, kept)| session(key, kept, now)).collect();
            messages.extend(all.chunks(AT_ONCE).map(|some| (pool.clone(), some.to_vec())));
        }
        messages
    }

    /// Entries of a pool in the order of their keys, after one, so many at most; and how many there are in all.
    pub fn list(&self, pool: &str, after: Option<&str>, limit: usize) -> (Vec<Session>, usize) {
        let (store, now) = (self.store(), Instant::now());
        let Some(kept) = store.pools.get(pool) else { return (Vec::new(), 0) };
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let some = kept.range::<str, _>((begin, Bound::Unbounded)).take(limit);
        (some.map(|(key, kept)| session(key, kept, now)).collect(), kept.len())
    }

    /// How many entries of a pool lead to each of these backends.
    pub fn count(&self, pool: &str, backends: &[SocketAddr]) -> Vec<u64> {
        let mut counts: HashMap<SocketAddr, u64> = backends.iter().map(|backend| (*backend, 0)).collect();
        for kept in self.store().pools.get(pool).into_iter().flatten() {
            counts.entry(kept.1.backend).and_modify(|count| *count += 1);
        }
        backends.iter().map(|backend| counts.get(backend).copied().unwrap_or_default()).collect()
    }

    /// Entries that there was no room for.
    pub fn lost(&self) -> u64 {
        self.store().lost
    }
}

fn session(key: &str, kept: &Kept, now: Instant) -> Session {
    let idle = now.duration_since(kept.used).as_millis();
    Session { key: key.to_owned(), backend: kept.backend, idle_ms: u64::try_from(idle).unwrap_or(u64::MAX) }
}

/// Persistence of a pool, where it has a table.
fn table(pool: &Pool) -> Option<&Persistence> {
    pool.persistence.as_ref().filter(|persistence| !matches!(persistence.by, PersistBy::Cookie(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(by: PersistBy) -> Snapshot {
        let persistence = Persistence {
            by,
            timeout: Duration::from_secs(60),
            max_entries: 10,
            drain_timeout: Duration::from_secs(1),
        };
        let pool = Pool { name: "p".into(), persistence: Some(persistence), ..Pool::default() };
        Snapshot { pools: vec![pool], ..Snapshot::default() }
    }

    fn told(keys: &[&str], removed: &[&str]) -> SessionChanges {
        let session =
            |key: &&str| Session { key: key.to_string(), backend: ([10, 0, 0, 1], 80).into(), idle_ms: 1_000 };
        SessionChanges {
            pool: "p".into(),
            set: keys.iter().map(session).collect(),
            removed: removed.iter().map(|key| key.to_string()).collect(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_the_worker_and_goes_to_the_next_one() {
        let sessions = Sessions::default();
        sessions.heed(told(&["b", "a", "c"], &[]), Instant::now());
        sessions.heed(told(&[], &["b", "x"]), Instant::now());
        let (list, total) = sessions.list("p", None, 10);
        assert_eq!((total, list.iter().map(|s| &*s.key).collect::<Vec<_>>()), (2, vec!["a", "c"]));
        assert_eq!(sessions.list("p", Some("a"), 10).0[0].key, "c");
        assert_eq!(sessions.list("p", None, 1).0.len(), 1);
        tokio::time::advance(Duration::from_secs(5)).await;
        let messages = sessions.messages(Instant::now());
        assert_eq!((messages.len(), messages[0].1[0].idle_ms), (1, 6_000));
        tokio::time::advance(Duration::from_secs(80)).await;
        sessions.heed(told(&["c"], &[]), Instant::now());
        sessions.expire(&snapshot(PersistBy::AppCookie("s".into())), Instant::now());
        assert_eq!(sessions.list("p", None, 10).0[0].key, "c");
    }

    #[tokio::test]
    async fn what_means_something_else_now_is_forgotten() {
        let sessions = Sessions::default();
        let (one, other) = (PersistBy::AppCookie("s".into()), PersistBy::Source { v4: 32, v6: 64 });
        sessions.heed(told(&["a"], &[]), Instant::now());
        sessions.adopt(&snapshot(one.clone()), &snapshot(one.clone()));
        assert_eq!(sessions.list("p", None, 10).1, 1);
        sessions.adopt(&snapshot(one), &snapshot(other));
        assert_eq!(sessions.list("p", None, 10).1, 0);
    }
}
