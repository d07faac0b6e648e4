//! What the agent tells: changes of state, and what is counted.

use super::probe::{Found, Outcome};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tls_worker::api::Histogram;

/// Pool and backend.
pub type Key = (String, SocketAddr);

/// What the checks of a backend say from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Pool.
    pub pool: String,
    /// Backend.
    pub address: SocketAddr,
    /// Up or down.
    pub up: bool,
    /// For people: `HTTP 503 after 12 ms, 3 of 3`.
    pub cause: String,
}

/// Checks of a backend for one pool. The agent writes; metrics and views read. No worker thread comes by here.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Tally>);

/// What is counted of the checks of a backend.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// So many found it as it should be.
    pub good: u64,
    /// So many did not.
    pub bad: u64,
    /// So many could not be made.
    pub unable: u64,
    /// How long those took that were made.
    pub seconds: Histogram,
    /// Results in a row that speak against the state, and do not change it yet.
    pub against: u32,
    /// Why the last one could not be made; none: it was.
    pub trouble: Option<String>,
}

impl Counts {
    /// What there is so far.
    pub fn read(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Note a check; true: it could not be made, for a reason that is new.
    pub(super) fn note(&self, outcome: &Outcome, against: u32) -> bool {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tally.against = against;
        let trouble = match outcome.found {
            Found::Good => {
                tally.good += 1;
                None
            }
            Found::Bad => {
                tally.bad += 1;
                None
            }
            Found::Unable => {
                tally.unable += 1;
                Some(outcome.text.clone())
            }
        };
        if trouble.is_none() {
            tally.seconds.observe(outcome.took.as_secs_f64());
        }
        let news = trouble.is_some() && trouble != tally.trouble;
        tally.trouble = trouble;
        news
    }
}

/// How busy the agent is. It writes, the metrics read.
#[derive(Debug, Default)]
pub struct Gauges {
    pub(super) probes: AtomicU64,
    pub(super) running: AtomicU64,
    pub(super) most: AtomicU64,
    pub(super) late: AtomicU64,
}

impl Gauges {
    /// Backends that are checked, each counted once for pools that ask it the same.
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Checks that run now.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// How many may.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Checks that began more than a second after they were due.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}
