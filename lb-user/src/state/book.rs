//! The reconciler's hold on the state directory: the history in memory, and a thread that writes it down.

use super::directory::Directory;
use super::entry::Record;
use super::history::History;
use super::journal::{Found, Journal, read};
use super::medium::Medium;
use super::notes::{NotKept, Notes, StateError};
use crate::reconcile::ServiceIds;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// For a change to be written down. A disk that takes longer is no place for it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Generations that are noted ahead, so that not each of them is written.
const AHEAD: u64 = 1_000;
/// Left of these when the next are noted.
const MARGIN: u64 = 100;

/// A state directory that was read.
#[derive(Debug)]
pub struct Opened {
    /// To write on.
    pub book: Book,
    /// What it holds.
    pub found: Found,
}

/// The history, and where it is written. The default is nowhere.
#[derive(Debug, Default)]
pub struct Book {
    history: History,
    keep: usize,
    /// Ids that were noted, and up to which generation.
    noted: (ServiceIds, u64),
    disk: Option<Disk>,
    /// The directory was let go of, and is to be had again.
    reopening: bool,
}

#[derive(Debug)]
struct Disk {
    place: PathBuf,
    jobs: mpsc::Sender<Job>,
    /// Jobs that are not done.
    open: Arc<AtomicUsize>,
    notes: watch::Receiver<Notes>,
    /// A job was not done in time.
    late: bool,
}

#[derive(Debug)]
enum Job {
    Record(Arc<Record>, Reply),
    /// If the last one is of this number.
    TakeBack(u64, Reply),
    Numbers(ServiceIds, u64, Option<Reply>),
    Ready,
    Close(Reply),
}

type Reply = oneshot::Sender<io::Result<()>>;

impl Book {
    /// Read a state directory and begin to write it; none: keep the history in memory.
    ///
    /// One that cannot be written is no reason not to start: changes are refused until it can be.
    pub fn open(path: Option<&Path>, keep: usize) -> Result<Opened, StateError> {
        let Some(path) = path else {
            return Ok(Opened { book: Self { keep, ..Self::default() }, found: Found::default() });
        };
        let locked = |pid| StateError::Locked { path: path.to_owned(), pid };
        Self::over(Directory::take(path).map_err(locked)?, path, keep)
    }

    /// The same over any medium.
    pub(crate) fn over<M: Medium>(mut medium: M, path: &Path, keep: usize) -> Result<Opened, StateError> {
        let mut notes = Notes { place: Some(path.to_owned()), ..Notes::default() };
        let (bytes, readable) = match medium.read() {
            Ok(bytes) => (bytes, true),
            Err(error) => {
                tracing::error!(place = %path.display(), %error, "state directory not read; what operators changed is not in force");
                notes.trouble = Some(format!("it cannot be read ({error}); mend it, and restart"));
                (Vec::new(), false)
            }
        };
        let mut found = read(&bytes);
        if let Some((format, release)) = found.other {
            return Err(StateError::Version { path: path.to_owned(), format, release });
        }
        told(&mut notes, &found, bytes.len());
        found.history.trim(keep);
        let mut book = Self {
            history: found.history.clone(),
            keep,
            noted: (found.ids.clone(), found.generation),
            disk: None,
            reopening: false,
        };
        let jobs = match readable {
            true => Some(Journal::open(medium, &bytes, &found, keep)),
            // What lies there is not known, and must not be written over.
            false => None,
        };
        book.disk = Some(Disk::start(path, jobs, notes));
        Ok(Opened { book, found })
    }

    /// Where changes are kept; none: nowhere.
    pub fn place(&self) -> Option<&Path> {
        self.disk.as_ref().map(|disk| &*disk.place)
    }

    /// What was changed.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What is known of the directory.
    pub fn notes(&self) -> Notes {
        let mut notes = self.disk.as_ref().map(|disk| disk.notes.borrow().clone()).unwrap_or_default();
        if self.reopening {
            notes.trouble = Some("it was let go of for an upgrade that failed, and cannot be had again yet".into());
        }
        notes
    }

