//! Keeps worker processes alive: starts them or adopts those that an earlier control plane left, hands them listeners
//! and snapshots, starts them again when they die. The listeners stand in this process too, so a connection that comes
//! in between waits and is not refused.

mod backoff;
mod cause;
mod handle;
mod launch;
mod life;
mod meet;
mod orphan;
mod process;
mod seat;
mod sessions;
#[cfg(test)]
mod tests;
mod totals;

pub use cause::{Cause, End};
pub(crate) use handle::Request;
pub use handle::{SeatView, WorkerError, WorkerHandle, WorkerView};
pub use launch::{Launch, LaunchError, launch};
pub(crate) use life::AbortOnPanic;
pub use meet::Places;
pub use orphan::{Orphan, find};
pub use sessions::{Entry, Saved, Saving, Sessions};

use crate::access_log::AccessLogs;
use crate::ocsp::WorkerSide;
use process::Process;
use seat::{Common, Seat, Seated};
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tls_worker::api::{ClearSessions, OcspAnswer, Snapshot, ThreadInfo};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Answers about clients' certificates that go to the worker in one go.
const ANSWERS_AT_ONCE: usize = 32;

/// Who is to work, and how.
pub struct Staff {
    /// Makes a process.
    pub launch: Launch,
    /// Filter of workers' logs.
    pub log: Option<String>,
    /// All threads.
    pub threads: Vec<ThreadInfo>,
    /// Processes that they are shared out to; at the most one a thread.
    pub processes: usize,
    /// Where workers meet a next control plane; none: they end with this one.
    pub places: Option<Places>,
    /// How long they may be without one.
    pub alone: Duration,
    /// What those get that are replaced.
    pub drain: Duration,
    /// Workers that were left.
    pub orphans: Vec<Orphan>,
}

impl Staff {
    /// New processes that end with this one.
    pub fn new(launch: Launch, threads: Vec<ThreadInfo>) -> Self {
        let (alone, drain) = (Duration::ZERO, Duration::ZERO);
        Self { launch, log: None, threads, processes: 1, places: None, alone, drain, orphans: Vec::new() }
    }

    /// Threads in their order, in shares that differ by one at the most.
    fn seats(&self) -> Vec<Seat> {
        let count = self.processes.clamp(1, self.threads.len().max(1));
        let (share, more) = (self.threads.len() / count, self.threads.len() % count);
        let mut threads = self.threads.iter();
        let sizes = (0..count).map(|seat| share + usize::from(seat < more));
        sizes.map(|size| Seat::new(threads.by_ref().take(size).cloned().collect())).collect()
    }
}

/// Fill every seat, and keep it filled from then on.
///
/// What workers ask about clients' certificates goes to `ocsp`, and what comes from there goes to them. `sessions` are
/// known before a new one accepts.
pub async fn start(
    staff: Staff,
    snapshot: Arc<Snapshot>,
    ocsp: WorkerSide,
    sessions: Sessions,
) -> Result<WorkerHandle, WorkerError> {
    let (requests, receiver) = mpsc::channel(16);
    let (view, watched) = watch::channel(WorkerView::default());
    let seats = staff.seats();
    let common = Common {
        launch: staff.launch,
        log: staff.log,
        threads_in_all: staff.threads.len() as u32,
        places: staff.places,
        alone: staff.alone,
        snapshot,
        listeners: Vec::new(),
        note: None,
        questions: ocsp.questions.clone(),
        sessions,
        logs: AccessLogs::default(),
    };
    view.send_modify(|view| {
        view.sessions = common.sessions.clone();
        view.logs = common.logs.clone();
    });
    let mut supervisor = Supervisor { common, seats, replaced: Vec::new(), drain: staff.drain, view, ocsp };
    if let Err(error) = supervisor.first(staff.orphans).await {
        supervisor.leave(false);
        return Err(error);
    }
    tokio::spawn(supervisor.run(receiver));
    Ok(WorkerHandle::of(requests, watched))
}

struct Supervisor {
    common: Common,
    seats: Vec<Seat>,
    /// Workers that were left and that nobody goes on with; they end when others serve.
    replaced: Vec<Orphan>,
    drain: Duration,
    view: watch::Sender<WorkerView>,
    ocsp: WorkerSide,
}

