//! The real program, spoken with as the control plane does.

use super::soon;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command as Program, ExitStatus, Stdio};
use tls_worker::api::wire::{self, Receiver, Sender};
use tls_worker::api::{
    Command, Event, Hello, ListenerInfo, Report, SessionChanges, Snapshot, ThreadInfo, WIRE_VERSION,
};
use tokio::net::UnixStream;

/// A worker process; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    sender: Sender,
    receiver: Receiver,
    generation: u64,
    next_listener: u64,
    /// What it said of tables of persistence.
    pub(crate) sessions: Vec<SessionChanges>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Start the program with a control socket, and say nothing yet.
pub(crate) fn spawn() -> (Child, Sender, Receiver) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let child = Program::new(env!("CARGO_BIN_EXE_bailey-worker"))
        .arg("--allow-root")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    ours.set_nonblocking(true).unwrap();
    let (sender, receiver) = wire::split(UnixStream::from_std(ours).unwrap());
    (child, sender, receiver)
}

impl Worker {
    /// A worker with so many threads, not pinned.
    pub(crate) async fn start(threads: u32) -> Worker {
        let (child, sender, receiver) = spawn();
        let mut worker = Worker { child, sender, receiver, generation: 0, next_listener: 0, sessions: Vec::new() };
        let threads = (0..threads).map(|index| ThreadInfo { index, cpu: None }).collect();
        let log = std::env::var("WORKER_LOG").ok().or(Some("warn".into()));
        worker.send(Command::Hello(Hello { version: WIRE_VERSION, threads, threads_in_all: 0, log })).await;
        assert!(matches!(worker.event().await, Event::Ready { version: WIRE_VERSION, .. }));
        worker
    }

    pub(crate) async fn send(&mut self, command: Command) {
        self.sender.send(&command, &[]).await.unwrap();
    }

    /// The same with descriptors.
    pub(crate) async fn send_with(&mut self, command: Command, fds: &[std::os::fd::BorrowedFd<'_>]) {
        self.sender.send(&command, fds).await.unwrap();
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn event(&mut self) -> Event {
        loop {
            match soon("an event", self.receiver.receive()).await.unwrap().0 {
                Event::Sessions(changes) => self.sessions.push(changes),
                event => return event,
            }
        }
    }

    /// A listener of a thread, on a free port of this address.
    pub(crate) async fn listen_on(&mut self, thread: u32, address: &str) -> (u64, SocketAddr) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let id = self.next_listener;
        self.next_listener += 1;
        let info = ListenerInfo { id, thread, address: Some(address) };
        self.sender.send(&Command::Listen(vec![info]), &[listener.as_fd()]).await.unwrap();
        (id, address)
    }

    /// A listener of the first thread.
    pub(crate) async fn listen(&mut self) -> SocketAddr {
        self.listen_on(0, "127.0.0.1").await.1
    }

    /// Have a snapshot applied, under the next generation.
    pub(crate) async fn apply(&mut self, snapshot: &Snapshot) {
        let event = self.try_apply(snapshot).await;
        assert!(matches!(event, Event::Applied { generation } if generation == self.generation), "{event:?}");
    }

    /// Where lines of access logs go: the other ends of the pipes, one a thread.
    pub(crate) async fn log_pipes(&mut self, threads: usize) -> Vec<std::fs::File> {
        let pipes: Vec<_> = (0..threads).map(|_| rustix::pipe::pipe().unwrap()).collect();
        let fds: Vec<_> = pipes.iter().map(|(_, write)| write.as_fd()).collect();
        self.sender.send(&Command::Logs, &fds).await.unwrap();
        pipes.into_iter().map(|(read, _)| read.into()).collect()
    }

    /// What comes of a snapshot.
    pub(crate) async fn try_apply(&mut self, snapshot: &Snapshot) -> Event {
        self.generation += 1;
        let snapshot = Snapshot { generation: self.generation, ..snapshot.clone() };
        self.send(Command::Apply(Box::new(snapshot))).await;
        self.event().await
    }

    pub(crate) async fn report(&mut self) -> Report {
        self.send(Command::Report).await;
        match self.event().await {
            Event::Report(report) => *report,
            other => panic!("{other:?} instead of a report"),
        }
    }

    /// Close the control socket, as a dying control plane does.
    pub(crate) fn orphan(&mut self) {
        let (sender, receiver) = wire::split(UnixStream::pair().unwrap().0);
        (self.sender, self.receiver) = (sender, receiver);
    }

    /// Wait for the program to end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        wait(&mut self.child).await
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// No more files than these may be open from now on.
    pub(crate) fn allow_files(&self, most: u64) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit).unwrap();
    }

    /// Soft and hard limit of a resource, as /proc/PID/limits names it.
    pub(crate) fn limit(&self, name: &str) -> [String; 2] {
        let text = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let mut words = text.lines().find_map(|l| l.strip_prefix(name)).unwrap().split_whitespace();
        [(); 2].map(|()| words.next().unwrap().to_owned())
    }

    /// Bytes of one of its threads' /proc status lines, such as `NoNewPrivs`.
    pub(crate) fn status_line(&self, key: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{key}:")));
        line.unwrap_or_default().trim().to_owned()
    }
}

/// Wait for a program to end.
pub(crate) async fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    super::until("the worker ends", async || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    status.unwrap()
}
