//! hyper's tasks for HTTP/2 streams: they stay on this thread, and one whose client lets nothing through to it for too
//! long is ended, whatever else happens on the connection (RFC 9113, 10.5).

use crate::clock::{self, Millis};
use crate::conn::ConnState;
use crate::stats::{Abuse, Counter};
use hyper::rt::Executor;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Since when an answer's body waits for its client; 0: it waits for something else.
#[derive(Debug, Default)]
pub(crate) struct Held(Counter);

impl Held {
    /// A piece was taken from the body, and none was asked for since.
    pub(crate) fn by_client(&self) {
        self.0.set(clock::now());
    }

    /// The body has nothing to give, or is done.
    pub(crate) fn by_nobody(&self) {
        self.0.set(0);
    }
}

/// See the module. Clones are the same.
#[derive(Clone)]
pub(super) struct Streams {
    state: Arc<ConnState>,
    /// What the next task is told by.
    next: Rc<RefCell<Option<Rc<Held>>>>,
}

impl Streams {
    pub(super) fn new(state: Arc<ConnState>) -> Self {
        Streams { state, next: Rc::default() }
    }

    /// What tells of the stream whose task is given next: hyper asks its service, and gives the task of that request.
    pub(super) fn next(&self) -> Rc<Held> {
        let held = Rc::new(Held::default());
        self.next.replace(Some(held.clone()));
        held
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        let limit = self.state.limits().http2.stall;
        match self.next.take() {
            Some(held) if !limit.is_zero() => {
                drop(tokio::task::spawn_local(bounded(task, held, limit, self.state.clone())));
            }
            _ => drop(tokio::task::spawn_local(task)),
        }
    }
}

async fn bounded<F: Future>(task: F, held: Rc<Held>, limit: Duration, state: Arc<ConnState>) {
    let mut task = pin!(task);
    // Made when a client lets a stream wait: most never do.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match held.0.get() {
            0 => {
                timer = None;
                Poll::Pending
            }
            since => overdue(&mut timer, since + clock::millis(limit), cx)
                .map(|()| state.stats().http2_abuse.inc(Abuse::Stall)),
        }
    })
    .await;
}

fn overdue(timer: &mut Option<Pin<Box<Sleep>>>, at: Millis, cx: &mut Context<'_>) -> Poll<()> {
    let now = clock::now();
    if now >= at {
        return Poll::Ready(());
    }
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(at - now))));
    while timer.as_mut().poll(cx).is_ready() {
        let now = clock::now();
        if now >= at {
            return Poll::Ready(());
        }
        timer.as_mut().reset(tokio::time::Instant::now() + Duration::from_millis(at - now));
    }
    Poll::Pending
}
