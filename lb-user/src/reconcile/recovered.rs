//! What a start knows of the edge that was before it.

use super::overlay::Overlay;
use super::plan::{Observed, ServiceIds};
use crate::config::Config;
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
