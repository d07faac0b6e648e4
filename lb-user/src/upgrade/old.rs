//! The side that hands over.

use super::words::{HANDOVER_VERSION, Offer, ToNew, ToOld};
use crate::privileges;
use crate::reconcile::{Event, Handed, UpgradeError, UpgradeRequest, Upgraded};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tls_worker::api::ListenerInfo;
use tls_worker::api::wire::{self, Receiver, Sender, WireError};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// Descriptors on a frame, below [`wire::MAX_FDS`].
const LISTENERS_A_FRAME: usize = 100;
/// From the word to go on to "it serves".
const SERVING: Duration = Duration::from_secs(10);
/// To say how it ended.
const LAST: Duration = Duration::from_secs(2);

/// The edge's own sockets, by name, once more.
pub(crate) type Sockets = Vec<(&'static str, OwnedFd)>;

/// What a new control plane is started with.
pub(crate) struct Old {
    /// The program that runs, by the name it had at its start: the file may be another one by now.
    pub(crate) program: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) edge: String,
    pub(crate) sockets: Sockets,
}

impl Old {
    /// Have a new control plane take over. On an error this one goes on, and nothing has changed.
    pub(crate) async fn hand_over(
        &self,
        request: &UpgradeRequest,
        events: &mpsc::Sender<Event>,
    ) -> Result<Upgraded, UpgradeError> {
        let (reply, handed) = oneshot::channel();
        events.send(Event::HandOver { reply }).await.map_err(|_| UpgradeError::Closing)?;
        let handed = handed.await.map_err(|_| UpgradeError::Closing)?.ok_or(UpgradeError::Underway)?;
        let result = self.try_hand_over(request, handed).await;
        if result.is_err() {
            let (reply, back) = oneshot::channel();
            if events.send(Event::TakeBack { reply }).await.is_ok() {
                let _ = back.await;
            }
        }
        result
    }

    async fn try_hand_over(&self, request: &UpgradeRequest, handed: Handed) -> Result<Upgraded, UpgradeError> {
        let program = request.binary.as_deref().unwrap_or(&self.program);
        let (child, stream) = launch(program, &self.config)
            .map_err(|source| UpgradeError::Binary { path: program.to_owned(), source })?;
        let (sender, receiver) = wire::split(stream);
        let mut talk = Talk { sender, receiver };
        // Dropped first: it is killed before it can take our silence for our end.
        let mut child = Kid(Some(child));
        let result = match timeout(request.timeout, talk.until_ready(self.offer(&handed), &self.sockets, &handed)).await
        {
            Ok(Ok(upgraded)) => talk.commit().await.map(|()| upgraded),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Broken::Late(request.timeout)),
        };
        let error = match result {
            Ok(upgraded) => {
                child.let_go();
                return Ok(upgraded);
            }
            Err(Broken::Refused(reason)) => {
                let _ = timeout(LAST, child.ended()).await;
                UpgradeError::Refused(reason)
            }
            Err(Broken::Late(after)) => UpgradeError::Late(after),
            Err(Broken::Wire(error)) => match timeout(LAST, child.ended()).await {
                Ok(Some(status)) => UpgradeError::Died(status.to_string()),
                _ => UpgradeError::Died(error.to_string()),
            },
        };
        // Gone for sure before anything is taken back.
        child.end().await;
        Err(error)
    }

    fn offer(&self, handed: &Handed) -> Offer {
        Offer {
            version: HANDOVER_VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            edge: self.edge.clone(),
            note: handed.note.write(),
            sockets: self.sockets.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }
    }
}

fn launch(program: &Path, config: &Path) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut command = Command::new(program);
    command.args(["run", "--take-over", "--config"]).arg(config);
    // A group of its own, as it outlives this process.
    command.stdin(Stdio::from(OwnedFd::from(theirs))).process_group(0);
    let child = privileges::spawn_successor(command.into())?;
    ours.set_nonblocking(true)?;
    Ok((child, UnixStream::from_std(ours)?))
}

/// Killed when dropped, until it has the edge.
struct Kid(Option<Child>);

impl Kid {
    async fn ended(&mut self) -> Option<ExitStatus> {
        self.0.as_mut()?.wait().await.ok()
    }

    #[expect(clippy::disallowed_methods, reason = "it is of our own user, with what we have")]
    async fn end(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill().await;
        }
    }

    /// It outlives this process; while this one lives it is reaped by the runtime.
    fn let_go(&mut self) {
        self.0 = None;
    }
}

impl Drop for Kid {
    #[expect(clippy::disallowed_methods, reason = "it is of our own user, with what we have")]
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.start_kill();
        }
    }
}

/// Why it does not come to an end.
#[derive(Debug)]
pub(super) enum Broken {
    Refused(String),
    Late(Duration),
    Wire(WireError),
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

pub(super) struct Talk {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

impl Talk {
    /// Say everything, and wait until the other one's workers accept.
    pub(super) async fn until_ready(
        &mut self,
        offer: Offer,
        sockets: &[(&'static str, OwnedFd)],
        handed: &Handed,
    ) -> Result<Upgraded, Broken> {
        // One that ends at once has said why: that is heard even if it did not hear us.
        let told = self.tell(offer, sockets, handed).await;
        match self.receiver.receive::<ToOld>().await {
            Ok((ToOld::Ready { pid, release, generation }, _)) => told.map(|()| Upgraded { pid, release, generation }),
            Ok((ToOld::Refused { reason }, _)) => Err(Broken::Refused(reason)),
            Ok((ToOld::Serving, _)) => Err(Broken::Refused("it serves before it may".into())),
            Err(error) => Err(error.into()),
        }
    }

    async fn tell(&mut self, offer: Offer, sockets: &[(&'static str, OwnedFd)], handed: &Handed) -> Result<(), Broken> {
        let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, fd)| fd.as_fd()).collect();
        self.sender.send(&ToNew::Offer(Box::new(offer)), &fds).await?;
        for some in handed.listeners.chunks(LISTENERS_A_FRAME) {
            let infos = some.iter().map(|l| ListenerInfo { id: l.id, thread: l.worker, address: l.address }).collect();
            let fds: Vec<_> = some.iter().map(|listener| listener.socket.as_fd()).collect();
            self.sender.send(&ToNew::Listeners(infos), &fds).await?;
        }
        for (pool, entries) in handed.sessions.messages(Instant::now()) {
            self.sender.send(&ToNew::Sessions { pool, entries }, &[]).await?;
        }
        self.sender.send(&ToNew::Complete, &[]).await?;
        Ok(())
    }

    /// The edge is the other one's.
    pub(super) async fn commit(&mut self) -> Result<(), Broken> {
        let deadline = Instant::now() + SERVING;
        self.sender.send(&ToNew::Commit, &[]).await?;
        match timeout_at(deadline, self.receiver.receive::<ToOld>()).await {
            Ok(Ok((ToOld::Serving, _))) => Ok(()),
            Ok(Ok((ToOld::Refused { reason }, _))) => Err(Broken::Refused(reason)),
            Ok(Ok(_)) => Err(Broken::Refused("it says what belongs elsewhere".into())),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Broken::Late(SERVING)),
        }
    }
}