    /// Write a change down, before it is carried out.
    pub async fn record(&mut self, record: Record) -> Result<(), NotKept> {
        let record = Arc::new(record);
        if let Some(disk) = &mut self.disk {
            if disk.hangs() {
                return Err(NotKept { place: disk.place.clone(), why: "the disk does not answer".into() });
            }
            let shared = Arc::clone(&record);
            if let Err(why) = disk.ask(|reply| Job::Record(shared, reply)).await {
                let refused = NotKept { place: disk.place.clone(), why };
                if disk.late {
                    // It may be written yet; what is sent after it takes it back.
                    let (reply, _) = oneshot::channel();
                    disk.send(Job::TakeBack(record.number, reply));
                }
                return Err(refused);
            }
        }
        self.history.push(record);
        Ok(())
    }

    /// The last change was not made after all.
    pub async fn take_back(&mut self) {
        let Some(record) = self.history.pop() else { return };
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.ask(|reply| Job::TakeBack(record.number, reply)).await
        {
            tracing::error!(error, "a change that was not made stands in the journal until that can be written");
        }
    }

    /// The last change was made: what is older than is kept may go.
    pub fn settle(&mut self) {
        self.history.trim(self.keep);
    }

    /// Note ids and a generation in force. Nobody waits for it: a disk that fails is told by [`Self::notes`], and what
    /// could not be written is, when it can be.
    pub fn note(&mut self, ids: &ServiceIds, generation: u64) {
        let Some(disk) = &mut self.disk else { return };
        let near = generation + MARGIN > self.noted.1;
        if disk.hangs() || (self.noted.0 == *ids && !near) {
            return;
        }
        let ahead = if near { generation + AHEAD } else { self.noted.1 };
        if disk.send(Job::Numbers(ids.clone(), ahead, None)) {
            self.noted = (ids.clone(), ahead);
        }
    }

    /// The same, and wait for it: the first state has numbers that nothing tells of yet.
    pub async fn note_first(&mut self, ids: &ServiceIds, generation: u64) {
        let Some(disk) = &mut self.disk else { return };
        let noted = (ids.clone(), generation + AHEAD);
        // Why not is told by the notes, and it is tried again.
        if disk.ask(|reply| Job::Numbers(noted.0.clone(), noted.1, Some(reply))).await.is_ok() {
            self.noted = noted;
        }
    }

    /// Try again what could not be written.
    pub fn mend(&mut self) {
        if self.reopening {
            // Why not was told the first time.
            let _ = self.reopen();
            return;
        }
        if let Some(disk) = &mut self.disk
            && disk.notes.borrow().trouble.is_some()
            && disk.open.load(Ordering::Acquire) == 0
        {
            disk.send(Job::Ready);
        }
    }

    /// Let go of the directory: another process may have it. What is asked to be kept from now on is refused. This is the
    /// last generation that was used.
    pub async fn close(&mut self, generation: u64) {
        let ids = self.noted.0.clone();
        if let Some(disk) = &mut self.disk
            && disk.send(Job::Numbers(ids, generation, None))
            && let Err(error) = disk.ask(Job::Close).await
        {
            tracing::warn!(error, "state directory not closed in order");
        }
    }

    /// Take the directory again after [`Self::close`], with what is known here.
    pub fn reopen(&mut self) -> Result<(), StateError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        self.reopening = true;
        let path = disk.place.clone();
        let before = disk.notes.borrow().clone();
        let notes = Notes { place: Some(path.clone()), lost: before.lost, writes: before.writes, ..Notes::default() };
        let directory = Directory::take(&path).map_err(|pid| StateError::Locked { path: path.clone(), pid })?;
        let (ids, generation) = self.noted.clone();
        let found = Found { history: self.history.clone(), ids, generation, ..Found::default() };
        let journal = Journal::open(directory, &[], &found, self.keep);
        self.disk = Some(Disk::start(&path, Some(journal), notes));
        self.reopening = false;
        Ok(())
    }
}

