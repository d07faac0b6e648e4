//! The end of a backend's work. One that gets no new requests (it drains, is disabled, or is in no snapshot any more)
//! has a time for what it has; what is left then is cut: requests that wait for their answer may go to another
//! backend, bodies break off, tunnels close.

use super::{Backend, UpState};
use crate::clock::{self, Millis};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Of one backend on one thread.
#[derive(Default)]
pub(super) struct Drain {
    /// When it began to drain; 0: it does not.
    since: Cell<Millis>,
    /// When what is left is cut; 0: never.
    ends: Cell<Millis>,
    timer: RefCell<Option<AbortHandle>>,
    /// Its time is over: it takes nothing.
    closed: Cell<bool>,
    cut: Notify,
    /// Connections of HTTP/1.1, whatever is on them.
    whole: RefCell<HashMap<u64, (Arc<UpState>, AbortHandle)>>,
    next: Cell<u64>,
}

impl Drain {
    /// Whether its time is over.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Until what is left is cut, milliseconds; 0: it does not drain, or its time is over.
    pub(super) fn left(&self) -> Millis {
        match self.ends.get() {
            0 => 0,
            ends => ends.saturating_sub(clock::now()),
        }
    }

    /// It takes requests again.
    pub(super) fn stop(&self) {
        self.since.set(0);
        self.set_timer(None, 0);
        self.closed.set(false);
    }

    /// It takes no new requests since a while, or from now on, and has so long in all; None: as long as it takes.
    pub(super) fn begin(backend: &Rc<Backend>, time: Option<Duration>) {
        let drain = &backend.drain;
        if drain.since.get() == 0 {
            drain.since.set(clock::now());
        }
        let ends = time.map_or(0, |time| (drain.since.get() + clock::millis(time)).max(1));
        if drain.closed.get() || drain.ends.get() == ends {
            return;
        }
        if ends == 0 {
            return drain.set_timer(None, 0);
        }
        let left = Duration::from_millis(ends.saturating_sub(clock::now()));
        let of = backend.clone();
        let timer = tokio::task::spawn_local(async move {
            tokio::time::sleep(left).await;
            of.cut();
        });
        drain.set_timer(Some(timer.abort_handle()), ends);
    }

    fn set_timer(&self, timer: Option<AbortHandle>, ends: Millis) {
        self.ends.set(ends);
        if let Some(before) = self.timer.replace(timer) {
            before.abort();
        }
    }

    /// Resolves when the time is over.
    pub(super) async fn over(&self) {
        loop {
            let cut = self.cut.notified();
            if self.closed.get() {
                return;
            }
            cut.await;
        }
    }

    /// A connection of HTTP/1.1, for as long as the guard lives.
    pub(super) fn line(backend: &Rc<Backend>) -> LineGuard {
        let id = backend.drain.next.get();
        backend.drain.next.set(id + 1);
        LineGuard { backend: backend.clone(), id }
    }
}

/// Takes a connection out of its backend's list when it is dropped.
pub(super) struct LineGuard {
    backend: Rc<Backend>,
    id: u64,
}

impl LineGuard {
    /// What drives it, and what is known of it.
    pub(super) fn set(backend: &Backend, id: u64, state: &Arc<UpState>, driver: AbortHandle) {
        backend.drain.whole.borrow_mut().insert(id, (state.clone(), driver));
    }

    /// Its place in the list.
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for LineGuard {
    fn drop(&mut self) {
        self.backend.drain.whole.borrow_mut().remove(&self.id);
    }
}

impl Backend {
    /// Whether its time is over: it takes nothing, not even of clients that were there before.
    pub(crate) fn is_closed(&self) -> bool {
        self.drain.is_closed()
    }

    /// Milliseconds until what is left is cut; 0: it does not drain, or its time is over.
    pub(crate) fn drain_left(&self) -> Millis {
        self.drain.left()
    }

    /// End all that is in flight.
    fn cut(&self) {
        let drain = &self.drain;
        drain.closed.set(true);
        drain.ends.set(0);
        drain.timer.replace(None);
        let (tunnels, active) = (self.stats.tunnels.get(), self.stats.active.get());
        let requests = active.saturating_sub(tunnels);
        if active > 0 {
            self.stats.cut_tunnels.add(tunnels);
            self.stats.cut_requests.add(requests);
            tracing::info!(pool = &*self.pool.name, backend = %self.address, requests, tunnels, "time is over, cut");
        }
        drop(std::mem::take(&mut *self.idle.borrow_mut()));
        for shared in self.shared.borrow().iter() {
            shared.cut();
            shared.retire();
        }
        // Dropped after the borrow: guards take themselves out of the list.
        let whole = std::mem::take(&mut *drain.whole.borrow_mut());
        for (state, driver) in whole.values() {
            state.cut();
            driver.abort();
        }
        drain.cut.notify_waiters();
        // Who waits for a place on it gets none.
        self.pool.changes.set(self.pool.changes.get() + 1);
        self.pool.queue.call_all();
    }
}
