//! The control loop: takes commands from the control plane, gives them to the threads, answers.
//!
//! When the control socket closes, the control plane is dead: one that ends in order, or takes another worker, says so
//! before. The worker then serves on by what it has, and waits at the place it was given for the next control plane
//! ([`Command::Meet`]). Without such a place, when nobody came in time, or when SIGTERM or SIGINT comes, it drains with
//! [`LAST_GRACE`] and ends.

mod door;
mod link;
mod orphan;

use crate::api::wire::{self, Receiver, Sender, WireError};
use crate::api::{Command, Confinement, Event, Hello, ListenerInfo, Note, Report, Snapshot, ThreadInfo, WIRE_VERSION};
use crate::compile::Compiled;
use crate::persist::Keeper;
use crate::stats;
use crate::thread::{self, Handle, Order};
use crate::tls::Answer;
use door::Door;
use orphan::knock;
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Grace of a drain that nobody asked for by command.
pub const LAST_GRACE: Duration = Duration::from_secs(30);
/// A thread that does not take an order for so long is stuck.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// [`Command::Report`] is answered within a second.
const REPORT_TIMEOUT: Duration = Duration::from_millis(900);
/// Commands that wait here before the control plane waits too.
const QUEUE: usize = 16;
/// Events that wait for the control plane to read. Over that, threads' questions go unasked.
const EVENTS: usize = 256;
/// Between two looks at what time alone changes.
const TICK: Duration = Duration::from_secs(1);
/// At the end, how long the control plane may take to read the last ones.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// Why a worker ended otherwise than by a drain.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The control socket, before there was anything to serve.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The first command was not one this worker can begin with.
    #[error("refused to begin: {0}")]
    Refused(String),
    /// A thread is stuck or gone: the connections it had cannot be served by another one.
    #[error("worker thread {0} does not take orders; the process ends, to be started again")]
    Thread(u32),
    /// Signals cannot be waited for.
    #[error("signal handler: {0}")]
    Signal(io::Error),
}

/// Serve until drained. `begin` is told the log filter of [`Hello`] before anything else happens; reports say how the
/// process is confined.
pub async fn run(
    socket: UnixStream,
    confinement: Confinement,
    begin: impl FnOnce(Option<&str>),
) -> Result<(), ControlError> {
    let owner = orphan::owner(&socket);
    let (mut sender, mut receiver) = wire::split(socket);
    let hello = match receiver.receive().await {
        Ok((Command::Hello(hello), _)) => hello,
        Ok(_) => return refuse(sender, "the first command is not Hello".into()).await,
        Err(WireError::Json(e)) => return refuse(sender, e.to_string()).await,
        Err(e) => return Err(e.into()),
    };
    begin(hello.log.as_deref());
    for lack in &confinement.missing {
        tracing::warn!(lack, "the worker is confined less than it is meant to be");
    }
    let (events, waiting) = mpsc::channel(EVENTS);
    let threads = match start(&hello, &events) {
        Ok(threads) => threads,
        Err(reason) => return refuse(sender, reason).await,
    };
    let terminate = signal(SignalKind::terminate()).map_err(ControlError::Signal)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(ControlError::Signal)?;
    sender.send(&Event::Ready { pid: std::process::id(), version: WIRE_VERSION }, &[]).await?;
    let (orders, done) = threads.into_iter().map(|h| ((h.index, h.orders), (h.index, h.done))).unzip();
    let (links, next) = mpsc::channel(1);
    let sent = tokio::spawn(link::send(sender, waiting, next));
    let control = Control {
        confinement,
        events,
        links,
        received: Some(commands(receiver)),
        orders,
        threads: hello.threads,
        compiled: Arc::default(),
        sessions: Keeper::default(),
        listening: Vec::new(),
        note: None,
        owner,
        door: None,
        alone_until: None,
        draining: false,
    };
    let ended = control.serve(done, terminate, interrupt).await;
    // Nobody sends any more: what is left goes out, and the task ends.
    let _ = timeout(LAST_EVENTS, sent).await;
    ended
}

async fn refuse(mut sender: Sender, reason: String) -> Result<(), ControlError> {
    // The control plane may be gone: the reason is on stderr too.
    let _ = sender.send(&Event::Refused { reason: reason.clone() }, &[]).await;
    Err(ControlError::Refused(reason))
}

fn start(hello: &Hello, events: &mpsc::Sender<Event>) -> Result<Vec<Handle>, String> {
    if hello.version != WIRE_VERSION {
        return Err(format!("the control plane speaks version {}, this worker {WIRE_VERSION}", hello.version));
    }
    if hello.threads.is_empty() {
        return Err("no thread: name at least one".into());
    }
    let mut seen = HashSet::new();
    let start = |info: &crate::api::ThreadInfo| {
        if !seen.insert(info.index) {
            return Err(format!("thread {} is there twice", info.index));
        }
        thread::start(info, hello.threads_in_all.max(hello.threads.len() as u32), events.clone())
            .map_err(|e| format!("thread {}: {e}", info.index))
    };
    hello.threads.iter().map(start).collect()
}

