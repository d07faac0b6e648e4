//! [`PoolView::choose`]: which backend is next for an [`Ask`], of those that take part and have room.

use super::backend::{Choice, grown};
use super::group::{Standing, part};
use super::outlier::{self, Outcome};
use super::queue::Takes;
use super::{PoolView, balance};
use crate::api::{BackendState, Balance};
use crate::clock::{self, Millis};
use crate::stats::Ejection;
use crate::watchdog::NEVER;
use std::net::SocketAddr;
use std::time::Duration;

/// While a backend grows, its weight is set anew so often, milliseconds.
const GROWTH_STEP: Millis = 100;

/// What a request or connection wants of its backend.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// Not these: they failed it.
    pub(crate) tried: &'a [SocketAddr],
    /// Hash of its key ([`super::key`]); none: it has none, and goes round.
    pub(crate) key: Option<u64>,
    /// This one, while it is up or draining and not left out; with no room on it, it is waited for. Otherwise as if it
    /// were not set: compare the address of what was chosen.
    pub(crate) pinned: Option<SocketAddr>,
    /// It needs a connection of its own.
    pub(crate) alone: bool,
}

impl Ask<'_> {
    pub(super) fn takes(&self) -> Takes {
        match self.pinned {
            Some(pinned) if !self.tried.contains(&pinned) => Takes::Only(pinned),
            _ if self.tried.is_empty() => Takes::Any,
            _ => Takes::Some,
        }
    }
}

/// Why there is no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// Nobody takes part, or all were tried.
    Nobody,
    /// Those that are left have no room; somebody will.
    Full,
}

/// Who takes part, as things stood.
#[derive(Default)]
pub(crate) struct Now {
    choices: Vec<Choice>,
    /// When things change by time alone.
    until: Millis,
    /// [`super::PoolState::changes`]
    changes: u64,
}

impl PoolView {
    /// The next backend. It has room now: whoever awaits nothing in between finds it there.
    pub(crate) fn choose(&self, ask: &Ask<'_>) -> Result<Choice, NoChoice> {
        let now = clock::now();
        if now >= self.now.borrow().until || self.now.borrow().changes != self.state.changes.get() {
            self.look_around(now);
        }
        if let Some(pinned) = self.pinned(ask, now) {
            return if self.has_room(pinned, ask) { Ok(pinned.clone()) } else { Err(NoChoice::Full) };
        }
        let around = self.now.borrow();
        let untried = around.choices.iter().filter(|c| !ask.tried.contains(&c.backend.address));
        let candidates = untried.clone().filter(|c| self.has_room(c, ask));
        let chance = |below| fastrand::u64(..below);
        let chosen = match (self.balance, ask.key) {
            (Balance::RoundRobin | Balance::Hash, None) | (Balance::RoundRobin, _) => balance::round_robin(candidates),
            (Balance::LeastConnections, _) => balance::least_connections(candidates),
            (Balance::LeastRequests, _) => balance::least_requests(candidates, chance),
            (Balance::PeakEwma, _) => balance::peak_ewma(candidates, now, chance),
            (Balance::Random, _) => balance::random(candidates, chance),
            (Balance::Hash, Some(key)) => balance::hash(candidates, &self.table, key, self.rules.bounded_load),
        };
        match chosen {
            Some(choice) => Ok(choice.clone()),
            None if untried.count() > 0 => Err(NoChoice::Full),
            None => Err(NoChoice::Nobody),
        }
    }

    /// Whether somebody takes part who was not tried.
    pub(crate) fn has_untried(&self, tried: &[SocketAddr], nor: SocketAddr) -> bool {
        let around = self.now.borrow();
        around.choices.iter().any(|c| c.backend.address != nor && !tried.contains(&c.backend.address))
    }

    fn pinned(&self, ask: &Ask<'_>, now: Millis) -> Option<&Choice> {
        let pinned = ask.pinned.filter(|address| !ask.tried.contains(address))?;
        let choice = self.all.iter().find(|c| c.backend.address == pinned)?;
        let state = self.standings[choice.index].state;
        let takes = matches!(state, BackendState::Up | BackendState::Draining) && !choice.backend.is_closed();
        (takes && !choice.backend.record.is_out(now)).then_some(choice)
    }