impl Disk {
    fn start<M: Medium>(path: &Path, journal: Option<(Journal<M>, io::Result<()>)>, mut notes: Notes) -> Self {
        let (jobs, queue) = mpsc::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let journal = journal.map(|(journal, ready)| {
            notes.trouble = ready.err().map(|error| error.to_string());
            notes.bytes = journal.length();
            if let Some(trouble) = &notes.trouble {
                tracing::error!(place = %path.display(), trouble, "state directory not writable; changes are refused");
            }
            journal
        });
        let (told, notes) = watch::channel(notes);
        let done = Arc::clone(&open);
        let spawned = journal.map(|journal| {
            let name = "state".to_owned();
            std::thread::Builder::new().name(name).spawn(move || write(journal, &queue, &done, &told))
        });
        if let Some(Err(error)) = spawned {
            tracing::error!(%error, "no thread for the state directory; changes are refused");
        }
        Self { place: path.to_owned(), jobs, open, notes, late: false }
    }

    fn send(&self, job: Job) -> bool {
        self.open.fetch_add(1, Ordering::AcqRel);
        let sent = self.jobs.send(job).is_ok();
        if !sent {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        sent
    }

    /// Whether something asked before was not done in time, and is not done yet.
    fn hangs(&self) -> bool {
        self.late && self.open.load(Ordering::Acquire) > 0
    }

    async fn ask(&mut self, job: impl FnOnce(Reply) -> Job) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        if !self.send(job(reply)) {
            let trouble = self.notes.borrow().trouble.clone();
            return Err(trouble.unwrap_or_else(|| "it was let go of".into()));
        }
        match timeout(DEADLINE, answer).await {
            Ok(Ok(result)) => {
                self.late = false;
                result.map_err(|error| error.to_string())
            }
            Ok(Err(_)) => Err("it was let go of".into()),
            Err(_) => {
                self.late = true;
                Err(format!("the disk did not answer within {DEADLINE:?}"))
            }
        }
    }
}

/// The thread: does what it is asked, in order, and tells how the directory is.
fn write<M: Medium>(
    mut journal: Journal<M>,
    queue: &mpsc::Receiver<Job>,
    open: &AtomicUsize,
    told: &watch::Sender<Notes>,
) {
    for job in queue {
        let closing = matches!(job, Job::Close(_));
        let (counts, reply, result) = match job {
            Job::Record(record, reply) => (true, Some(reply), journal.record(record)),
            Job::TakeBack(number, reply) => (false, Some(reply), journal.take_back(number)),
            Job::Numbers(ids, generation, reply) => (true, reply, journal.numbers(ids, generation)),
            Job::Ready => (false, None, journal.ready()),
            Job::Close(reply) => (false, Some(reply), Ok(())),
        };
        told.send_modify(|notes| {
            let trouble = result.as_ref().err().map(ToString::to_string);
            if let Some(trouble) = trouble.as_ref().filter(|_| notes.trouble.is_none()) {
                tracing::error!(trouble, "state directory not writable; changes are refused");
            } else if trouble.is_none() && notes.trouble.is_some() {
                tracing::info!("state directory writable again");
            }
            notes.bytes = journal.length();
            notes.writes.0 += u64::from(counts && trouble.is_none());
            notes.writes.1 += u64::from(trouble.is_some());
            notes.trouble = trouble;
        });
        open.fetch_sub(1, Ordering::AcqRel);
        if closing {
            drop(journal);
            if let Some(reply) = reply {
                let _ = reply.send(Ok(()));
            }
            return;
        }
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }
}

/// What a reading found that is not as it should be.
fn told(notes: &mut Notes, found: &Found, bytes: usize) {
    let Some((line, damage)) = &found.damage else { return };
    let (last, lost) = (found.history.last(), bytes - found.good);
    if found.lost() {
        let what = format!(
            "line {line} of the journal was damaged ({damage}): everything after change {last} is lost, {lost} bytes; they are in journal.damaged"
        );
        tracing::error!(what, "journal");
        notes.lost = Some(what);
    } else {
        tracing::warn!(
            line,
            bytes = lost,
            last,
            "the journal's last line was half written, and never answered; it is left out"
        );
    }
}