type Received = Result<(Command, Vec<OwnedFd>), WireError>;

/// Receiving is not cancel safe, so it has a task of its own.
fn commands(mut receiver: Receiver) -> mpsc::Receiver<Received> {
    let (tx, rx) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let received = receiver.receive().await;
            let last = !matches!(received, Ok(_) | Err(WireError::Json(_)));
            if tx.send(received).await.is_err() || last {
                return;
            }
        }
    });
    rx
}

struct Control {
    confinement: Confinement,
    events: mpsc::Sender<Event>,
    /// Where a new control plane's sender goes.
    links: mpsc::Sender<Sender>,
    /// What the control plane says; none: it is gone.
    received: Option<mpsc::Receiver<Received>>,
    orders: Vec<(u32, mpsc::Sender<Order>)>,
    threads: Vec<ThreadInfo>,
    compiled: Arc<Compiled>,
    sessions: Keeper,
    /// What the threads accept on, once more, for a next control plane.
    listening: Vec<(ListenerInfo, OwnedFd)>,
    note: Option<Note>,
    /// User of the control plane.
    owner: Option<u32>,
    /// Where a next control plane comes in.
    door: Option<Door>,
    /// Without a control plane: until when.
    alone_until: Option<Instant>,
    draining: bool,
}

async fn next(received: &mut Option<mpsc::Receiver<Received>>) -> Option<Received> {
    match received {
        Some(received) => received.recv().await,
        None => std::future::pending().await,
    }
}

