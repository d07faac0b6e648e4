//! One worker process, from its first message to its end. Every wait has a deadline.

use super::cause::{End, memory_kills};
use super::life::Life;
use super::meet::Places;
use super::orphan::Orphan;
use super::{Sessions, WorkerError};
use crate::access_log::AccessLogs;
use crate::datapath::Listener;
use crate::ocsp::Questions;
use crate::privileges;
use std::collections::BTreeSet;
use std::future::Future;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;
use tls_worker::api::wire::{self, WireError};
use tls_worker::api::{ClearSessions, Command, Event, Hello, ListenerInfo, Note, OcspAnswer, Report, Session};
use tls_worker::api::{Snapshot, WIRE_VERSION};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// From the start to [`Event::Ready`]: a cold disk and a busy machine included.
const READY: Duration = Duration::from_secs(10);
/// From [`Command::Apply`] to its answer.
const APPLY: Duration = Duration::from_secs(10);
/// A frame is taken by a live worker at once.
const SEND: Duration = Duration::from_secs(5);
/// The worker answers [`Command::Report`] within a second.
const REPORT: Duration = Duration::from_millis(1_500);
/// Descriptors a frame, below [`wire::MAX_FDS`].
const LISTENERS_A_FRAME: usize = 100;

/// A worker process that is ready.
pub(super) struct Process {
    life: Life,
    sender: wire::Sender,
    events: mpsc::Receiver<Event>,
    reader: JoinHandle<()>,
    /// Listeners that it has.
    listening: BTreeSet<u64>,
    /// Generation that it took last.
    pub(super) serves: u64,
    /// Where it can be met.
    place: Option<Places>,
    /// What the kernel had killed for memory when it was started.
    memory_kills: Option<u64>,
    pub(super) pid: u32,
    pub(super) started: Instant,
}

