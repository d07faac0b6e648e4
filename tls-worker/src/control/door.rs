//! Where the next control plane comes in. It listens from the beginning, so that nobody has to be told when the old
//! control plane is gone; who comes while that lives is told so by the control loop.

use crate::api::Command;
use crate::api::wire::{self, Receiver, Sender};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// For the first message of one that comes.
const FIRST: Duration = Duration::from_secs(2);
/// After an error of accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody who asked to adopt.
pub(super) struct Newcomer {
    pub(super) version: u32,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

/// The open door; closed when dropped.
pub(super) struct Door {
    /// How long the worker may be without a control plane.
    pub(super) alone: Duration,
    pub(super) newcomers: mpsc::Receiver<Newcomer>,
    task: AbortHandle,
}

impl Door {
    /// Take connections of this user, and of root.
    pub(super) fn open(socket: OwnedFd, owner: Option<u32>, alone: Duration) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(socket)?;
        let (tx, newcomers) = mpsc::channel(1);
        let task = tokio::spawn(stand(listener, owner, tx)).abort_handle();
        Ok(Self { alone, newcomers, task })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One after the other: whoever says nothing keeps the next one waiting for no longer than [`FIRST`].
async fn stand(listener: UnixListener, owner: Option<u32>, tx: mpsc::Sender<Newcomer>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let uid = user(&stream);
        if uid.is_none() || (uid != owner && uid != Some(0)) {
            tracing::warn!(?uid, "a connection of another user than the control plane's is not taken");
            continue;
        }
        let (sender, mut receiver) = wire::split(stream);
        if let Ok(Ok((Command::Adopt { version }, _))) = timeout(FIRST, receiver.receive()).await
            && tx.send(Newcomer { version, sender, receiver }).await.is_err()
        {
            return;
        }
    }
}

/// Who made the other end.
pub(super) fn user(stream: &UnixStream) -> Option<u32> {
    stream.peer_cred().ok().map(|peer| peer.uid())
}
