//! The others' hold on the supervisor: what it is asked, and what is known of the worker.

use super::Sessions;
use super::cause::{Cause, End};
use super::meet::Places;
use crate::access_log::AccessLogs;
use crate::datapath::Listener;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::wire::WireError;
use tls_worker::api::{ClearSessions, Note, Report, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// What went wrong with a worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It could not be started.
    #[error("cannot start the worker: {0}")]
    Spawn(std::io::Error),
    /// It ended.
    #[error("the worker ended: {0}; its own words stand in the log")]
    Died(End),
    /// It did not answer.
    #[error("the worker did not {what} within {after:?}")]
    Deadline {
        /// What was asked.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// It does not take the snapshot.
    #[error("the worker refused the new state: {0}")]
    Rejected(String),
    /// It does not take the first message.
    #[error("the worker refused to start: {0}")]
    Refused(String),
    /// It is of another release.
    #[error("the worker speaks version {0} of the control protocol; install bailey and bailey-worker of one release")]
    Version(u32),
    /// A message could not be sent.
    #[error(transparent)]
    Wire(WireError),
    /// The edge is going down.
    #[error("the worker is being shut down")]
    Closing,
}

impl WorkerError {
    /// Why, in a word.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Died(end) => end.cause,
            Self::Deadline { .. } => Cause::Hung,
            Self::Spawn(_) | Self::Rejected(_) | Self::Refused(_) | Self::Version(_) => Cause::Start,
            Self::Wire(_) | Self::Closing => Cause::Exit,
        }
    }
}

/// A place for one worker process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeatView {
    /// Of the living one.
    pub pid: Option<u32>,
    /// When it was started, or adopted.
    pub since: Option<Instant>,
    /// It was started by an earlier control plane.
    pub adopted: bool,
    /// Its threads.
    pub threads: Vec<u32>,
}

/// What is known of the worker.
#[derive(Debug, Clone, Default)]
pub struct WorkerView {
    /// One a process.
    pub seats: Vec<SeatView>,
    /// Processes started after the first of each seat.
    pub restarts: u64,
    /// Ends that nobody asked for, by why.
    pub ends: BTreeMap<Cause, u64>,
    /// From the end of the last one that died to where the next one served.
    pub last_gap: Option<Duration>,
    /// Counters of all processes, gauges of the living ones.
    pub report: Arc<Report>,
    /// Why the last one ended or could not be started.
    pub last_error: Option<String>,
    /// What it told of tables of persistence.
    pub sessions: Sessions,
    /// Where its access logs go.
    pub logs: AccessLogs,
}

impl WorkerView {
    /// Process id of the first that lives.
    pub fn pid(&self) -> Option<u32> {
        self.seats.iter().find_map(|seat| seat.pid)
    }

    /// Processes that live.
    pub fn living(&self) -> usize {
        self.seats.iter().filter(|seat| seat.pid.is_some()).count()
    }
}

/// Asks the supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<WorkerView>,
}

/// What the supervisor is asked.
#[derive(Debug)]
pub(crate) enum Request {
    Publish { snapshot: Arc<Snapshot>, reply: oneshot::Sender<Result<(), WorkerError>> },
    Listen { listeners: Vec<Listener>, reply: oneshot::Sender<()> },
    Refresh { reply: oneshot::Sender<()> },
    ClearSessions { pool: String, which: ClearSessions, reply: oneshot::Sender<Result<u64, WorkerError>> },
    Note { note: Note, reply: oneshot::Sender<()> },
    Drain { grace: Duration, reply: oneshot::Sender<()> },
    Meet { places: Places, reply: oneshot::Sender<()> },
    Leave { all: bool, reply: oneshot::Sender<()> },
}

impl WorkerHandle {
    pub(crate) fn of(requests: mpsc::Sender<Request>, view: watch::Receiver<WorkerView>) -> Self {
        Self { requests, view }
    }

    /// Serve by this. On an error the last snapshot stays in force.
    pub async fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), WorkerError> {
        self.ask(|reply| Request::Publish { snapshot, reply }).await?
    }

    /// Accept on these and no others.
    pub async fn listen(&self, listeners: Vec<Listener>) -> Result<(), WorkerError> {
        self.ask(|reply| Request::Listen { listeners, reply }).await
    }

    /// Have a report of now in [`Self::view`].
    pub async fn refresh(&self) -> Result<(), WorkerError> {
        self.ask(|reply| Request::Refresh { reply }).await
    }

    /// Forget entries of a pool's persistence; how many there were.
    pub async fn clear_sessions(&self, pool: String, which: ClearSessions) -> Result<u64, WorkerError> {
        self.ask(|reply| Request::ClearSessions { pool, which, reply }).await?
    }

    /// What workers are to give to a next control plane.
    pub async fn note(&self, note: Note) -> Result<(), WorkerError> {
        self.ask(|reply| Request::Note { note, reply }).await
    }

    /// From now on a next control plane finds workers here.
    pub async fn meet(&self, places: Places) -> Result<(), WorkerError> {
        self.ask(|reply| Request::Meet { places, reply }).await
    }

    /// Let go of workers that were adopted; end the others, or let go of all.
    pub async fn leave(&self, all: bool) -> Result<(), WorkerError> {
        self.ask(|reply| Request::Leave { all, reply }).await
    }

    /// End the worker, for good.
    pub async fn drain(&self, grace: Duration) -> Result<(), WorkerError> {
        self.ask(|reply| Request::Drain { grace, reply }).await
    }

    /// Where its access logs go.
    pub fn logs(&self) -> AccessLogs {
        self.view.borrow().logs.clone()
    }

    /// What is known of it.
    pub fn view(&self) -> WorkerView {
        self.view.borrow().clone()
    }

    /// Ends when [`Self::view`] has news, or never when the supervisor is gone.
    pub async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Every answer has its deadline in the supervisor, so this one needs none.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, WorkerError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| WorkerError::Closing)?;
        answer.await.map_err(|_| WorkerError::Closing)
    }
}
