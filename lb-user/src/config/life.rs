//! The keys of `[edge]` about processes: how many workers, and how long those without a control plane, or with a
//! successor, go on.

use super::model::Life;
use super::problem::{Problem, Problems};
use super::section::Section;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Life {
    fn default() -> Self {
        Self { workers: 1, alone: DAY, drain: Duration::from_secs(60) }
    }
}

/// With so many threads.
pub(super) fn life(section: &mut Section<'_>, p: &mut Problems, threads: usize) -> Life {
    let default = Life::default();
    let workers = section.integer(p, "worker_processes", 1..=256).unwrap_or(default.workers);
    if workers as usize > threads && threads > 0 {
        p.push(
            Problem::error(section.span_of("worker_processes"), format!("{workers} processes, and {threads} threads"))
                .help("a process needs a thread: write fewer, or name more `cpus`"),
        );
    }
    Life {
        workers,
        alone: section.duration(p, "orphan_timeout", Duration::ZERO..=30 * DAY).unwrap_or(default.alone),
        drain: section.duration(p, "drain_timeout", Duration::from_secs(1)..=DAY).unwrap_or(default.drain),
    }
}
