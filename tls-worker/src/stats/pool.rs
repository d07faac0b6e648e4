//! Counters of a pool.

use super::{ByReason, Circuit, Counter, HedgeResult, HistogramCells, RetryReason};
use crate::api::PoolReport;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PoolStats {
    /// Requests in flight.
    pub(crate) active: Counter,
    /// Requests that had to wait for a backend.
    pub(crate) waits: Counter,
    pub(crate) overflows: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) wait_seconds: HistogramCells,
    pub(crate) retries: ByReason<{ RetryReason::NAMES.len() }>,
    /// Retries and hedges that the budget did not allow.
    pub(crate) denied: Counter,
    pub(crate) hedges: ByReason<{ HedgeResult::NAMES.len() }>,
    pub(crate) circuit: ByReason<{ Circuit::NAMES.len() }>,
    /// 1 while all backends are taken, as too few may be chosen.
    pub(crate) panic: Counter,
}

impl PoolStats {
    pub(crate) fn report(&self, pool: &str, waiting: u64) -> PoolReport {
        PoolReport {
            pool: pool.to_owned(),
            active: self.active.get(),
            waiting,
            waits: self.waits.get(),
            overflows: self.overflows.get(),
            timeouts: self.timeouts.get(),
            wait_seconds: self.wait_seconds.read(),
            retries: self.retries.read(RetryReason::NAMES),
            denied: self.denied.get(),
            hedges: self.hedges.read(HedgeResult::NAMES),
            circuit: self.circuit.read(Circuit::NAMES),
            panic: self.panic.get(),
        }
    }
}