impl Control {
    async fn serve(
        mut self,
        done: Vec<(u32, oneshot::Receiver<()>)>,
        mut terminate: Signal,
        mut interrupt: Signal,
    ) -> Result<(), ControlError> {
        let (all_done_tx, mut all_done) = oneshot::channel();
        tokio::spawn(async move {
            for (_, done) in done {
                let _ = done.await;
            }
            let _ = all_done_tx.send(());
        });
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut all_done => return Ok(()),
                _ = terminate.recv() => self.drain(LAST_GRACE, "SIGTERM").await?,
                _ = interrupt.recv() => self.drain(LAST_GRACE, "SIGINT").await?,
                _ = ticks.tick() => {
                    self.compiled.sweep();
                    self.sessions.tick(&self.compiled, self.received.is_some().then_some(&self.events));
                }
                received = next(&mut self.received) => match received {
                    Some(Ok((command, fds))) => self.command(command, fds).await?,
                    Some(Err(WireError::Json(error))) => tracing::error!(%error, "a command was not understood"),
                    Some(Err(error)) => self.lost(&error).await?,
                    None => self.lost(&WireError::Closed).await?,
                },
                knock = knock(&mut self.door, self.alone_until) => self.heed(knock).await?,
            }
        }
    }

    async fn command(&mut self, command: Command, fds: Vec<OwnedFd>) -> Result<(), ControlError> {
        match command {
            Command::Hello(_) => tracing::error!("a second Hello is not taken"),
            Command::Listen(infos) => self.listen(infos, fds).await?,
            Command::Unlisten(ids) => {
                self.listening.retain(|(info, _)| !ids.contains(&info.id));
                for i in 0..self.orders.len() {
                    self.order(i, Order::Unlisten(ids.clone())).await?;
                }
            }
            Command::Apply(snapshot) => {
                let event = self.apply(*snapshot).await?;
                self.answer(event).await;
            }
            Command::Report => {
                let report = self.report().await;
                self.answer(Event::Report(Box::new(report))).await;
            }
            Command::Logs if fds.len() == self.orders.len() => {
                for (i, pipe) in fds.into_iter().enumerate() {
                    self.order(i, Order::Log(pipe)).await?;
                }
            }
            Command::Logs => tracing::error!(descriptors = fds.len(), "not a pipe of access logs for each thread"),
            Command::Sessions { pool, entries } => self.sessions.restore(&self.compiled, &pool, entries),
            Command::ClearSessions { pool, which } => {
                let count = self.sessions.clear(&self.compiled, &pool, &which);
                // What is gone is told before that it is.
                self.sessions.tell(&self.compiled, &self.events);
                self.answer(Event::SessionsCleared { count }).await;
            }
            Command::Ocsp(answer) => {
                let answer = Answer::from(answer);
                for i in 0..self.orders.len() {
                    self.order(i, Order::Ocsp(answer)).await?;
                }
            }
            Command::Meet { alone_ms } => self.meet(fds, Duration::from_millis(alone_ms)),
            Command::Note(note) => self.note = Some(note),
            Command::Adopt { .. } => tracing::error!("a control plane that there is adopts nothing"),
            Command::Drain { grace_ms } => self.drain(Duration::from_millis(grace_ms), "the control plane").await?,
        }
        Ok(())
    }

    async fn listen(&mut self, infos: Vec<ListenerInfo>, fds: Vec<OwnedFd>) -> Result<(), ControlError> {
        if infos.len() != fds.len() {
            tracing::error!(
                named = infos.len(),
                descriptors = fds.len(),
                "listeners and descriptors do not match; none is taken"
            );
            return Ok(());
        }
        let known: HashSet<u32> = self.orders.iter().map(|(index, _)| *index).collect();
        for info in infos.iter().filter(|i| !known.contains(&i.thread)) {
            tracing::error!(listener = info.id, thread = info.thread, "a listener is for a thread that there is not");
        }
        for (info, fd) in infos.iter().zip(&fds) {
            match fd.try_clone() {
                Ok(fd) => self.listening.push((info.clone(), fd)),
                Err(error) => tracing::error!(listener = info.id, %error, "not kept for a next control plane"),
            }
        }
        let mut listeners: Vec<_> = infos.into_iter().zip(fds.into_iter().map(std::net::TcpListener::from)).collect();
        for i in 0..self.orders.len() {
            let index = self.orders[i].0;
            let (of_it, rest): (Vec<_>, Vec<_>) = listeners.into_iter().partition(|(info, _)| info.thread == index);
            listeners = rest;
            let mut usable = Vec::new();
            for (info, listener) in of_it {
                match listener.set_nonblocking(true) {
                    Ok(()) => usable.push((info.id, listener)),
                    Err(error) => tracing::error!(listener = info.id, %error, "cannot be used"),
                }
            }
            if !usable.is_empty() {
                self.order(i, Order::Listen(usable)).await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, snapshot: Snapshot) -> Result<Event, ControlError> {
        let generation = snapshot.generation;
        let compiled = match Compiled::new(snapshot, &self.compiled) {
            Ok(compiled) => Arc::new(compiled),
            Err(error) => {
                tracing::warn!(generation, %error, "snapshot rejected");
                return Ok(Event::Rejected { generation, reason: error.to_string() });
            }
        };
        let mut answers = Vec::new();
        for i in 0..self.orders.len() {
            let (tx, rx) = oneshot::channel();
            self.order(i, Order::Apply(compiled.clone(), tx)).await?;
            answers.push((self.orders[i].0, rx));
        }
        self.compiled = compiled;
        for (index, answer) in answers {
            match timeout(ORDER_TIMEOUT, answer).await {
                Ok(Ok(())) => {}
                _ => return Err(ControlError::Thread(index)),
            }
        }
        tracing::info!(generation, "snapshot applied");
        Ok(Event::Applied { generation })
    }

    async fn report(&self) -> Report {
        let deadline = tokio::time::Instant::now() + REPORT_TIMEOUT;
        let mut answers = Vec::new();
        for (_, orders) in &self.orders {
            let (tx, rx) = oneshot::channel();
            // A thread that is busy with other orders is left out of this report.
            if orders.try_send(Order::Report(tx)).is_ok() {
                answers.push(rx);
            }
        }
        let mut parts = Vec::new();
        for answer in answers {
            if let Ok(Ok(part)) = tokio::time::timeout_at(deadline, answer).await {
                parts.push(part);
            }
        }
        let mut report = stats::sum(parts);
        self.sessions.report(&self.compiled, &mut report);
        report.confinement = Some(self.confinement.clone());
        report
    }

    async fn drain(&mut self, grace: Duration, why: &str) -> Result<(), ControlError> {
        tracing::info!(grace_ms = grace.as_millis() as u64, why, "draining");
        self.draining = true;
        // Whoever adopts finds a worker that serves. A listener that stood here would still be given connections.
        self.door = None;
        self.alone_until = None;
        self.listening.clear();
        for (_, orders) in &self.orders {
            // A thread that is done already takes no more orders.
            let _ = timeout(ORDER_TIMEOUT, orders.send(Order::Drain(grace))).await;
        }
        Ok(())
    }

    async fn order(&self, i: usize, order: Order) -> Result<(), ControlError> {
        let (index, orders) = &self.orders[i];
        match timeout(ORDER_TIMEOUT, orders.send(order)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ControlError::Thread(*index)),
        }
    }

    async fn answer(&mut self, event: Event) {
        // The task that sends ends with this one.
        let _ = self.events.send(event).await;
    }
}
