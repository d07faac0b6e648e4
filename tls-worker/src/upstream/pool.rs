//! Connections to one backend: taken for a request, kept when it is over and they are still good, closed when not.

use super::connect::{ConnectError, connect};
use super::sender::Sender;
use super::{Backend, Phase, PoolView, UpState};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// A connection, driven by a task of its own.
pub(super) struct Kept {
    pub(super) sender: Sender,
    pub(super) state: Arc<UpState>,
    pub(super) driver: AbortHandle,
    /// [`Backend::identity`] that it was made under.
    pub(super) identity: u64,
}

/// What a connection must be able to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// To carry a request.
    Any,
    /// To become a tunnel, which is HTTP/1.1's.
    Http1,
}

impl Wants {
    fn takes(self, kept: &Kept) -> bool {
        self == Wants::Any || !kept.sender.is_http2()
    }
}

/// A request or tunnel that is in flight on a backend.
pub(crate) struct Active(Rc<Backend>);

impl Active {
    pub(crate) fn begin(backend: &Rc<Backend>) -> Self {
        backend.stats.active.inc();
        Active(backend.clone())
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.stats.active.dec();
    }
}

/// A connection that one request has. Dropped before [`Lease::finish`], it takes the connection with it: that is how a
/// client that goes away ends its request at the backend.
pub(crate) struct Lease {
    kept: Option<Kept>,
    backend: Rc<Backend>,
    max_idle: usize,
    /// It served a request before, so the backend may have closed it in the meantime.
    pub(crate) reused: bool,
}

impl Lease {
    /// A connection of the backend: one that waits, unless `fresh`, else a new one.
    pub(crate) async fn take(
        pool: &PoolView,
        backend: &Rc<Backend>,
        wants: Wants,
        fresh: bool,
    ) -> Result<Lease, ConnectError> {
        let lease =
            |kept, reused| Lease { kept: Some(kept), backend: backend.clone(), max_idle: pool.max_idle, reused };
        if !fresh && let Some(kept) = waiting(backend, wants).await {
            return Ok(lease(kept, true));
        }
        // Boxed: rare, and much larger than what every request has to carry.
        let kept = Box::pin(connect(pool, backend, wants)).await?;
        Ok(lease(kept, false))
    }

    pub(crate) fn sender(&mut self) -> Option<&mut Sender> {
        self.kept.as_mut().map(|k| &mut k.sender)
    }

    pub(crate) fn state(&self) -> Option<&Arc<UpState>> {
        self.kept.as_ref().map(|k| &k.state)
    }

    pub(crate) fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    /// The response is whole: keep the connection for the next request, if it is good for one.
    pub(crate) fn finish(mut self) {
        let Some(kept) = self.kept.take() else { return };
        let mut idle = self.backend.idle.borrow_mut();
        if idle.len() >= self.max_idle {
            idle.retain(|k| !k.sender.is_closed());
        }
        let good = !kept.sender.is_closed() && !kept.state.is_uploading();
        let wanted = self.backend.keeps.get() && kept.identity == self.backend.identity.get();
        if good && wanted && idle.len() < self.max_idle {
            kept.state.enter(Phase::Idle);
            idle.push(kept);
        } else if !good {
            kept.driver.abort();
        }
    }

    /// The connection is a tunnel from here on: it belongs to whoever has its upgrade.
    pub(crate) fn release(mut self) -> Option<Arc<UpState>> {
        let kept = self.kept.take()?;
        kept.state.enter(Phase::ReceivingClient);
        Some(kept.state)
    }
}

/// A connection that waits for a request: the last one used.
async fn waiting(backend: &Backend, wants: Wants) -> Option<Kept> {
    loop {
        let mut kept = {
            let mut idle = backend.idle.borrow_mut();
            let place = idle.iter().rposition(|kept| wants.takes(kept))?;
            idle.remove(place)
        };
        // It was put back when the response was whole; its driver may still have to see that, which it does when it
        // runs next.
        if !kept.sender.is_closed() && poll_fn(|cx| kept.sender.poll_ready(cx)).await.is_ok() {
            return Some(kept);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.driver.abort();
        }
    }
}
