//! What the control loop does for the tables: takes out what is old, tells the control plane what has changed, and
//! fills them with what an earlier worker knew.

use super::Pinning;
use super::table::Limits;
use crate::api::{ClearSessions, Event, Report, Session, SessionChanges, SessionReport};
use crate::clock::{self, Millis};
use crate::compile::Compiled;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// The longest that an entry that has run out may stay.
const SWEEP_MOST: Millis = 30_000;
/// The shortest time between two sweeps of a table that is not full.
const SWEEP_LEAST: Millis = 1_000;
/// Messages about one pool in one go.
const MESSAGES: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// By pool.
    swept: HashMap<Arc<str>, Millis>,
}

impl Keeper {
    /// Once a second. Without a control plane, changes wait for the next one.
    pub(crate) fn tick(&mut self, compiled: &Compiled, events: Option<&mpsc::Sender<Event>>) {
        let now = clock::now();
        self.swept.retain(|pool, _| compiled.pools.iter().any(|p| p.name == *pool));
        for (pool, pinning) in tables(compiled) {
            let Some(table) = &pinning.table else { continue };
            let swept = self.swept.entry(pool.clone()).or_insert(now);
            let due = (pinning.timeout / 8).clamp(SWEEP_LEAST, SWEEP_MOST);
            if now.saturating_sub(*swept) >= due || table.is_full(pinning.max_entries) {
                *swept = now;
                table.sweep(now, limits(pinning));
            }
        }
        if let Some(events) = events {
            self.tell(compiled, events);
        }
    }

    /// Another control plane came, which knows nothing.
    pub(crate) fn tell_all(&self, compiled: &Compiled) {
        tables(compiled).filter_map(|(_, pinning)| pinning.table.as_ref()).for_each(|table| table.note_all());
    }

    /// Tell what has changed. What there is no room for is told the next time.
    pub(crate) fn tell(&self, compiled: &Compiled, events: &mpsc::Sender<Event>) {
        for (pool, pinning) in tables(compiled) {
            let Some(table) = &pinning.table else { continue };
            for _ in 0..MESSAGES {
                // Half of the room is for others.
                if events.capacity() < events.max_capacity() / 2 {
                    return;
                }
                let Some(changes) = table.changes(clock::now()) else { break };
                let changes = SessionChanges { pool: pool.to_string(), ..changes };
                if let Err(error) = events.try_send(Event::Sessions(changes))
                    && let Event::Sessions(changes) = error.into_inner()
                {
                    table.not_told(changes);
                    return;
                }
            }
        }
    }

    /// What an earlier worker knew.
    pub(crate) fn restore(&self, compiled: &Compiled, pool: &str, entries: Vec<Session>) {
        if let Some((pinning, table)) = table_of(compiled, pool) {
            table.restore(entries, clock::now(), limits(pinning));
        }
    }

    /// Forget entries; how many.
    pub(crate) fn clear(&self, compiled: &Compiled, pool: &str, which: &ClearSessions) -> u64 {
        table_of(compiled, pool).map_or(0, |(_, table)| table.clear(which))
    }

    /// Add what the tables count.
    pub(crate) fn report(&self, compiled: &Compiled, report: &mut Report) {
        for (pool, pinning) in tables(compiled) {
            let Some(table) = &pinning.table else { continue };
            let place = report.sessions.iter().position(|row| *row.pool == **pool).unwrap_or_else(|| {
                report.sessions.push(SessionReport { pool: pool.to_string(), ..SessionReport::default() });
                report.sessions.len() - 1
            });
            let row = &mut report.sessions[place];
            row.entries = table.len() as u64;
            let removed = [("expired", &table.expired), ("full", &table.evicted), ("cleared", &table.cleared)];
            row.removed = removed.map(|(word, count)| (word.to_owned(), count.load(Relaxed))).into();
            row.untold = table.untold.load(Relaxed);
        }
    }
}

fn tables(compiled: &Compiled) -> impl Iterator<Item = (&Arc<str>, &Pinning)> {
    compiled.pools.iter().filter_map(|pool| Some((&pool.name, pool.pinning.as_deref()?)))
}

fn table_of<'a>(compiled: &'a Compiled, pool: &str) -> Option<(&'a Pinning, &'a super::Table)> {
    let (_, pinning) = tables(compiled).find(|(name, _)| ***name == *pool)?;
    Some((pinning, pinning.table.as_deref()?))
}

fn limits(pinning: &Pinning) -> Limits {
    Limits { timeout: pinning.timeout, max: pinning.max_entries }
}
