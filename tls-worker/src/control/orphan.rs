//! Between two control planes: the worker serves on by what it has.

use super::door::{Door, Newcomer, user};
use super::{Control, ControlError, LAST_GRACE, commands};
use crate::api::wire::{Sender, WireError};
use crate::api::{Adopted, Event, ListenerInfo, WIRE_VERSION};
use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout};

/// Descriptors on a frame, below [`crate::api::wire::MAX_FDS`].
const LISTENERS_A_FRAME: usize = 100;
/// For what an adopter is told.
const TELL: Duration = Duration::from_secs(5);

/// What happens at the door.
pub(super) enum Knock {
    Newcomer(Box<Newcomer>),
    /// Nobody came in time.
    Alone,
}

/// The user of the process at the other end, who alone may adopt.
pub(super) fn owner(socket: &UnixStream) -> Option<u32> {
    user(socket)
}

/// Ends when somebody is at the door, or nobody came before the deadline.
pub(super) async fn knock(door: &mut Option<Door>, until: Option<Instant>) -> Knock {
    let newcomer = async {
        match door {
            Some(door) => match door.newcomers.recv().await {
                Some(newcomer) => newcomer,
                None => pending().await,
            },
            None => pending().await,
        }
    };
    let alone = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
    };
    tokio::select! {
        newcomer = newcomer => Knock::Newcomer(Box::new(newcomer)),
        () = alone => Knock::Alone,
    }
}

impl Control {
    /// A next control plane may come in by this socket.
    pub(super) fn meet(&mut self, fds: Vec<OwnedFd>, alone: Duration) {
        let mut fds = fds;
        let opened = match (fds.pop(), fds.is_empty()) {
            (Some(fd), true) => Door::open(fd, self.owner, alone),
            _ => Err(std::io::Error::other("not one descriptor")),
        };
        match opened {
            Ok(door) => self.door = Some(door),
            Err(error) => tracing::error!(%error, "no place to meet a next control plane"),
        }
    }

    /// The control socket closed, or says what nobody understands.
    pub(super) async fn lost(&mut self, error: &WireError) -> Result<(), ControlError> {
        self.received = None;
        if self.draining {
            return Ok(());
        }
        match self.door.as_ref().map(|door| door.alone).filter(|alone| !alone.is_zero()) {
            Some(alone) => {
                self.alone_until = Some(Instant::now() + alone);
                tracing::warn!(%error, alone_ms = alone.as_millis() as u64, "without a control plane; serving on");
                Ok(())
            }
            None => self.drain(LAST_GRACE, &error.to_string()).await,
        }
    }

    /// Somebody is at the door, or nobody came.
    pub(super) async fn heed(&mut self, knock: Knock) -> Result<(), ControlError> {
        let newcomer = match knock {
            Knock::Newcomer(newcomer) => *newcomer,
            Knock::Alone => {
                self.alone_until = None;
                return self.drain(LAST_GRACE, "no control plane came").await;
            }
        };
        let Newcomer { version, mut sender, receiver } = newcomer;
        if self.received.is_some() {
            let reason = "this worker has a control plane, which lives".to_owned();
            let _ = timeout(TELL, sender.send(&Event::Refused { reason }, &[])).await;
            return Ok(());
        }
        match timeout(TELL, self.introduce(&mut sender)).await {
            Ok(Ok(())) => {
                tracing::info!(version, "adopted by another control plane");
                self.alone_until = None;
                let _ = self.links.send(sender).await;
                self.received = Some(commands(receiver));
                self.sessions.tell_all(&self.compiled);
            }
            Ok(Err(error)) => tracing::warn!(%error, "not adopted"),
            Err(_) => tracing::warn!("not adopted: the other side does not read"),
        }
        Ok(())
    }

    /// Everything that the adopter needs to know.
    async fn introduce(&self, sender: &mut Sender) -> Result<(), WireError> {
        let adopted = Adopted {
            version: WIRE_VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            threads: self.threads.clone(),
            generation: self.compiled.generation,
            listeners: self.listening.len(),
            note: self.note.clone(),
        };
        sender.send(&Event::Adopted(Box::new(adopted)), &[]).await?;
        for some in self.listening.chunks(LISTENERS_A_FRAME) {
            let (infos, fds): (Vec<ListenerInfo>, Vec<_>) =
                some.iter().map(|(info, fd)| (info.clone(), fd.as_fd())).unzip();
            sender.send(&Event::Listeners(infos), &fds).await?;
        }
        Ok(())
    }
}