    fn has_room(&self, choice: &Choice, ask: &Ask<'_>) -> bool {
        let backend = &choice.backend;
        if backend.stats.active.get() >= choice.max_requests {
            return false;
        }
        if choice.max_connections == u64::MAX && self.limits.max_connections == u64::MAX {
            return true;
        }
        let spare = !ask.alone && backend.has_spare(self.multiplex.max_streams);
        spare || (backend.connections() < choice.max_connections && !self.is_at_connections())
    }

    /// Whether the pool has as many connections as it may.
    pub(super) fn is_at_connections(&self) -> bool {
        let all = || self.all.iter().map(|c| c.backend.connections()).sum::<u64>();
        self.limits.max_connections < u64::MAX && all() >= self.limits.max_connections
    }

    /// See anew who takes part, and by what weight.
    pub(super) fn look_around(&self, now: Millis) {
        let mut until = NEVER;
        for choice in &self.all {
            let backend = &choice.backend;
            if self.outliers.is_none() {
                backend.record.pardon();
            } else if backend.record.returns(now) {
                backend.risen.set(now);
                tracing::info!(pool = &*self.name, backend = %backend.address, "the backend takes part again");
            }
            until = until.min(backend.record.until().unwrap_or(NEVER));
        }
        let standings: Vec<Standing> = (self.standings.iter().zip(&self.all))
            .map(|(standing, choice)| Standing { out: choice.backend.record.is_out(now), ..*standing })
            .collect();
        let part = part(&standings, &self.rules);
        if self.state.stats.panic.get() != u64::from(part.panic) {
            self.state.stats.panic.set(part.panic.into());
            match part.panic {
                true => tracing::warn!(pool = &*self.name, "too few backends may be chosen: all are taken"),
                false => tracing::info!(pool = &*self.name, "enough backends may be chosen again"),
            }
        }
        let slow = clock::millis(self.rules.slow_start);
        let mut choices: Vec<Choice> = part.places.iter().map(|place| self.all[*place].clone()).collect();
        for choice in choices.iter_mut().filter(|_| self.rules.slow_start > Duration::ZERO) {
            let risen = choice.backend.risen.get();
            choice.weight = grown((choice.weight / 100) as u16, risen, slow, now);
            if risen > 0 && now < risen + slow {
                until = until.min(now + GROWTH_STEP);
            }
        }
        // Threads begin their turn at different backends, so that few requests do not all meet the first one.
        if !choices.is_empty() {
            let by = self.thread as usize % choices.len();
            choices.rotate_left(by);
        }
        *self.now.borrow_mut() = Now { choices, until, changes: self.state.changes.get() };
        self.state.queue.call_all();
    }

    /// A try on this backend ended so, after so long.
    pub(crate) fn outcome(&self, choice: &Choice, outcome: Outcome, took: Duration) {
        let now = clock::now();
        if self.balance == Balance::PeakEwma {
            choice.backend.ewma.observe(took, now);
        }
        let Some(rules) = &self.outliers else { return };
        let records = || self.all.iter().map(|c| &c.backend.record).collect::<Vec<_>>();
        if let Some(cause) = choice.backend.record.note(outcome, rules) {
            outlier::eject(&records(), choice.index, cause, rules, now).inspect(|ejected| self.ejected(ejected));
        }
        if self.state.court.is_due(now) {
            self.state.court.judge(&records(), rules, now).iter().for_each(|ejected| self.ejected(ejected));
        }
    }

    fn ejected(&self, ejected: &outlier::Ejected) {
        let backend = &self.all[ejected.place].backend;
        backend.stats.ejections.inc(ejected.cause);
        self.state.changes.set(self.state.changes.get() + 1);
        let cause = Ejection::NAMES[usize::from(ejected.cause)];
        let seconds = ejected.long / 1000;
        tracing::warn!(pool = &*self.name, backend = %backend.address, cause, seconds, "the backend is left out");
    }
}
