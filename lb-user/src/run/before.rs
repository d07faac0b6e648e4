//! What was before this start: nothing, workers that a dead control plane left, or a living one that hands over.

use super::RunError;
use crate::config::Edge;
use crate::datapath::{Inherited, Listener};
use crate::reconcile::{Note, Recovered};
use crate::supervisor::{self, Orphan, Places};
use crate::upgrade::{Predecessor, Successor};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use tls_worker::api::SessionChanges;
use tokio::time::Instant;

/// See the module.
pub(super) struct Before {
    predecessor: Option<Predecessor>,
    pub(super) orphans: Vec<Orphan>,
    note: Option<Note>,
}

impl Before {
    /// Look for it. `predecessor` lives, where there is one.
    pub(super) async fn look(edge: &Edge, places: &Places, predecessor: Option<Predecessor>) -> Result<Self, RunError> {
        if let Some(predecessor) = predecessor {
            let note = match predecessor.note(&edge.name) {
                Ok(note) => Some(note),
                Err(error) => {
                    predecessor.refuse(&error.to_string()).await;
                    return Err(error.into());
                }
            };
            tracing::info!(release = predecessor.release, "taking over from a control plane that lives");
            return Ok(Self { predecessor: Some(predecessor), orphans: Vec::new(), note });
        }
        let orphans = supervisor::find(places).await;
        for orphan in &orphans {
            let (pid, release, generation) = (orphan.pid(), &orphan.adopted.release, orphan.adopted.generation);
            tracing::warn!(pid, release, generation, "a worker serves without its control plane; going on with it");
        }
        // The one that was told last comes first.
        let read = orphans.iter().filter_map(|orphan| orphan.adopted.note.as_ref()).find_map(|note| {
            Note::read(note, &edge.name)
                .inspect_err(|error| tracing::warn!(%error, "starting without what workers were told"))
                .ok()
        });
        Ok(Self { predecessor: None, orphans, note: read })
    }

    /// One of the edge's own sockets, where it is handed over.
    pub(super) fn socket(&mut self, name: &str) -> Option<OwnedFd> {
        self.predecessor.as_mut().and_then(|predecessor| predecessor.socket(name))
    }

    /// Whether somebody lives who has the edge until we are ready.
    pub(super) fn lives(&self) -> bool {
        self.predecessor.is_some()
    }

    /// For the datapath; none: it begins with nothing.
    pub(super) fn inherited(&self) -> Option<Inherited> {
        let note = self.note.as_ref().map(|note| note.datapath.clone()).unwrap_or_default();
        if let Some(predecessor) = &self.predecessor {
            return Some(Inherited { listeners: predecessor.listeners.clone(), note, alive: true });
        }
        // A worker that drains beside another one has the same listeners.
        let mut seen = BTreeSet::new();
        let all = self.orphans.iter().flat_map(|orphan| &orphan.listeners);
        let listeners: Vec<Listener> = all.filter(|listener| seen.insert(listener.id)).cloned().collect();
        (!self.orphans.is_empty()).then_some(Inherited { listeners, note, alive: false })
    }

    /// What is known, over what was kept in files.
    pub(super) fn recovered(&self, kept: Recovered) -> Recovered {
        let mut recovered = match &self.note {
            Some(note) => kept.with_note(note),
            None => kept,
        };
        // A worker takes no generation that is not above its own.
        let served = self.orphans.iter().map(|orphan| orphan.adopted.generation).max().unwrap_or(0);
        recovered.generation = recovered.generation.max(served);
        recovered.inherited = self.lives() || !self.orphans.is_empty();
        if let Some(predecessor) = &self.predecessor {
            let now = Instant::now();
            for (pool, set) in predecessor.sessions.messages(now) {
                recovered.sessions.heed(SessionChanges { pool, set, ..SessionChanges::default() }, now);
            }
        }
        recovered
    }

    /// Workers accept. None: nobody lives who must be asked.
    pub(super) async fn ready(self, generation: u64) -> Result<Option<Successor>, RunError> {
        match self.predecessor {
            Some(predecessor) => Ok(Some(predecessor.ready(generation).await?)),
            None => Ok(None),
        }
    }

    /// This start fails; whoever lives hears why.
    pub(super) async fn refuse(self, reason: &RunError) {
        if let Some(predecessor) = self.predecessor {
            predecessor.refuse(&reason.to_string()).await;
        }
    }
}
