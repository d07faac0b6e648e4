//! Keeps one worker process alive: starts it, hands it listeners and snapshots, starts it again when it dies. The
//! listeners stand in this process, so a connection that comes in between waits and is not refused.

mod backoff;
mod handle;
mod launch;
mod process;
mod sessions;
#[cfg(test)]
mod tests;
mod totals;

pub(crate) use handle::Request;
pub use handle::{WorkerError, WorkerHandle, WorkerView};
pub use launch::{Launch, LaunchError, launch};
pub use sessions::Sessions;

use crate::datapath::Listener;
use crate::ocsp::WorkerSide;
use backoff::Backoff;
use process::Process;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::{ClearSessions, Hello, OcspAnswer, Snapshot};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use totals::Totals;

/// Between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Reports in a row that may fail to come until the worker counts as hung.
const SILENT_REPORTS: u32 = 15;
/// Answers about clients' certificates that go to the worker in one go.
const ANSWERS_AT_ONCE: usize = 32;

/// Start the first worker, and keep one alive from then on.
///
/// What it asks about clients' certificates goes to `ocsp`, and what comes from there goes to it. `sessions` are known
/// before it accepts.
pub async fn start(
    launch: Launch,
    hello: Hello,
    snapshot: Arc<Snapshot>,
    ocsp: WorkerSide,
    sessions: Sessions,
) -> Result<WorkerHandle, WorkerError> {
    let (requests, receiver) = mpsc::channel(16);
    let (view_sender, view) = watch::channel(WorkerView { sessions, ..WorkerView::default() });
    let mut supervisor = Supervisor {
        launch,
        hello,
        snapshot: Arc::clone(&snapshot),
        listeners: Vec::new(),
        process: None,
        restart_at: Instant::now(),
        backoff: Backoff::default(),
        silent: 0,
        totals: Totals::default(),
        view: view_sender,
        ocsp,
    };
    supervisor.bring_up(&snapshot).await?;
    tokio::spawn(supervisor.run(receiver));
    Ok(WorkerHandle::of(requests, view))
}

struct Supervisor {
    launch: Launch,
    hello: Hello,
    /// The last that a worker took.
    snapshot: Arc<Snapshot>,
    listeners: Vec<Listener>,
    process: Option<Process>,
    /// While there is no process: when to start one.
    restart_at: Instant,
    backoff: Backoff,
    /// Reports that did not come, in a row.
    silent: u32,
    totals: Totals,
    view: watch::Sender<WorkerView>,
    ocsp: WorkerSide,
}

