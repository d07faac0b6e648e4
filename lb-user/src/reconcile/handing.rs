//! An upgrade as the reconciler sees it: while another control plane takes over, nothing is changed here. Either that
//! one serves, and this one leaves everything to it, or this one goes on as before.

use super::note::Note;
use super::{Event, Reconciler, Refusal};
use crate::datapath::{Datapath, Listener};
use crate::supervisor::{Places, Sessions};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// News of agents that are kept until it is clear who heeds them; more are lost, and told again by the agents in time.
const HELD: usize = 256;

/// A new control plane is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeRequest {
    /// Its program; none: the file that this one was started from, as it is now.
    #[serde(default)]
    pub binary: Option<PathBuf>,
    /// For it to become ready.
    pub timeout: Duration,
}

/// It serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// Its process id.
    pub pid: u32,
    /// Its release.
    pub release: String,
    /// What its workers serve by.
    pub generation: u64,
}

/// Why it does not; the old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// One at a time.
    #[error("an upgrade is under way already")]
    Underway,
    /// It cannot be run.
    #[error("cannot run {path}: {source}")]
    Binary {
        /// The program.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It says why not.
    #[error("the new control plane refused: {0}")]
    Refused(String),
    /// It ended.
    #[error("the new control plane ended before it was ready ({0}); its own words stand in the log")]
    Died(String),
    /// It takes too long.
    #[error("the new control plane was not ready within {0:?}, and was ended")]
    Late(Duration),
    /// The edge is going down.
    #[error("the edge is shutting down")]
    Closing,
}

/// What the next control plane goes on with.
#[derive(Debug, Clone)]
pub struct Handed {
    /// See there.
    pub note: Note,
    /// What workers accept on.
    pub listeners: Vec<Listener>,
    /// Where clients of pools with persistence were.
    pub sessions: Sessions,
}

/// A wish for an upgrade, and where its outcome goes.
pub(crate) type Wish = (UpgradeRequest, oneshot::Sender<Result<Upgraded, UpgradeError>>);

/// See the module.
#[derive(Default)]
pub(super) struct Handing {
    over: bool,
    /// Upgrades to this process, and from it that did not come off.
    pub(super) upgrades: (u64, u64),
    held: Vec<Event>,
    wishes: Option<mpsc::Sender<Wish>>,
}

impl Handing {
    /// Whether another control plane is taking over.
    pub(super) fn over(&self) -> bool {
        self.over
    }
}

impl<D: Datapath> Reconciler<D> {
    /// Where upgrades that are asked for come out.
    pub(crate) fn wishes(&mut self) -> mpsc::Receiver<Wish> {
        let (wishes, receiver) = mpsc::channel(1);
        self.handing.wishes = Some(wishes);
        receiver
    }

    pub(super) fn upgrade(&self, request: UpgradeRequest, reply: oneshot::Sender<Result<Upgraded, UpgradeError>>) {
        let Some(wishes) = &self.handing.wishes else { return };
        if let Err(refused) = wishes.try_send((request, reply)) {
            let (_, reply) = refused.into_inner();
            let _ = reply.send(Err(UpgradeError::Underway));
        }
    }

    pub(super) async fn hand_over(&mut self) -> Option<Handed> {
        if std::mem::replace(&mut self.handing.over, true) {
            return None;
        }
        tracing::info!("an upgrade begins; nothing is changed meanwhile");
        // The next one keeps changes from its start on.
        self.book.close(self.observed.generation).await;
        let sessions = self.worker.view().sessions;
        Some(Handed { note: self.note(), listeners: self.listeners.clone(), sessions })
    }

    pub(super) async fn take_back(&mut self) {
        self.handing.over = false;
        self.handing.upgrades.1 += 1;
        if let Err(error) = self.datapath.retake().await {
            tracing::error!(%error, "what the other control plane changed is not taken back");
        }
        if let Err(error) = self.book.reopen() {
            tracing::error!(%error, "changes cannot be kept");
        }
        for event in std::mem::take(&mut self.handing.held) {
            Box::pin(self.serve(event)).await;
        }
        self.catch_up().await;
    }

    /// This one is not to have the edge after all. Workers that it started end what they have begun.
    pub(crate) async fn abandon(self) {
        self.datapath.leave();
        let _ = self.worker.leave(true).await;
    }

    /// The edge is this one's: a next control plane finds its workers here.
    pub(crate) async fn taken_over(&mut self, places: Places) {
        self.handing.upgrades.0 += 1;
        let _ = self.worker.meet(places).await;
    }

    /// The other one serves: packets and new connections are its own.
    pub(super) async fn leave(self, grace: Duration, reply: oneshot::Sender<()>) {
        self.datapath.leave();
        drop(self.listeners);
        let _ = self.worker.drain(grace).await;
        let _ = reply.send(());
    }

    /// What may be served now. Changes are refused while another one takes over, and news of agents wait.
    pub(super) async fn while_handing(&mut self, event: Event) -> Option<Event> {
        if !self.handing.over {
            return Some(event);
        }
        match event {
            Event::Change { reply, .. } => drop(reply.send(Err(Refusal::Upgrading))),
            Event::Reload { reply, .. } => drop(reply.send(Err(Refusal::Upgrading))),
            Event::Refresh { reply: Some(reply) } => drop(reply.send(Err(Refusal::Upgrading))),
            Event::ClearSessions { reply, .. } => drop(reply.send(Err(Refusal::Upgrading))),
            Event::Upgrade { reply, .. } => drop(reply.send(Err(UpgradeError::Underway))),
            event @ (Event::Refresh { reply: None } | Event::Staple { .. } | Event::Resolved { .. }) => {
                if self.handing.held.len() < HELD {
                    self.handing.held.push(event);
                }
            }
            event => return Some(event),
        }
        None
    }
}
