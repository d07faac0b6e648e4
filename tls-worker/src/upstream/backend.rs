//! [`Backend`]: what a thread keeps of one backend of one pool, across generations. [`PoolState`]: the same of the pool.

use super::budget::Budget;
use super::dial::Dials;
use super::drain::Drain;
use super::ewma::PeakEwma;
use super::outlier::{Court, Record};
use super::pool::Kept;
use super::queue::Queue;
use super::shared::Shared;
use crate::api::BackendState;
use crate::clock::{self, Millis};
use crate::stats::{BackendStats, PoolStats};
use crate::tls::UpstreamIdentity;
use rustls_pki_types::ServerName;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub(crate) struct PoolState {
    pub(crate) name: Arc<str>,
    pub(crate) stats: PoolStats,
    pub(super) queue: Queue,
    pub(super) budget: Budget,
    pub(super) court: Court,
    /// Rises when a backend is left out or comes back.
    pub(super) changes: Cell<u64>,
    /// Connections being made.
    pub(super) dialing: Cell<u64>,
    /// Whether it was in a snapshot before.
    pub(super) known: Cell<bool>,
}

impl PoolState {
    pub(crate) fn new(name: Arc<str>) -> Self {
        PoolState { name, ..PoolState::default() }
    }

    /// Requests that wait for a backend now.
    pub(crate) fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }
}

/// See the module.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<BackendStats>,
    pub(crate) pool: Rc<PoolState>,
    /// Connections without a request, the last used at the end.
    pub(super) idle: RefCell<Vec<Kept>>,
    /// Connections that carry many requests.
    pub(super) shared: RefCell<Vec<Rc<Shared>>>,
    pub(super) dials: Dials,
    /// HTTP/2 was offered, and HTTP/1.1 was chosen.
    pub(super) speaks_http1: Cell<bool>,
    /// [`crate::tls::UpstreamIdentity::id`] that connections must have been made under; 0: clear text.
    pub(super) identity: Cell<u64>,
    /// Whether connections wait here for a next request.
    pub(super) keeps: Cell<bool>,
    pub(super) credit: Cell<i64>,
    pub(super) ewma: PeakEwma,
    pub(super) record: Record,
    /// When it began to grow to its weight; 0: it has it.
    pub(super) risen: Cell<Millis>,
    /// In the last snapshot.
    state: Cell<Option<BackendState>>,
    pub(super) drain: Drain,
    drain_timeout: Cell<Option<Duration>>,
    /// What its certificate is verified against, where its pool does not say it.
    server_name: RefCell<Option<ServerName<'static>>>,
}

impl Backend {
    pub(crate) fn new(address: SocketAddr, pool: Rc<PoolState>) -> Self {
        Backend {
            address,
            stats: Arc::default(),
            pool,
            idle: RefCell::default(),
            shared: RefCell::default(),
            dials: Dials::default(),
            speaks_http1: Cell::new(false),
            identity: Cell::new(0),
            keeps: Cell::new(true),
            credit: Cell::new(0),
            ewma: PeakEwma::default(),
            record: Record::default(),
            risen: Cell::new(0),
            state: Cell::new(None),
            drain: Drain::default(),
            drain_timeout: Cell::new(None),
            server_name: RefCell::default(),
        }
    }

    /// A new generation: connections made under another identity or name are not used any more, and none are kept where
    /// no request will come.
    pub(crate) fn meet(&self, identity: u64, server_name: Option<ServerName<'static>>, keeps: bool) {
        self.keeps.set(keeps);
        let other = *self.server_name.borrow() != server_name;
        if self.identity.replace(identity) != identity || other || !keeps {
            let dropped = std::mem::take(&mut *self.idle.borrow_mut());
            drop(dropped);
            self.shared.borrow().iter().for_each(|shared| shared.retire());
        }
        if other {
            *self.server_name.borrow_mut() = server_name;
        }
    }

    /// What it is in a new generation; None: it is in none. Where it takes no new requests, it has so long for those that
    /// it has.
    pub(crate) fn stands(self: &Rc<Self>, state: Option<BackendState>, drain_timeout: Option<Duration>) {
        let before = self.state.replace(state);
        if state == Some(BackendState::Up) && before != state {
            // In a pool that is new itself there is nobody beside whom it would have to grow.
            let grows = before.is_some() || self.pool.known.get();
            self.risen.set(if grows { clock::now() } else { 0 });
        }
        match state {
            Some(BackendState::Up | BackendState::Down) => self.drain.stop(),
            Some(BackendState::Draining | BackendState::Disabled) | None => Drain::begin(self, drain_timeout),
        }
        self.drain_timeout.set(drain_timeout);
    }

    /// It is in no snapshot any more.
    pub(crate) fn retire(self: &Rc<Self>) {
        let name = self.server_name.borrow().clone();
        self.meet(self.identity.get(), name, false);
        self.stands(None, self.drain_timeout.get());
    }

    /// The name that a handshake with it begins with.
    pub(super) fn server_name(&self, identity: &UpstreamIdentity) -> ServerName<'static> {
        identity.server_name_of(self.address, self.server_name.borrow().as_ref())
    }

    /// Whether it is left out because of how it answered.
    pub(crate) fn is_out(&self) -> bool {
        self.record.is_out(clock::now())
    }

    /// Connections open, and being made.
    pub(super) fn connections(&self) -> u64 {
        self.stats.open.get() + self.dials.count()
    }

    /// Whether one more request finds a connection that is there.
    pub(super) fn has_spare(&self, max_streams: u32) -> bool {
        !self.idle.borrow().is_empty()
            || self.shared.borrow().iter().any(|shared| shared.has_room(max_streams))
            || self.dials.has_room(max_streams)
    }
}

/// A backend of a pool in a generation.
#[derive(Clone)]
pub(crate) struct Choice {
    /// Its place in the pool.
    pub(crate) index: usize,
    /// Hundredths, that of slow start taken off.
    pub(super) weight: u32,
    pub(crate) backend: Rc<Backend>,
    /// Of this thread.
    pub(super) max_connections: u64,
    pub(super) max_requests: u64,
}

/// Weight in hundredths of a backend that came up at `risen`, if it grows: from a tenth to all of it.
pub(super) fn grown(weight: u16, risen: Millis, slow_start: Millis, now: Millis) -> u32 {
    let full = u32::from(weight) * 100;
    if risen == 0 || now >= risen + slow_start {
        return full;
    }
    let percent = 10 + 90 * now.saturating_sub(risen) / slow_start.max(1);
    u32::from(weight) * percent.min(100) as u32
}

impl super::balance::Candidate for Choice {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn active(&self) -> u64 {
        self.backend.stats.active.get()
    }

    fn credit(&self) -> &Cell<i64> {
        &self.backend.credit
    }

    fn cost(&self, now: Millis) -> Option<f64> {
        self.backend.ewma.cost(now)
    }

    fn place(&self) -> usize {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_backend_grows_steadily_from_a_tenth_to_its_weight(weight in 1u16..=256, slow in 1u64..1_000_000, risen in 1u64..1_000_000) {
            let at = |part: u64| grown(weight, risen, slow, risen + slow * part / 10);
            prop_assert_eq!(at(0), u32::from(weight) * 10);
            prop_assert!((0..10).all(|part| at(part) <= at(part + 1)));
            prop_assert_eq!(at(10), u32::from(weight) * 100);
            prop_assert_eq!(grown(weight, 0, slow, 5), u32::from(weight) * 100);
        }
    }
}
