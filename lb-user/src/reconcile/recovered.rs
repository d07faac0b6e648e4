//! What a start knows of the edge that was before it.

use super::HealthNote;
use super::overlay::Overlay;
use super::plan::{Observed, ServiceIds};
use super::tickets::KeptKeys;
use crate::config::Config;
use crate::health::Key;
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
}

impl Recovered {
    /// The overlay over this file, without rules that have run out.
    pub(super) fn overlay(&self, config: &Config, now: SystemTime) -> Overlay {
        let overlay = self.overlay.over(config);
        overlay.without_old_rules(now).unwrap_or(overlay)
    }

    /// What is there before the first plan: nothing but numbers.
    pub(super) fn observed(&self) -> Observed {
        Observed { generation: self.generation, ids: self.ids.clone(), ..Observed::default() }
    }
}
