//! Connections to a backend that are being made, and who waits for them together.

use super::Backend;
use crate::stats::BackendFailure;
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// Of one backend on one thread.
#[derive(Debug, Default)]
pub(super) struct Dials {
    all: Cell<u64>,
    /// Of these, such that will carry many requests.
    many: Cell<u64>,
    /// Requests that wait for one of those, the one that makes it not counted.
    joined: Cell<u64>,
    /// Rises with every one that ended, however.
    ended: Cell<u64>,
    /// How the last one ended that failed, and which one it was.
    failed: Cell<Option<(u64, BackendFailure)>>,
    done: Notify,
}

impl Dials {
    pub(super) fn count(&self) -> u64 {
        self.all.get()
    }

    /// Whether one more request may wait for what is being made.
    pub(super) fn has_room(&self, max_streams: u32) -> bool {
        self.many.get() > 0 && self.joined.get() + self.many.get() < self.many.get() * u64::from(max_streams.max(1))
    }

    /// Wait until one ends. The error is its own.
    pub(super) async fn join(&self) -> Result<(), BackendFailure> {
        let before = self.ended.get();
        self.joined.set(self.joined.get() + 1);
        let _joined = Joined(self);
        self.done.notified().await;
        match self.failed.get() {
            Some((at, failure)) if at > before => Err(failure),
            _ => Ok(()),
        }
    }
}

struct Joined<'a>(&'a Dials);

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.0.joined.set(self.0.joined.get() - 1);
    }
}

/// One that is being made, until it is dropped.
pub(super) struct Dial {
    backend: Rc<Backend>,
    many: bool,
}

impl Dial {
    pub(super) fn begin(backend: &Rc<Backend>, many: bool) -> Self {
        let (dials, pool) = (&backend.dials, &backend.pool);
        dials.all.set(dials.all.get() + 1);
        dials.many.set(dials.many.get() + u64::from(many));
        pool.dialing.set(pool.dialing.get() + 1);
        Dial { backend: backend.clone(), many }
    }

    /// There will be no connection.
    pub(super) fn failed(&self, failure: BackendFailure) {
        let dials = &self.backend.dials;
        dials.failed.set(Some((dials.ended.get() + 1, failure)));
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        let Dial { backend, many } = self;
        backend.dials.all.set(backend.dials.all.get() - 1);
        backend.dials.many.set(backend.dials.many.get() - u64::from(*many));
        backend.dials.ended.set(backend.dials.ended.get() + 1);
        backend.pool.dialing.set(backend.pool.dialing.get() - 1);
        backend.dials.done.notify_waiters();
    }
}
