//! Workers that an earlier control plane left: found by the sockets it made for them.

use super::WorkerError;
use super::life::Life;
use super::meet::Places;
use crate::datapath::Listener;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tls_worker::api::wire::{self, Receiver, Sender};
use tls_worker::api::{Adopted, Command, Event, WIRE_VERSION};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// For everything that one worker has to say.
const TOLD: Duration = Duration::from_secs(5);
/// A worker may hear of its control plane's end a moment after us.
const AGAIN: Duration = Duration::from_millis(50);
/// Workers of one edge that are asked; there are as many as it has processes, and some that are draining.
const MAX_ORPHANS: usize = 256;

/// A worker without a control plane. It serves on when this is dropped.
pub struct Orphan {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) life: Life,
    pub(super) pid: u32,
    /// What it said.
    pub adopted: Adopted,
    /// What it accepts on.
    pub listeners: Vec<Listener>,
}

impl Orphan {
    /// Whether this control plane can speak with it.
    pub fn is_understood(&self) -> bool {
        self.adopted.version == WIRE_VERSION
    }

    /// For the log.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// All that there are, the one that was served last first. Sockets of dead ones are removed.
pub async fn find(places: &Places) -> Vec<Orphan> {
    let mut found = Vec::new();
    for (path, pid) in places.list().into_iter().take(MAX_ORPHANS) {
        match ask(&path).await {
            Ok(Some(orphan)) => found.push(orphan),
            Ok(None) => places.remove(pid),
            Err(error) => tracing::warn!(pid, %error, "a worker that was left is not adopted"),
        }
    }
    found.sort_by_key(|orphan| std::cmp::Reverse(orphan.adopted.generation));
    found
}

/// None: nobody is there.
async fn ask(path: &Path) -> Result<Option<Orphan>, WorkerError> {
    let deadline = Instant::now() + TOLD;
    let late = WorkerError::Deadline { what: "say who it is", after: TOLD };
    let asked = async {
        loop {
            let stream = match UnixStream::connect(path).await {
                Ok(stream) => stream,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                    return Ok(None);
                }
                Err(error) => return Err(WorkerError::Wire(error.into())),
            };
            match converse(stream).await {
                Err(WorkerError::Refused(_)) => sleep(AGAIN).await,
                result => return result.map(Some),
            }
        }
    };
    timeout_at(deadline, asked).await.unwrap_or(Err(late))
}

async fn converse(stream: UnixStream) -> Result<Orphan, WorkerError> {
    let (mut sender, mut receiver) = wire::split(stream);
    // The kernel says who speaks: a worker reads hostile bytes, and is not believed which process it is.
    receiver.ask_for_sender(true).map_err(WorkerError::Spawn)?;
    sender.send(&Command::Adopt { version: WIRE_VERSION }, &[]).await.map_err(WorkerError::Wire)?;
    let adopted = match receiver.receive().await.map_err(WorkerError::Wire)?.0 {
        Event::Adopted(adopted) => *adopted,
        Event::Refused { reason } => return Err(WorkerError::Refused(reason)),
        other => return Err(WorkerError::Refused(format!("it said {other:?}"))),
    };
    let pid = receiver.sender().unwrap_or(0);
    receiver.ask_for_sender(false).map_err(WorkerError::Spawn)?;
    let life = Life::of_stranger(pid).map_err(WorkerError::Spawn)?;
    let mut listeners = Vec::new();
    while listeners.len() < adopted.listeners {
        let (event, fds): (Event, Vec<OwnedFd>) = receiver.receive().await.map_err(WorkerError::Wire)?;
        let Event::Listeners(infos) = event else { continue };
        if infos.len() != fds.len() || infos.is_empty() {
            return Err(WorkerError::Refused("listeners and descriptors do not match".into()));
        }
        listeners.extend(infos.into_iter().zip(fds).map(|(info, socket)| Listener::told(info, socket)));
    }
    Ok(Orphan { sender, receiver, life, pid, adopted, listeners })
}