impl Supervisor {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut reports = interval(REPORT_INTERVAL);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answers = Vec::new();
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Drain { grace, reply }) => {
                        self.end(grace).await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(request) => self.serve(request).await,
                    None => return self.end(Duration::ZERO).await,
                },
                error = ended(&mut self.process) => self.lost(&error).await,
                () = sleep_until(self.restart_at), if self.process.is_none() => {
                    let snapshot = Arc::clone(&self.snapshot);
                    if let Err(error) = self.bring_up(&snapshot).await {
                        self.lost(&error).await;
                    }
                }
                _ = reports.tick(), if self.process.is_some() => self.report().await,
                // A few at once, so that what the reconciler asks waits for no more than these.
                1.. = self.ocsp.answers.recv_many(&mut answers, ANSWERS_AT_ONCE), if self.process.is_some() => {
                    self.answer(answers.drain(..)).await;
                }
            }
        }
    }

    async fn serve(&mut self, request: Request) {
        match request {
            Request::Publish { snapshot, reply } => {
                let result = self.publish(snapshot).await;
                let _ = reply.send(result);
            }
            Request::Listen { listeners, reply } => {
                self.listen(listeners).await;
                let _ = reply.send(());
            }
            Request::Refresh { reply } => {
                self.report().await;
                let _ = reply.send(());
            }
            Request::ClearSessions { pool, which, reply } => {
                let _ = reply.send(self.clear_sessions(pool, which).await);
            }
            Request::Drain { .. } => {}
        }
    }

    async fn publish(&mut self, snapshot: Arc<Snapshot>) -> Result<(), WorkerError> {
        let result = match &mut self.process {
            Some(process) => process.apply(&snapshot).await,
            None => self.bring_up(&snapshot).await,
        };
        match result {
            Ok(()) => {
                self.sessions().adopt(&self.snapshot, &snapshot);
                self.snapshot = snapshot;
            }
            // It lives and serves by the last one.
            Err(WorkerError::Rejected(reason)) if self.process.is_some() => {
                return Err(WorkerError::Rejected(reason));
            }
            Err(error) => {
                self.lost(&error).await;
                return Err(error);
            }
        }
        Ok(())
    }

    fn sessions(&self) -> Sessions {
        self.view.borrow().sessions.clone()
    }

    async fn clear_sessions(&mut self, pool: String, which: ClearSessions) -> Result<u64, WorkerError> {
        if self.process.is_none() {
            let snapshot = Arc::clone(&self.snapshot);
            self.bring_up(&snapshot).await?;
        }
        let Some(process) = &mut self.process else { return Err(WorkerError::Closing) };
        let result = process.clear_sessions(pool, which).await;
        if let Err(error) = &result {
            self.lost(error).await;
        }
        result
    }

    async fn listen(&mut self, listeners: Vec<Listener>) {
        let had = std::mem::replace(&mut self.listeners, listeners);
        let Some(process) = &mut self.process else { return };
        let stands = |list: &[Listener], id: u64| list.iter().any(|listener| listener.id == id);
        let new: Vec<_> = self.listeners.iter().filter(|listener| !stands(&had, listener.id)).collect();
        let gone = had.iter().map(|listener| listener.id).filter(|id| !stands(&self.listeners, *id)).collect();
        let result = match process.listen(&new).await {
            Ok(()) => process.unlisten(gone).await,
            Err(error) => Err(error),
        };
        // The next process gets the list as it is now.
        if let Err(error) = result {
            self.lost(&error).await;
        }
    }

    async fn report(&mut self) {
        let Some(process) = &mut self.process else { return };
        match process.report().await {
            Ok(report) => {
                self.silent = 0;
                self.sessions().expire(&self.snapshot, Instant::now());
                self.totals.report(&report);
                let all = Arc::new(self.totals.all());
                self.view.send_modify(|view| view.report = all);
            }
            Err(error @ WorkerError::Deadline { .. }) => {
                self.silent += 1;
                if self.silent >= SILENT_REPORTS {
                    self.lost(&error).await;
                }
            }
            Err(error) => self.lost(&error).await,
        }
    }

    async fn answer(&mut self, answers: impl Iterator<Item = OcspAnswer>) {
        let Some(process) = &mut self.process else { return };
        for answer in answers {
            if let Err(error) = process.answer(answer).await {
                return self.lost(&error).await;
            }
        }
    }

    /// A process that serves by this snapshot on all listeners.
    async fn bring_up(&mut self, snapshot: &Snapshot) -> Result<(), WorkerError> {
        let (questions, sessions) = (self.ocsp.questions.clone(), self.sessions());
        let mut process = Process::start((self.launch)(), &self.hello, questions, sessions.clone()).await?;
        // The snapshot goes first: a worker that accepts knows its services.
        process.apply(snapshot).await?;
        let logs = self.view.borrow().logs.clone();
        process.log_to(&logs, self.hello.threads.len()).await?;
        // And where clients were before.
        for (pool, entries) in sessions.messages(Instant::now()) {
            process.restore(pool, entries).await?;
        }
        process.listen(&self.listeners.iter().collect::<Vec<_>>()).await?;
        let first = self.view.borrow().since.is_none();
        tracing::info!(pid = process.pid, generation = snapshot.generation, "worker serves");
        self.view.send_modify(|view| {
            view.pid = Some(process.pid);
            view.since = Some(process.started);
            view.restarts += u64::from(!first);
        });
        self.silent = 0;
        self.process = Some(process);
        Ok(())
    }

    /// The process is of no use any more: start another one, at once unless it keeps dying.
    async fn lost(&mut self, error: &WorkerError) {
        let lived = match self.process.take() {
            Some(mut process) => {
                process.kill().await;
                process.started.elapsed()
            }
            None => Duration::ZERO,
        };
        let wait = self.backoff.next(lived);
        self.restart_at = Instant::now() + wait;
        tracing::error!(%error, restart_in_ms = wait.as_millis() as u64, "worker lost");
        self.totals.ended();
        let all = Arc::new(self.totals.all());
        self.view.send_modify(|view| {
            view.pid = None;
            view.report = all;
            view.last_error = Some(error.to_string());
        });
    }

    async fn end(&mut self, grace: Duration) {
        if let Some(process) = self.process.take() {
            process.drain(grace).await;
        }
        self.totals.ended();
        self.view.send_modify(|view| view.pid = None);
    }
}

async fn ended(process: &mut Option<Process>) -> WorkerError {
    match process {
        Some(process) => process.ended().await,
        None => std::future::pending().await,
    }
}
