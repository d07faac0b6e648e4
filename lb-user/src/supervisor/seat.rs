//! A place for one worker process: its threads, who has it now, how often it was lost.

use super::backoff::Backoff;
use super::meet::Places;
use super::orphan::Orphan;
use super::process::Process;
use super::totals::Totals;
use super::{Launch, Sessions, WorkerError};
use crate::access_log::AccessLogs;
use crate::datapath::Listener;
use crate::ocsp::Questions;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::{Hello, Note, Snapshot, ThreadInfo};
use tokio::time::Instant;

/// Reports in a row that may fail to come until a worker counts as hung.
const SILENT_REPORTS: u32 = 15;

/// What all seats are filled with.
pub(super) struct Common {
    pub(super) launch: Launch,
    pub(super) log: Option<String>,
    pub(super) threads_in_all: u32,
    pub(super) places: Option<Places>,
    pub(super) alone: Duration,
    /// The last that a worker took.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) listeners: Vec<Listener>,
    pub(super) note: Option<Note>,
    pub(super) questions: Questions,
    pub(super) sessions: Sessions,
    pub(super) logs: AccessLogs,
}

/// See the module.
pub(super) struct Seat {
    pub(super) threads: Vec<ThreadInfo>,
    pub(super) process: Option<Process>,
    pub(super) adopted: bool,
    /// While there is no process: when to start one.
    pub(super) restart_at: Instant,
    /// When the last one was lost.
    lost_at: Option<Instant>,
    backoff: Backoff,
    /// Reports that did not come, in a row.
    silent: u32,
    pub(super) totals: Totals,
}

/// A process sits down.
pub(super) struct Seated {
    /// After one that was lost, so long ago.
    pub(super) gap: Option<Duration>,
}

impl Seat {
    pub(super) fn new(threads: Vec<ThreadInfo>) -> Self {
        Self {
            threads,
            process: None,
            adopted: false,
            restart_at: Instant::now(),
            lost_at: None,
            backoff: Backoff::default(),
            silent: 0,
            totals: Totals::default(),
        }
    }

    /// Whether this worker has just the threads of this seat.
    pub(super) fn fits(&self, orphan: &Orphan) -> bool {
        let key = |threads: &[ThreadInfo]| threads.iter().map(|one| (one.index, one.cpu)).collect::<Vec<_>>();
        orphan.is_understood() && key(&orphan.adopted.threads) == key(&self.threads)
    }

    /// A new process that serves by this snapshot on the seat's listeners.
    pub(super) async fn fill(&mut self, common: &Common, snapshot: &Snapshot) -> Result<Seated, WorkerError> {
        let hello = Hello {
            version: tls_worker::api::WIRE_VERSION,
            threads: self.threads.clone(),
            threads_in_all: common.threads_in_all,
            log: common.log.clone(),
        };
        let (questions, sessions) = (common.questions.clone(), common.sessions.clone());
        let mut process = Process::start((common.launch)(), &hello, questions, sessions).await?;
        // The snapshot goes first: a worker that accepts knows its services.
        process.apply(snapshot).await?;
        // And where clients were before.
        for (pool, entries) in common.sessions.messages(Instant::now()) {
            process.restore(pool, entries).await?;
        }
        self.seat(common, process, false).await
    }

    /// One that serves already.
    pub(super) async fn adopt(&mut self, common: &Common, orphan: Orphan) -> Result<Seated, WorkerError> {
        let (questions, sessions) = (common.questions.clone(), common.sessions.clone());
        let mut process = Process::adopt(orphan, common.places.clone(), questions, sessions);
        if let Err(error) = process.apply(&common.snapshot).await {
            tracing::warn!(pid = process.pid, %error, "the worker that was left does not go on; another one is started");
            tokio::spawn(process.drain(Duration::from_secs(10), pending()));
            return Err(error);
        }
        self.seat(common, process, true).await
    }

    async fn seat(&mut self, common: &Common, mut process: Process, adopted: bool) -> Result<Seated, WorkerError> {
        process.log_to(&common.logs, self.threads.len()).await?;
        if let Some(places) = &common.places {
            process.meet(places, common.alone).await?;
        }
        if let Some(note) = &common.note {
            process.note(note).await?;
        }
        // Of an adopted one, what stands is not known yet: the datapath says it next.
        if !adopted {
            process.listen(&self.listeners(common)).await?;
        }
        let gap = self.lost_at.take().map(|at| at.elapsed());
        let (pid, generation, threads) = (process.pid, process.serves, self.threads.len());
        tracing::info!(
            pid,
            generation,
            threads,
            adopted,
            gap_ms = gap.map(|gap| gap.as_millis() as u64),
            "worker serves"
        );
        self.silent = 0;
        self.adopted = adopted;
        self.process = Some(process);
        Ok(Seated { gap })
    }

    fn listeners<'a>(&self, common: &'a Common) -> Vec<&'a Listener> {
        let ours = |listener: &&Listener| self.threads.iter().any(|thread| thread.index == listener.worker);
        common.listeners.iter().filter(ours).collect()
    }

    pub(super) async fn listen(&mut self, common: &Common) -> Result<(), WorkerError> {
        let listeners = self.listeners(common);
        match &mut self.process {
            Some(process) => process.listen(&listeners).await,
            None => Ok(()),
        }
    }

    /// Whether it told what it counted. An error: it is of no use any more.
    pub(super) async fn report(&mut self) -> Result<bool, WorkerError> {
        let Some(process) = &mut self.process else { return Ok(false) };
        match process.report().await {
            Ok(report) => {
                self.silent = 0;
                self.totals.report(&report);
                Ok(true)
            }
            Err(error @ WorkerError::Deadline { .. }) => {
                self.silent += 1;
                if self.silent >= SILENT_REPORTS { Err(error) } else { Ok(false) }
            }
            Err(error) => Err(error),
        }
    }

    /// The process is of no use any more: another one is started, at once unless it keeps dying.
    pub(super) async fn lost(&mut self, error: &WorkerError) {
        let lived = match self.process.take() {
            Some(mut process) => {
                process.kill().await;
                process.started.elapsed()
            }
            None => Duration::ZERO,
        };
        let wait = self.backoff.next(lived);
        self.restart_at = Instant::now() + wait;
        self.lost_at.get_or_insert_with(Instant::now);
        self.totals.ended();
        let threads: Vec<u32> = self.threads.iter().map(|thread| thread.index).collect();
        let cause = error.cause().as_str();
        tracing::error!(%error, cause, ?threads, restart_in_ms = wait.as_millis() as u64, "worker lost");
    }
}
