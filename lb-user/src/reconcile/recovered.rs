//! What a start knows of the edge that was before it.

use super::HealthNote;
use super::agents::Agents;
use super::overlay::Overlay;
use super::plan::{Health, Intent, Observed, ServiceIds, plan};
use super::tickets::KeptKeys;
use crate::config::Config;
use crate::health::Key;
use crate::state::Book;
use crate::supervisor::Sessions;
use std::time::SystemTime;

/// Carried over from the edge before. Nothing of it, and the start is as of an edge that never was.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What operators changed, as it was kept; the file may be another one by now.
    pub overlay: Overlay,
    /// Numbers of services: the kernel's counters and tables go by them.
    pub ids: ServiceIds,
    /// The highest generation that may have been used; those after it are new.
    pub generation: u64,
    /// Where clients of pools with persistence were.
    pub sessions: Sessions,
    /// What the checks said last.
    pub health: Vec<(Key, HealthNote)>,
    /// Keys of tickets.
    pub tickets: Option<KeptKeys>,
    /// Something stands that the edge before has left: it is gone on with, and left standing when this start fails.
    pub inherited: bool,
    /// Where changes are kept from now on.
    pub book: Book,
}

impl Recovered {
    /// The overlay over this file, without rules that have run out. A file that was edited since may not go with it: then
    /// the file goes alone, as an edge that does not start serves nobody, and the reason is told.
    pub(super) fn overlay(&self, config: &Config, now: SystemTime) -> (Overlay, Option<String>) {
        let overlay = self.overlay.over(config);
        let overlay = overlay.without_old_rules(now).unwrap_or(overlay);
        let (health, agents) = (Health::default(), Agents::default());
        let possible = |overlay: &Overlay| {
            let intent = Intent { config, overlay, health: &health, agents: &agents };
            plan(intent, &self.observed())
        };
        match possible(&overlay) {
            Err(why) if possible(&Overlay::default()).is_ok() => (Overlay::default(), Some(why.to_string())),
            _ => (overlay, None),
        }
    }

    /// What is there before the first plan: nothing but numbers.
    pub(super) fn observed(&self) -> Observed {
        Observed { generation: self.generation, ids: self.ids.clone(), ..Observed::default() }
    }
}
