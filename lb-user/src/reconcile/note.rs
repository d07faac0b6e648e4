//! What a next control plane needs and no file has, as a text that the workers keep for it. It is newer than any file.

use super::agents::Keeper;
use super::plan::ServiceIds;
use super::tickets::{KeptKeys, RandomKeys};
use super::{HealthNote, Reconciler, Recovered};
use crate::config::Config;
use crate::datapath::Datapath;
use crate::health::Key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tls_worker::api::{self, Secret};
use tokio::time::Instant;

/// Form of [`Note`]. It rises when an older release could not go on by what a newer one wrote; fields are added with a
/// default otherwise. `note_v1.json` beside this file is what the first release wrote.
pub const NOTE_VERSION: u32 = 1;
/// Room for most notes at once: a text that grows leaves copies of keys behind.
const ROOM: usize = 64 << 10;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Instance.
    pub edge: String,
    /// The last that was used, whether it was taken or not.
    pub generation: u64,
    /// Numbers of services.
    pub ids: ServiceIds,
    /// What the checks said last.
    #[serde(default)]
    pub health: Vec<HealthMark>,
    /// Keys of tickets that were made at random.
    #[serde(default)]
    pub tickets: Option<KeptKeys>,
    /// The datapath's own.
    #[serde(default)]
    pub datapath: serde_json::Value,
}

/// What the checks of one backend said last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthMark {
    pool: String,
    backend: SocketAddr,
    up: bool,
    cause: String,
    /// Seconds since 1970.
    since: u64,
}

/// Why a note cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// A newer release wrote it.
    #[error("the note is of version {0}, and this release reads versions up to {NOTE_VERSION}")]
    Version(u32),
    /// It is no such text.
    #[error("the note cannot be read: {0}")]
    Text(#[from] serde_json::Error),
    /// Of another instance.
    #[error("the note is of edge {0:?}")]
    Edge(String),
}

impl Note {
    /// To be kept.
    pub fn write(&self) -> api::Note {
        let mut text = Vec::with_capacity(ROOM);
        // Writing into memory, with keys that are texts, does not fail.
        let _ = serde_json::to_writer(&mut text, self);
        api::Note { version: NOTE_VERSION, text: Secret::new(text) }
    }

    /// What was kept for the edge of this name.
    pub fn read(note: &api::Note, edge: &str) -> Result<Self, NoteError> {
        if note.version > NOTE_VERSION {
            return Err(NoteError::Version(note.version));
        }
        let note: Self = serde_json::from_slice(note.text.expose())?;
        if note.edge == edge { Ok(note) } else { Err(NoteError::Edge(note.edge)) }
    }
}

impl Recovered {
    /// A note tells of later than a file does.
    pub fn with_note(self, note: &Note) -> Self {
        Self {
            ids: note.ids.clone(),
            generation: self.generation.max(note.generation),
            health: note.health.iter().map(|mark| mark.note(SystemTime::now(), Instant::now())).collect(),
            tickets: note.tickets.clone(),
            ..self
        }
    }

    /// The checks' word, for pools that this config has checked.
    pub(super) fn health(&self, config: &Config) -> BTreeMap<Key, HealthNote> {
        let checked = |(pool, _): &Key| config.pool(pool).is_some_and(|pool| pool.health.is_some());
        self.health.iter().filter(|(key, _)| checked(key)).cloned().collect()
    }

    /// The keys of before, or new ones.
    pub(super) fn keys(&self, now: Instant) -> Result<RandomKeys, super::tickets::NoRandom> {
        match &self.tickets {
            Some(kept) => Ok(RandomKeys::of(kept, SystemTime::now(), now)),
            None => RandomKeys::new(now),
        }
    }
}

impl HealthMark {
    fn of(key: &Key, note: &HealthNote) -> Self {
        let since = seconds(SystemTime::now()).saturating_sub(note.since.elapsed().as_secs());
        Self { pool: key.0.clone(), backend: key.1, up: note.up, cause: note.cause.clone(), since }
    }

    fn note(&self, now: SystemTime, instant: Instant) -> (Key, HealthNote) {
        // A clock that was set back makes it new, not older than time.
        let age = Duration::from_secs(seconds(now).saturating_sub(self.since));
        let since = instant.checked_sub(age).unwrap_or(instant);
        ((self.pool.clone(), self.backend), HealthNote::new(self.up, self.cause.clone(), since, None))
    }
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl<D: Datapath> Reconciler<D> {
    /// For the next control plane.
    pub(super) fn note(&self) -> Note {
        Note {
            edge: self.config.edge.name.clone(),
            generation: self.observed.generation,
            ids: self.observed.ids.clone(),
            health: self.checking.notes.iter().map(|(key, note)| HealthMark::of(key, note)).collect(),
            tickets: Some(self.keeper.kept_keys()),
            datapath: self.datapath.note(),
        }
    }

    /// Workers keep it.
    pub(super) async fn tell_note(&mut self) {
        let note = self.note();
        self.noted = note.datapath.clone();
        // Without a worker there is nobody to keep it; the next one is given it with its first messages.
        let _ = self.worker.note(note.write()).await;
    }
}

impl Keeper {
    fn kept_keys(&self) -> KeptKeys {
        self.ticket_keys.kept(SystemTime::now(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: u32, text: &str) -> api::Note {
        api::Note { version, text: Secret::new(text.into()) }
    }

    #[test]
    fn what_the_first_release_wrote_is_read() {
        let note = Note::read(&kept(1, include_str!("note_v1.json")), "edge").unwrap();
        assert_eq!((note.generation, note.ids.id("web"), note.health.len()), (7, Some(1), 1));
        let recovered = Recovered::default().with_note(&note);
        let (key, health) = &recovered.health[0];
        assert_eq!((key.0.as_str(), health.up, health.cause.as_str()), ("app", false, "HTTP 503, 3 of 3"));
        let keys = recovered.keys(Instant::now()).unwrap();
        assert_eq!(keys.keys()[0].expose(), [1; 48]);
        assert_eq!(Note::read(&note.write(), "edge").unwrap(), note, "and written again");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let text = include_str!("note_v1.json");
        let refused = |version, text: &str, edge| Note::read(&kept(version, text), edge).unwrap_err().to_string();
        assert!(refused(2, text, "edge").contains("version 2"));
        assert!(refused(1, text, "other").contains("edge \"edge\""));
        assert!(refused(1, "{", "edge").contains("cannot be read"));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_older_than_time() {
        let mark = HealthMark {
            pool: "p".into(),
            backend: ([10, 0, 0, 1], 80).into(),
            up: true,
            cause: String::new(),
            since: u64::MAX,
        };
        let now = Instant::now();
        assert_eq!(mark.note(SystemTime::now(), now).1.since, now);
        let ancient = HealthMark { since: 0, ..mark };
        assert!(ancient.note(SystemTime::now(), now).1.since <= now);
    }
}
