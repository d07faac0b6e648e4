//! A connection that carries many requests at once: HTTP/2. Each of its streams has deadlines of its own; one that is
//! overdue ends alone.

use super::UpState;
use super::sender::Http2;
use crate::clock::{self, Millis};
use crate::watchdog::NEVER;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// See the module.
pub(super) struct Shared {
    pub(super) sender: Http2,
    /// Of the connection without streams.
    pub(super) state: Arc<UpState>,
    /// [`super::Backend::identity`] that it was made under.
    pub(super) identity: u64,
    /// Streams that the backend takes at once.
    limit: Box<dyn Fn() -> usize>,
    streams: RefCell<Vec<Rc<Stream>>>,
    /// It takes no new stream.
    retired: Cell<bool>,
    /// Of its driver, which waits for the last stream's end.
    waker: RefCell<Option<Waker>>,
}

/// A connection that nobody has yet: it ends if nobody will.
pub(super) struct Unclaimed(Option<Rc<Shared>>);

impl Unclaimed {
    pub(super) fn new(shared: Rc<Shared>) -> Self {
        Unclaimed(Some(shared))
    }

    pub(super) fn claim(mut self) -> Option<Rc<Shared>> {
        self.0.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        self.0.iter().for_each(|shared| shared.retire());
    }
}

/// One stream.
pub(super) struct Stream {
    pub(super) state: Arc<UpState>,
    began: Millis,
    /// Of who waits for something on it.
    waker: RefCell<Option<Waker>>,
}

impl Stream {
    /// Ready when it is overdue.
    pub(super) fn poll_overdue(&self, cx: &Context<'_>) -> Poll<()> {
        if self.state.is_ended() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Shared {
    pub(super) fn new(sender: Http2, state: Arc<UpState>, identity: u64, limit: Box<dyn Fn() -> usize>) -> Self {
        Shared {
            sender,
            state,
            identity,
            limit,
            streams: RefCell::default(),
            retired: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// Streams that are open.
    pub(super) fn streams(&self) -> usize {
        self.streams.borrow().len()
    }

    /// Whether it takes one more.
    pub(super) fn has_room(&self, max_streams: u32) -> bool {
        !self.retired.get()
            && !self.sender.is_closed()
            && self.streams() < (max_streams.max(1) as usize).min((self.limit)())
    }

    /// A new stream.
    pub(super) fn open(&self) -> Rc<Stream> {
        let state = Arc::new(self.state.stream());
        let stream = Rc::new(Stream { state, began: clock::now(), waker: RefCell::default() });
        self.streams.borrow_mut().push(stream.clone());
        stream
    }

    /// A stream is over.
    pub(super) fn close(&self, stream: &Rc<Stream>) {
        self.streams.borrow_mut().retain(|one| !Rc::ptr_eq(one, stream));
        if self.streams() == 0 {
            self.state.enter(super::Phase::Idle);
            if self.retired.get() {
                self.wake();
            }
        }
    }

    /// Take no new stream, and end after the last.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.state.line().tell();
        self.wake();
    }

    /// End every stream.
    pub(super) fn cut(&self) {
        for stream in self.streams.borrow().iter() {
            stream.state.cut();
            if let Some(waker) = stream.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Wait for the backend's first settings: before them it is not known how many streams it takes. False: the
    /// connection has ended.
    pub(super) async fn settled(&self) -> bool {
        while (self.limit)() == 0 {
            if self.retired.get() || self.sender.is_closed() {
                return false;
            }
            self.state.line().news().await;
        }
        true
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Ready when it is retired and the last stream is over.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        if self.retired.get() && self.streams() == 0 {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// When something of it is due.
    pub(super) fn deadline(&self) -> Millis {
        let streams = self.streams.borrow();
        match streams.iter().map(|stream| stream.state.deadline()).min() {
            Some(first) => first,
            None if self.retired.get() => NEVER,
            None => self.state.deadline(),
        }
    }

    /// End the streams that are overdue. Ready: none was open, and the connection is.
    pub(super) fn expire(&self) -> Poll<()> {
        let now = clock::now();
        let streams = self.streams.borrow();
        if streams.is_empty() {
            return Poll::Ready(());
        }
        for stream in streams.iter().filter(|stream| stream.state.deadline() <= now) {
            stream.state.expire();
            // Nothing came at all since it began: it is the connection that is dead.
            if self.state.line().last_read() <= stream.began {
                self.retired.set(true);
            }
            if let Some(waker) = stream.waker.borrow_mut().take() {
                waker.wake();
            }
        }
        Poll::Pending
    }
}
