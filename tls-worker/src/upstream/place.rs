//! A place for a request on a backend: chosen at once, or waited for in the pool's queue.

use super::backend::Choice;
use super::choose::{Ask, NoChoice};
use super::pool::Active;
use super::{PoolState, PoolView};
use crate::persist::Pin;
use crate::stats::Circuit;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// Bounds of a pool on one thread. `u64::MAX`: none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_connections: u64,
    pub(crate) max_requests: u64,
    pub(crate) max_pending: u64,
    pub(crate) queue: u64,
    pub(crate) queue_timeout: Duration,
}

/// A thread's equal share of what holds for the edge, one at the least. The first threads have what is left over.
pub(crate) fn share(of: Option<u32>, thread: u32, threads: u32) -> u64 {
    let Some(of) = of else { return u64::MAX };
    let (each, over) = (of / threads.max(1), of % threads.max(1));
    u64::from((each + u32::from(thread < over)).max(1))
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Nobody takes part, or all were tried.
    Nobody,
    /// The queue is full.
    QueueFull,
    /// None came free in time.
    QueueTimeout,
    /// The pool is at a bound.
    Circuit(Circuit),
}

/// A request that counts as in flight on its pool.
pub(crate) struct Admitted {
    active: Rc<PoolState>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.active.stats.active.dec();
    }
}

impl PoolView {
    /// Let a request in, if the pool has not as many in flight as it may.
    pub(crate) fn admit(&self) -> Result<Admitted, NoPlace> {
        if self.state.stats.active.get() >= self.limits.max_requests {
            return Err(self.broken(Circuit::Requests));
        }
        self.state.stats.active.inc();
        Ok(Admitted { active: self.state.clone() })
    }

    /// Whether as many wait for a connection as may.
    pub(super) fn is_at_pending(&self) -> bool {
        self.state.waiting() + self.state.dialing.get() >= self.limits.max_pending
    }

    /// A bound was met; counted.
    pub(super) fn broken(&self, which: Circuit) -> NoPlace {
        self.state.stats.circuit.inc(which);
        NoPlace::Circuit(which)
    }

    /// A backend with room, now or when one has it: the one that the client was with, or else the pool's choice.
    pub(crate) async fn place(&self, mut ask: Ask<'_>, pin: &mut Pin) -> Result<(Choice, Active), NoPlace> {
        ask.pinned = pin.wants(self, ask.tried);
        loop {
            let (choice, active) = self.one(&ask).await?;
            match pin.took(self, choice.backend.address, ask.tried) {
                // Its client was sent elsewhere at the same time: that counts.
                Some(first) if ask.pinned != Some(first) => ask.pinned = Some(first),
                _ => return Ok((choice, active)),
            }
        }
    }

    async fn one(&self, ask: &Ask<'_>) -> Result<(Choice, Active), NoPlace> {
        if self.state.waiting() == 0 || !self.state.queue.is_before(ask.takes()) {
            match self.try_place(ask) {
                Ok(place) => return Ok(place),
                Err(NoChoice::Nobody) => return Err(NoPlace::Nobody),
                Err(NoChoice::Full) => {}
            }
        }
        // Boxed: rare, and larger than what every request has to carry.
        Box::pin(self.queued(ask)).await
    }

    fn try_place(&self, ask: &Ask<'_>) -> Result<(Choice, Active), NoChoice> {
        let choice = self.choose(ask)?;
        let active = Active::begin(&choice.backend);
        Ok((choice, active))
    }

    async fn queued(&self, ask: &Ask<'_>) -> Result<(Choice, Active), NoPlace> {
        let (state, stats) = (&self.state, &self.state.stats);
        if self.is_at_connections() {
            stats.circuit.inc(Circuit::Connections);
        }
        if state.waiting() >= self.limits.queue {
            stats.overflows.inc();
            return Err(NoPlace::QueueFull);
        }
        if self.is_at_pending() {
            return Err(self.broken(Circuit::Pending));
        }
        let began = Instant::now();
        stats.waits.inc();
        let wait = state.queue.wait(ask.takes(), || match self.try_place(ask) {
            Ok(place) => Some(Ok(place)),
            Err(NoChoice::Full) => None,
            Err(NoChoice::Nobody) => Some(Err(NoPlace::Nobody)),
        });
        let place = tokio::time::timeout(self.limits.queue_timeout, wait).await;
        stats.wait_seconds.observe(began.elapsed());
        place.unwrap_or_else(|_| {
            stats.timeouts.inc();
            Err(NoPlace::QueueTimeout)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_nobody_has_none() {
        for (of, threads) in [(10, 4), (4, 4), (1, 1), (1000, 7)] {
            let sum: u64 = (0..threads).map(|thread| share(Some(of), thread, threads)).sum();
            assert_eq!(sum, u64::from(of));
        }
        assert_eq!([0, 1, 2].map(|thread| share(Some(2), thread, 3)), [1, 1, 1]);
        assert_eq!(share(None, 0, 4), u64::MAX);
    }
}
