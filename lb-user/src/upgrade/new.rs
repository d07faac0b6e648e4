//! The side that takes over.

use super::words::{HANDOVER_VERSION, HandoverError, Offer, ToNew, ToOld};
use crate::datapath::Listener;
use crate::reconcile::Note;
use crate::supervisor::Sessions;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;
use tls_worker::api::SessionChanges;
use tls_worker::api::wire::{self, Receiver, Sender, WireError};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

/// For everything that the old one has to say.
const OFFER: Duration = Duration::from_secs(20);
/// From "ready" to the word to go on.
const COMMIT: Duration = Duration::from_secs(30);
/// For a message of ours.
const SEND: Duration = Duration::from_secs(5);

/// The control plane whose place is taken.
pub struct Predecessor {
    sender: Sender,
    receiver: Receiver,
    /// Its release.
    pub release: String,
    edge: String,
    note: tls_worker::api::Note,
    /// By name.
    sockets: BTreeMap<String, OwnedFd>,
    /// What its workers accept on.
    pub listeners: Vec<Listener>,
    /// Where clients were.
    pub sessions: Sessions,
}

impl Predecessor {
    /// Hear what it has to say, over standard input.
    pub async fn meet() -> Result<Self, HandoverError> {
        let (sender, mut receiver) = wire::split(stream()?);
        let heard = timeout(OFFER, hear(&mut receiver)).await.map_err(|_| HandoverError::Late(OFFER))?;
        let (offer, sockets, listeners, sessions) = match heard {
            Ok(heard) => heard,
            Err(error) => {
                say(sender, &error.to_string()).await;
                return Err(error);
            }
        };
        let Offer { release, edge, note, .. } = offer;
        Ok(Self { sender, receiver, release, edge, note, sockets, listeners, sessions })
    }

    /// What it knows, for an edge of this name.
    pub fn note(&self, edge: &str) -> Result<Note, HandoverError> {
        if self.edge != edge {
            return Err(HandoverError::Edge { ours: edge.to_owned(), theirs: self.edge.clone() });
        }
        Ok(Note::read(&self.note, edge)?)
    }

    /// One of the edge's own sockets.
    pub fn socket(&mut self, name: &str) -> Option<OwnedFd> {
        self.sockets.remove(name)
    }

    /// Have it go on: this one ends.
    pub async fn refuse(self, reason: &str) {
        say(self.sender, reason).await;
    }

    /// Workers accept. Goes on when the edge is ours: it says so, or it is dead.
    pub async fn ready(mut self, generation: u64) -> Result<Successor, HandoverError> {
        let (pid, release) = (std::process::id(), env!("CARGO_PKG_VERSION").to_owned());
        self.sender.send(&ToOld::Ready { pid, release, generation }, &[]).await?;
        match timeout(COMMIT, self.receiver.receive()).await {
            Ok(Ok((ToNew::Commit, _))) => Ok(Successor(Some(self.sender))),
            Ok(Err(WireError::Closed | WireError::Io(_))) => {
                tracing::warn!("the old control plane is gone before its word; going on without it");
                Ok(Successor(None))
            }
            Ok(Ok(_)) => Err(HandoverError::Turn("something else than to go on")),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(HandoverError::Late(COMMIT)),
        }
    }
}

/// The edge is ours, and the old one waits to hear that it is served.
pub struct Successor(Option<Sender>);

impl Successor {
    /// It is.
    pub async fn serving(self) {
        if let Some(mut sender) = self.0
            && !matches!(timeout(SEND, sender.send(&ToOld::Serving, &[])).await, Ok(Ok(())))
        {
            tracing::warn!("the old control plane does not hear that this one serves");
        }
    }
}

/// Before there was anything to hear: this one cannot run, and says why. False: nobody started it for that.
pub async fn refuse(reason: &str) -> bool {
    match stream() {
        Ok(stream) => {
            say(wire::split(stream).0, reason).await;
            true
        }
        Err(_) => false,
    }
}

async fn say(mut sender: Sender, reason: &str) {
    let _ = timeout(SEND, sender.send(&ToOld::Refused { reason: reason.to_owned() }, &[])).await;
}

/// /dev/null takes its place, so that nothing else reads from it.
fn stream() -> Result<UnixStream, HandoverError> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| HandoverError::NoSocket)?;
    if rustix::net::sockopt::socket_domain(&stdin).ok() != Some(rustix::net::AddressFamily::UNIX) {
        return Err(HandoverError::NoSocket);
    }
    let stream = std::os::unix::net::UnixStream::from(stdin);
    let wire = |error: std::io::Error| HandoverError::Wire(error.into());
    let null = File::open("/dev/null").map_err(wire)?;
    rustix::stdio::dup2_stdin(null).map_err(|error| wire(error.into()))?;
    stream.set_nonblocking(true).map_err(wire)?;
    UnixStream::from_std(stream).map_err(wire)
}

type Heard = (Offer, BTreeMap<String, OwnedFd>, Vec<Listener>, Sessions);

pub(super) async fn hear(receiver: &mut Receiver) -> Result<Heard, HandoverError> {
    let (first, fds) = receiver.receive::<ToNew>().await?;
    let ToNew::Offer(offer) = first else { return Err(HandoverError::Turn("something else than what stands")) };
    if offer.version != HANDOVER_VERSION {
        return Err(HandoverError::Version { release: offer.release, theirs: offer.version });
    }
    let sockets = offer.sockets.iter().cloned().zip(fds).collect();
    let (mut listeners, sessions) = (Vec::new(), Sessions::default());
    loop {
        match receiver.receive::<ToNew>().await? {
            (ToNew::Listeners(infos), fds) if infos.len() == fds.len() => {
                listeners.extend(infos.into_iter().zip(fds).map(|(info, socket)| Listener::told(info, socket)));
            }
            (ToNew::Sessions { pool, entries }, _) => {
                let changes = SessionChanges { pool, set: entries, ..SessionChanges::default() };
                sessions.heed(changes, Instant::now());
            }
            (ToNew::Complete, _) => return Ok((*offer, sockets, listeners, sessions)),
            _ => return Err(HandoverError::Turn("something that belongs elsewhere")),
        }
    }
}