impl Supervisor {
    async fn first(&mut self, orphans: Vec<Orphan>) -> Result<(), WorkerError> {
        let snapshot = Arc::clone(&self.common.snapshot);
        let mut orphans = orphans;
        for seat in &mut self.seats {
            if let Some(at) = orphans.iter().position(|orphan| seat.fits(orphan))
                && seat.adopt(&self.common, orphans.remove(at)).await.is_ok()
            {
                continue;
            }
            seat.fill(&self.common, &snapshot).await?;
        }
        self.replaced = orphans;
        self.show(|_| {});
        Ok(())
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut reports = interval(REPORT_INTERVAL);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answers = Vec::new();
        let _abort = AbortOnPanic;
        loop {
            let vacant = self.seats.iter().filter(|seat| seat.process.is_none()).map(|seat| seat.restart_at).min();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Drain { grace, reply }) => {
                        self.end(grace).await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(Request::Leave { all, reply }) => {
                        self.leave(all);
                        let _ = reply.send(());
                        return;
                    }
                    Some(request) => self.serve(request).await,
                    None => return self.end(Duration::ZERO).await,
                },
                seat = closed(&mut self.seats) => {
                    if let Some(process) = &mut self.seats[seat].process {
                        let error = process.died().await;
                        self.lost(seat, &error).await;
                    }
                }
                () = sleep_until(vacant.unwrap_or_else(Instant::now)), if vacant.is_some() => self.fill().await,
                _ = reports.tick(), if vacant.is_none() || self.seats.len() > 1 => self.report().await,
                // A few at once, so that what the reconciler asks waits for no more than these.
                1.. = self.ocsp.answers.recv_many(&mut answers, ANSWERS_AT_ONCE) => {
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
                self.common.listeners = listeners;
                for seat in 0..self.seats.len() {
                    // The next process gets the list as it is now.
                    if let Err(error) = self.seats[seat].listen(&self.common).await {
                        self.lost(seat, &error).await;
                    }
                }
                self.replace();
                let _ = reply.send(());
            }
            Request::Refresh { reply } => {
                self.report().await;
                let _ = reply.send(());
            }
            Request::ClearSessions { pool, which, reply } => {
                let _ = reply.send(self.clear_sessions(pool, which).await);
            }
            Request::Note { note, reply } => {
                self.common.note = Some(note.clone());
                for seat in 0..self.seats.len() {
                    let Some(process) = &mut self.seats[seat].process else { continue };
                    if let Err(error) = process.note(&note).await {
                        self.lost(seat, &error).await;
                    }
                }
                let _ = reply.send(());
            }
            Request::Meet { places, reply } => {
                self.common.places = Some(places.clone());
                for seat in 0..self.seats.len() {
                    let Some(process) = &mut self.seats[seat].process else { continue };
                    if let Err(error) = process.meet(&places, self.common.alone).await {
                        self.lost(seat, &error).await;
                    }
                }
                let _ = reply.send(());
            }
            Request::Drain { .. } | Request::Leave { .. } => {}
        }
    }

    /// The first that takes it decides for all: they are of one program.
    async fn publish(&mut self, snapshot: Arc<Snapshot>) -> Result<(), WorkerError> {
        if self.seats.iter().all(|seat| seat.process.is_none()) {
            self.fill_one(0, &snapshot).await?;
        }
        let mut taken = false;
        for seat in 0..self.seats.len() {
            let Some(process) = &mut self.seats[seat].process else { continue };
            if process.serves == snapshot.generation {
                taken = true;
                continue;
            }
            match process.apply(&snapshot).await {
                Ok(()) => taken = true,
                // It lives and serves by the last one.
                Err(error @ WorkerError::Rejected(_)) if !taken => return Err(error),
                Err(error) => {
                    self.lost(seat, &error).await;
                    if !taken {
                        return Err(error);
                    }
                }
            }
        }
        self.common.sessions.adopt(&self.common.snapshot, &snapshot);
        self.common.snapshot = snapshot;
        Ok(())
    }

    async fn clear_sessions(&mut self, pool: String, which: ClearSessions) -> Result<u64, WorkerError> {
        if self.seats.iter().all(|seat| seat.process.is_none()) {
            let snapshot = Arc::clone(&self.common.snapshot);
            self.fill_one(0, &snapshot).await?;
        }
        let mut most = 0;
        for seat in 0..self.seats.len() {
            let Some(process) = &mut self.seats[seat].process else { continue };
            match process.clear_sessions(pool.clone(), which.clone()).await {
                Ok(count) => most = most.max(count),
                Err(error) => {
                    self.lost(seat, &error).await;
                    return Err(error);
                }
            }
        }
        Ok(most)
    }

    async fn report(&mut self) {
        let mut told = false;
        for seat in 0..self.seats.len() {
            match self.seats[seat].report().await {
                Ok(more) => told |= more,
                Err(error) => self.lost(seat, &error).await,
            }
        }
        if told {
            self.common.sessions.expire(&self.common.snapshot, Instant::now());
            self.show(|_| {});
        }
    }

    async fn answer(&mut self, answers: impl Iterator<Item = OcspAnswer>) {
        for answer in answers {
            for seat in 0..self.seats.len() {
                let Some(process) = &mut self.seats[seat].process else { continue };
                if let Err(error) = process.answer(answer.clone()).await {
                    self.lost(seat, &error).await;
                }
            }
        }
    }

    /// Fill the seats whose time has come.
    async fn fill(&mut self) {
        let snapshot = Arc::clone(&self.common.snapshot);
        for seat in 0..self.seats.len() {
            if self.seats[seat].process.is_none() && self.seats[seat].restart_at <= Instant::now() {
                let _ = self.fill_one(seat, &snapshot).await;
            }
        }
    }

    async fn fill_one(&mut self, seat: usize, snapshot: &Snapshot) -> Result<(), WorkerError> {
        match self.seats[seat].fill(&self.common, snapshot).await {
            Ok(Seated { gap }) => {
                self.show(|view| {
                    view.restarts += 1;
                    view.last_gap = gap.or(view.last_gap);
                });
                Ok(())
            }
            Err(error) => {
                self.lost(seat, &error).await;
                Err(error)
            }
        }
    }

    async fn lost(&mut self, seat: usize, error: &WorkerError) {
        self.seats[seat].lost(error).await;
        self.show(|view| {
            *view.ends.entry(error.cause()).or_default() += 1;
            view.last_error = Some(error.to_string());
        });
    }

    /// Others serve: those that were left and not adopted end.
    fn replace(&mut self) {
        for orphan in self.replaced.drain(..) {
            tracing::info!(pid = orphan.pid(), grace_seconds = self.drain.as_secs(), "worker of before drains");
            let common = &self.common;
            let (questions, sessions) = (common.questions.clone(), common.sessions.clone());
            let process = Process::adopt(orphan, common.places.clone(), questions, sessions);
            tokio::spawn(process.drain(self.drain, pending()));
        }
    }

    async fn end(&mut self, grace: Duration) {
        // Whoever comes next may close them for good.
        self.common.listeners.clear();
        let processes = self.seats.iter_mut().filter_map(|seat| seat.process.take());
        futures_util::future::join_all(processes.map(|process| process.drain(grace, pending()))).await;
        self.seats.iter_mut().for_each(|seat| seat.totals.ended());
        self.show(|_| {});
    }

    /// What was adopted lives on without us. What was not knows no place to meet anybody, and drains.
    fn leave(&mut self, all: bool) {
        for seat in self.seats.iter_mut().filter(|seat| all || seat.adopted) {
            if let Some(process) = seat.process.take() {
                process.let_go();
            }
        }
    }

    fn show(&self, change: impl FnOnce(&mut WorkerView)) {
        let report = Arc::new(totals::together(self.seats.iter().map(|seat| &seat.totals)));
        let seat = |seat: &Seat| SeatView {
            pid: seat.process.as_ref().map(|process| process.pid),
            since: seat.process.as_ref().map(|process| process.started),
            adopted: seat.process.is_some() && seat.adopted,
            threads: seat.threads.iter().map(|thread| thread.index).collect(),
        };
        let seats = self.seats.iter().map(seat).collect();
        self.view.send_modify(|view| {
            view.seats = seats;
            view.report = report;
            change(view);
        });
    }
}

/// The first seat whose process has ended.
async fn closed(seats: &mut [Seat]) -> usize {
    poll_fn(|cx| {
        let ended = |seat: &mut Seat| seat.process.as_mut().is_some_and(|process| process.poll_closed(cx).is_ready());
        seats.iter_mut().position(ended).map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
