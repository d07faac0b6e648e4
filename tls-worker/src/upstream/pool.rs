//! Connections to one backend: taken for a request, kept when it is over and they are still good, closed when not.

use super::connect::{ConnectError, Made, connect};
use super::place::Admitted;
use super::sender::{Http1, Http2, Sent};
use super::shared::{Shared, Stream};
use super::{Backend, Phase, PoolView, UpState};
use crate::http::body::RequestBody;
use http::Request;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::AbortHandle;

/// A connection that carries one request at a time, driven by a task of its own.
pub(super) struct Kept {
    pub(super) sender: Http1,
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

/// A request or tunnel that is in flight on a backend.
pub(crate) struct Active {
    backend: Rc<Backend>,
    /// It counts on its pool as long.
    admitted: Option<Admitted>,
    /// It carries bytes of any kind, and may last.
    tunnel: bool,
}

impl Active {
    pub(crate) fn begin(backend: &Rc<Backend>) -> Self {
        backend.stats.active.inc();
        Active { backend: backend.clone(), admitted: None, tunnel: false }
    }

    /// It was let in by its pool.
    pub(crate) fn hold(&mut self, admitted: Admitted) {
        self.admitted = Some(admitted);
    }

    /// It is a tunnel from here on.
    pub(crate) fn becomes_tunnel(&mut self) {
        if !self.tunnel {
            self.tunnel = true;
            self.backend.stats.tunnels.inc();
        }
    }

    /// Resolves when the time of its backend is over.
    pub(crate) async fn over(&self) {
        self.backend.drain.over().await;
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.backend.stats.active.dec();
        if self.tunnel {
            self.backend.stats.tunnels.dec();
        }
        self.backend.pool.queue.call(Some(self.backend.address));
    }
}

/// What one request has of a connection: all of it, or a stream. Dropped before [`Lease::finish`], it takes that along:
/// this is how a client that goes away ends its request at the backend.
pub(crate) struct Lease {
    held: Option<Held>,
    backend: Rc<Backend>,
    max_idle: usize,
    /// It served a request before, so the backend may have closed it in the meantime.
    pub(crate) reused: bool,
}

enum Held {
    Whole(Kept),
    Part(Http2, Rc<Shared>, Rc<Stream>),
}

impl Lease {
    /// A connection of the backend: one that is there, unless `fresh`, else a new one.
    pub(crate) async fn take(
        pool: &PoolView,
        backend: &Rc<Backend>,
        wants: Wants,
        fresh: bool,
    ) -> Result<Lease, ConnectError> {
        let lease =
            |held, reused| Lease { held: Some(held), backend: backend.clone(), max_idle: pool.max_idle, reused };
        if !fresh && let Some(held) = there(pool, backend, wants).await {
            return Ok(lease(held, true));
        }
        // Boxed: rare, and much larger than what every request has to carry.
        match Box::pin(connect(pool, backend, wants)).await? {
            Made::Whole(kept) => Ok(lease(Held::Whole(kept), false)),
            // Others may have been on it meanwhile.
            Made::Part(shared) => Ok(lease(part(shared), false)),
        }
    }

    pub(crate) fn state(&self) -> Option<&Arc<UpState>> {
        self.held.as_ref().map(|held| match held {
            Held::Whole(kept) => &kept.state,
            Held::Part(.., stream) => &stream.state,
        })
    }

    pub(crate) fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    /// Whether HTTP/2 is spoken on it.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.held, Some(Held::Part(..)))
    }

    /// Send a request, and wait for the header of its answer. None: this is no connection any more.
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Option<Sent> {
        match self.held.as_mut()? {
            Held::Whole(kept) => Some(kept.sender.try_send_request(request).await.into()),
            Held::Part(sender, _, stream) => {
                let mut sending = pin!(sender.try_send_request(request));
                poll_fn(|cx| match sending.as_mut().poll(cx) {
                    Poll::Ready(sent) => Poll::Ready(Some(sent.into())),
                    Poll::Pending => stream.poll_overdue(cx).map(|()| Some(Sent::Overdue)),
                })
                .await
            }
        }
    }

    /// Ready when what it waits for is overdue; of a whole connection never, as that breaks by itself.
    pub(crate) fn poll_overdue(&self, cx: &Context<'_>) -> Poll<()> {
        match &self.held {
            Some(Held::Part(.., stream)) => stream.poll_overdue(cx),
            _ => Poll::Pending,
        }
    }

    /// The response is whole: keep the connection for the next request, if it is good for one.
    pub(crate) fn finish(mut self) {
        match self.held.take() {
            Some(Held::Whole(kept)) => self.keep(kept),
            Some(Held::Part(_, shared, stream)) => self.leave(&shared, &stream),
            None => {}
        }
    }

    fn keep(&self, kept: Kept) {
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

    fn leave(&self, shared: &Shared, stream: &Rc<Stream>) {
        shared.close(stream);
        let wanted = self.backend.keeps.get() && shared.identity == self.backend.identity.get();
        if shared.streams() == 0 && (!wanted || self.max_idle == 0) {
            shared.retire();
        }
    }

    /// The connection is a tunnel from here on: it belongs to whoever has its upgrade.
    pub(crate) fn release(mut self) -> Option<Arc<UpState>> {
        let Some(Held::Whole(kept)) = self.held.take() else { return None };
        kept.state.enter(Phase::ReceivingClient);
        Some(kept.state)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.held.take() {
            Some(Held::Whole(kept)) => kept.driver.abort(),
            Some(Held::Part(_, shared, stream)) => self.leave(&shared, &stream),
            None => {}
        }
    }
}

fn part(shared: Rc<Shared>) -> Held {
    let stream = shared.open();
    Held::Part(shared.sender.clone(), shared, stream)
}

/// A connection that is there: of those that carry many the one with the fewest, else the last one used.
async fn there(pool: &PoolView, backend: &Backend, wants: Wants) -> Option<Held> {
    if wants == Wants::Any {
        let shared = backend.shared.borrow();
        let with_room = shared.iter().filter(|shared| shared.has_room(pool.multiplex.max_streams));
        if let Some(fewest) = with_room.min_by_key(|shared| shared.streams()) {
            return Some(part(fewest.clone()));
        }
    }
    loop {
        let mut kept = backend.idle.borrow_mut().pop()?;
        // It was put back when the response was whole; its driver may still have to see that, which it does when it
        // runs next.
        if !kept.sender.is_closed() && poll_fn(|cx| kept.sender.poll_ready(cx)).await.is_ok() {
            return Some(Held::Whole(kept));
        }
    }
}