impl Process {
    /// Launch, greet, and wait until its threads run.
    pub(super) async fn start(
        mut command: std::process::Command,
        hello: &Hello,
        questions: Questions,
        sessions: Sessions,
    ) -> Result<Self, WorkerError> {
        let memory_kills = memory_kills();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(WorkerError::Spawn)?;
        // A group of its own: an interrupt from the terminal is for us, and we drain it.
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).process_group(0);
        let command = tokio::process::Command::from(command);
        // The command holds the worker's end: while it stood, the worker's death would not close the socket.
        let child = privileges::spawn(command).map_err(WorkerError::Spawn)?;
        ours.set_nonblocking(true).map_err(WorkerError::Spawn)?;
        let (sender, receiver) = wire::split(UnixStream::from_std(ours).map_err(WorkerError::Spawn)?);
        let (tx, events) = mpsc::channel(16);
        let reader = tokio::spawn(read(receiver, tx, questions, sessions));
        let mut process = Self {
            pid: child.id().unwrap_or(0),
            life: Life::of_child(child),
            sender,
            events,
            reader,
            listening: BTreeSet::new(),
            serves: 0,
            place: None,
            memory_kills,
            started: Instant::now(),
        };
        process.send(&Command::Hello(hello.clone()), &[]).await?;
        process
            .wait("be ready", READY, |event| match event {
                Event::Ready { version, .. } if *version == WIRE_VERSION => Some(Ok(())),
                Event::Ready { version, .. } => Some(Err(WorkerError::Version(*version))),
                Event::Refused { reason } => Some(Err(WorkerError::Refused(reason.clone()))),
                _ => None,
            })
            .await??;
        Ok(process)
    }

    /// One that serves already.
    pub(super) fn adopt(orphan: Orphan, places: Option<Places>, questions: Questions, sessions: Sessions) -> Self {
        let Orphan { sender, receiver, mut life, pid, listeners, adopted } = orphan;
        life.take();
        let (tx, events) = mpsc::channel(16);
        Self {
            life,
            sender,
            events,
            reader: tokio::spawn(read(receiver, tx, questions, sessions)),
            listening: listeners.iter().map(|listener| listener.id).collect(),
            serves: adopted.generation,
            place: places,
            memory_kills: memory_kills(),
            pid,
            started: Instant::now(),
        }
    }

    /// Have a next control plane find it, should this one be gone.
    pub(super) async fn meet(&mut self, places: &Places, alone: Duration) -> Result<(), WorkerError> {
        let socket = match places.bind(self.pid) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(pid = self.pid, %error, "this worker will end with this process: no socket to meet it by");
                return Ok(());
            }
        };
        self.place = Some(places.clone());
        let alone_ms = u64::try_from(alone.as_millis()).unwrap_or(u64::MAX);
        self.send(&Command::Meet { alone_ms }, &[socket.as_fd()]).await
    }

    /// What it is to give to the next control plane.
    pub(super) async fn note(&mut self, note: &Note) -> Result<(), WorkerError> {
        self.send(&Command::Note(note.clone()), &[]).await
    }

    /// Let it live on when this is dropped.
    pub(super) fn let_go(mut self) {
        self.life.let_go();
        self.place = None;
    }

    /// Have every thread serve by a snapshot.
    pub(super) async fn apply(&mut self, snapshot: &Snapshot) -> Result<(), WorkerError> {
        self.send(&Command::Apply(Box::new(snapshot.clone())), &[]).await?;
        let ours = snapshot.generation;
        self.wait("take the snapshot", APPLY, |event| match event {
            Event::Applied { generation } if *generation == ours => Some(Ok(())),
            Event::Rejected { generation, reason } if *generation == ours => {
                Some(Err(WorkerError::Rejected(reason.clone())))
            }
            _ => None,
        })
        .await??;
        self.serves = ours;
        Ok(())
    }

    /// Accept on these and no others.
    pub(super) async fn listen(&mut self, listeners: &[&Listener]) -> Result<(), WorkerError> {
        let new: Vec<_> = listeners.iter().filter(|listener| !self.listening.contains(&listener.id)).collect();
        for some in new.chunks(LISTENERS_A_FRAME) {
            let infos = some.iter().map(|l| ListenerInfo { id: l.id, thread: l.worker, address: l.address }).collect();
            let fds: Vec<_> = some.iter().map(|listener| listener.socket.as_fd()).collect();
            self.send(&Command::Listen(infos), &fds).await?;
        }
        let wanted: BTreeSet<u64> = listeners.iter().map(|listener| listener.id).collect();
        let gone: Vec<u64> = self.listening.difference(&wanted).copied().collect();
        self.listening = wanted;
        if gone.is_empty() { Ok(()) } else { self.send(&Command::Unlisten(gone), &[]).await }
    }

    /// What it counted.
    pub(super) async fn report(&mut self) -> Result<Report, WorkerError> {
        self.send(&Command::Report, &[]).await?;
        let take = |event: &Event| match event {
            Event::Report(report) => Some(Report::clone(report)),
            _ => None,
        };
        self.wait("report", REPORT, take).await
    }

    /// What was found out about a client's certificate.
    pub(super) async fn answer(&mut self, answer: OcspAnswer) -> Result<(), WorkerError> {
        self.send(&Command::Ocsp(answer), &[]).await
    }

    /// Lines of access logs go here.
    pub(super) async fn log_to(&mut self, logs: &AccessLogs, threads: usize) -> Result<(), WorkerError> {
        let pipes = logs.pipes(threads).map_err(WorkerError::Spawn)?;
        let fds: Vec<_> = pipes.iter().map(|pipe| pipe.as_fd()).collect();
        self.send(&Command::Logs, &fds).await
    }

    /// Where clients were before.
    pub(super) async fn restore(&mut self, pool: String, entries: Vec<Session>) -> Result<(), WorkerError> {
        self.send(&Command::Sessions { pool, entries }, &[]).await
    }

    /// Forget where clients were; how many.
    pub(super) async fn clear_sessions(&mut self, pool: String, which: ClearSessions) -> Result<u64, WorkerError> {
        self.send(&Command::ClearSessions { pool, which }, &[]).await?;
        let take = |event: &Event| match event {
            Event::SessionsCleared { count } => Some(*count),
            _ => None,
        };
        self.wait("clear sessions", REPORT, take).await
    }

    /// Ready when the process has closed its control socket. What it says without being asked (a report that came
    /// late) is no answer to anything.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(_late) = std::task::ready!(self.events.poll_recv(cx)) {}
        Poll::Ready(())
    }

    /// Accept no more, and end within the grace, or when `cut` says so.
    pub(super) async fn drain(mut self, grace: Duration, cut: impl Future<Output = ()>) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        if self.send(&Command::Drain { grace_ms }, &[]).await.is_ok() {
            // The worker cuts what is left at the end of the grace; a second more is for that.
            let deadline = Instant::now() + grace + Duration::from_secs(1);
            tokio::select! {
                _ = timeout_at(deadline, self.life.wait()) => {}
                () = cut => {}
            }
        }
        self.kill().await;
    }

    /// End it now, and leave no zombie.
    pub(super) async fn kill(&mut self) {
        self.life.kill();
        let _ = timeout(Duration::from_secs(5), self.life.wait()).await;
    }

    async fn send(&mut self, command: &Command, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), WorkerError> {
        match timeout(SEND, self.sender.send(command, fds)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(WireError::Io(_) | WireError::Closed)) => Err(self.died().await),
            Ok(Err(e)) => Err(WorkerError::Wire(e)),
            Err(_) => Err(WorkerError::Deadline { what: "take a message", after: SEND }),
        }
    }

    async fn wait<T>(
        &mut self,
        what: &'static str,
        after: Duration,
        mut take: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T, WorkerError> {
        let deadline = Instant::now() + after;
        loop {
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => {
                    if let Some(answer) = take(&event) {
                        return Ok(answer);
                    }
                }
                Ok(None) => return Err(self.died().await),
                Err(_) => return Err(WorkerError::Deadline { what, after }),
            }
        }
    }

    /// It closed its control socket: how did it end?
    pub(super) async fn died(&mut self) -> WorkerError {
        let status = timeout(Duration::from_millis(500), self.life.wait()).await.ok().flatten();
        let now = memory_kills();
        WorkerError::Died(End::of(status, now.is_some() && now > self.memory_kills))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(place) = &self.place {
            place.remove(self.pid);
        }
    }
}

/// Reads in a task of its own, because a half-read frame cannot be taken up again. Questions of clients' certificates
/// go another way than answers: however many there are, they are in nobody's way.
async fn read(mut receiver: wire::Receiver, events: mpsc::Sender<Event>, questions: Questions, sessions: Sessions) {
    loop {
        match receiver.receive::<Event>().await {
            Ok((Event::Ocsp(query), _)) => questions.put(query),
            Ok((Event::Sessions(changes), _)) => sessions.heed(changes, Instant::now()),
            Ok((event, _)) => {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            Err(WireError::Closed | WireError::Io(_)) => return,
            Err(error) => {
                tracing::error!(%error, "worker: message not understood");
                return;
            }
        }
    }
}
