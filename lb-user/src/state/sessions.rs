//! Tables of persistence over a restart: an embedded store that is written in the background, so many entries a second,
//! and read once, before the first worker accepts. No request waits for it.
//!
//! What is in it can be had again (a client is balanced anew), so a store that cannot be read is set aside, and one that
//! cannot be written is told and tried again.

use crate::supervisor::{Entry, Saved, Sessions};
use redb::{Database, DatabaseError, ReadableTable as _, TableDefinition};
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::Pool;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Of the tables below; another one's are set aside.
const FORMAT: u64 = 1;
/// Between two writes.
const EVERY: Duration = Duration::from_secs(5);
/// For all that is stored to be read; the edge does not begin later for it.
const READ: Duration = Duration::from_secs(10);
/// Memory of the store, bytes.
const CACHE: usize = 16 << 20;

/// Format.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// By pool and key: backend, milliseconds since 1970 of the last use, what keys mean.
const ENTRIES: TableDefinition<'_, (&str, &str), (&str, u64, u32)> = TableDefinition::new("sessions");

/// The store, and what it is filled from.
#[derive(Debug)]
pub struct SessionStore {
    path: PathBuf,
    database: Option<Arc<Database>>,
    sessions: Sessions,
    /// Entries a second.
    rate: usize,
}

impl SessionStore {
    /// Open the one in a state directory, and read it into `sessions`.
    pub async fn open(state: &Path, rate: u32, pools: &[Pool], sessions: &Sessions) -> Self {
        sessions.save(pools);
        let path = state.join("sessions.redb");
        let (place, table, pools) = (path.clone(), sessions.clone(), pools.to_vec());
        let reading = tokio::task::spawn_blocking(move || {
            let database = open(&place)?;
            load(&database, &pools, &table)?;
            Ok::<_, Unusable>(database)
        });
        let database = match timeout(READ, reading).await {
            Ok(Ok(Ok(database))) => Some(database),
            Ok(Ok(Err(Unusable::Taken))) => None,
            Ok(Ok(Err(Unusable::Disk(why)))) => {
                tracing::warn!(why, "sessions are not kept over a restart until they can be written");
                None
            }
            // A broken store may also end in a panic of the library.
            Ok(Ok(Err(Unusable::Broken(why)))) => set_aside(&path, &why),
            Ok(Err(error)) => set_aside(&path, &error.to_string()),
            Err(_) => {
                tracing::warn!(?READ, "stored sessions not read in time; those that were not are balanced anew");
                None
            }
        };
        tracing::info!(loaded = sessions.saving().loaded, "sessions of before");
        Self { path, database: database.map(Arc::new), sessions: sessions.clone(), rate: rate as usize }
    }

    /// Write what changes, until told to end; then what is left, once.
    pub async fn run(mut self, mut end: oneshot::Receiver<()>) {
        let most = self.rate.saturating_mul(EVERY.as_secs() as usize);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            let last = tokio::select! {
                _ = ticks.tick() => false,
                _ = &mut end => true,
            };
            let entries = self.sessions.unsaved(if last { usize::MAX } else { most });
            if !entries.is_empty() {
                let result = self.write(&entries).await;
                self.sessions.saved(entries, result.is_ok());
                match result {
                    Err(why) if !told => tracing::warn!(why, "sessions not saved; it is tried again"),
                    Ok(()) if told => tracing::info!("sessions are saved again"),
                    _ => {}
                }
                told = self.database.is_none();
            }
            if last {
                return;
            }
        }
    }

    async fn write(&mut self, entries: &[Saved]) -> Result<(), String> {
        let (database, path) = (self.database.take(), self.path.clone());
        let entries = entries.to_vec();
        let writing = tokio::task::spawn_blocking(move || {
            let database = match database {
                Some(database) => database,
                None => Arc::new(open(&path).map_err(|error| error.to_string())?),
            };
            commit(&database, &entries).map_err(|error| error.to_string())?;
            Ok::<_, String>(database)
        });
        // What failed is opened anew: the library takes nothing more after an error of the disk.
        self.database = Some(writing.await.map_err(|error| error.to_string())??);
        Ok(())
    }
}

/// Why a store is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// Another process has it: the edge before this one, which is about to end.
    #[error("another process has it")]
    Taken,
    #[error("{0}")]
    Disk(String),
    #[error("{0}")]
    Broken(String),
}

impl From<redb::Error> for Unusable {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::Taken,
            redb::Error::Io(ref source) if source.kind() != std::io::ErrorKind::InvalidData => {
                Self::Disk(error.to_string())
            }
            error => Self::Broken(error.to_string()),
        }
    }
}

impl From<DatabaseError> for Unusable {
    fn from(error: DatabaseError) -> Self {
        redb::Error::from(error).into()
    }
}

fn open(path: &Path) -> Result<Database, Unusable> {
    let disk = |error: std::io::Error| Unusable::Disk(error.to_string());
    if let Some(state) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(disk)?;
    }
    let mut options = OpenOptions::new();
    // Whom clients are known as is nobody else's business.
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(disk)?;
    let database = Database::builder().set_cache_size(CACHE).create_file(file)?;
    let write = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut meta = write.open_table(META).map_err(redb::Error::from)?;
        let format = meta.get("format").map_err(redb::Error::from)?.map(|format| format.value());
        match format {
            None => drop(meta.insert("format", FORMAT).map_err(redb::Error::from)?),
            Some(FORMAT) => {}
            Some(other) => {
                return Err(Unusable::Broken(format!("it is of format {other}, this release reads {FORMAT}")));
            }
        }
        write.open_table(ENTRIES).map_err(redb::Error::from)?;
    }
    write.commit().map_err(redb::Error::from)?;
    Ok(database)
}

fn load(database: &Database, pools: &[Pool], sessions: &Sessions) -> Result<(), Unusable> {
    let read = database.begin_read().map_err(redb::Error::from)?;
    let table = read.open_table(ENTRIES).map_err(redb::Error::from)?;
    let mut broken = None;
    let entries = table.iter().map_err(redb::Error::from)?.map_while(|row| match row {
        Ok((key, value)) => {
            let ((pool, key), (backend, used_ms, kind)) = (key.value(), value.value());
            // One that is no address stands for no backend, and is removed as one of a pool that is gone.
            let backend = backend.parse().ok();
            let kind = if backend.is_some() { kind } else { 0 };
            let backend = backend.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
            Some((pool.to_owned(), key.to_owned(), Entry { backend, used_ms, kind }))
        }
        Err(error) => {
            broken = Some(error);
            None
        }
    });
    sessions.load(pools, entries);
    broken.map_or(Ok(()), |error| Err(redb::Error::from(error).into()))
}

fn commit(database: &Database, entries: &[Saved]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(ENTRIES)?;
        for Saved { pool, key, now } in entries {
            let place = (pool.as_str(), key.as_str());
            match now {
                Some(Entry { backend, used_ms, kind }) => {
                    drop(table.insert(place, (backend.to_string().as_str(), *used_ms, *kind))?);
                }
                None => drop(table.remove(place)?),
            }
        }
    }
    write.commit()?;
    Ok(())
}

/// Have it out of the way, and begin a new one.
fn set_aside(path: &Path, why: &str) -> Option<Database> {
    let aside = path.with_extension("redb.damaged");
    tracing::error!(why, aside = %aside.display(), "stored sessions cannot be read; they are set aside, and clients balanced anew");
    std::fs::rename(path, &aside).ok()?;
    open(path).inspect_err(|error| tracing::warn!(%error, "sessions are not saved")).ok()
}
