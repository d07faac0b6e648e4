//! Requests that wait for a backend with room, in the order they came. Who waits asks again when it is woken, and
//! stays where it was while there is still no room; when it goes, it wakes the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// One pool's on one thread.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Debug)]
struct Waiter {
    takes: Takes,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What a waiter would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Any backend.
    Any,
    /// Not every one; it says so when it is asked.
    Some,
    /// This one alone.
    Only(SocketAddr),
}

impl Takes {
    fn may(self, backend: Option<SocketAddr>) -> bool {
        match (self, backend) {
            (Takes::Only(only), Some(backend)) => only == backend,
            _ => true,
        }
    }
}

impl Waiter {
    fn call(&self) {
        self.called.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether somebody waits who would surely take what this one would.
    pub(super) fn is_before(&self, takes: Takes) -> bool {
        let waiting = self.waiting.borrow();
        waiting.iter().any(|w| w.takes == Takes::Any || (w.takes == takes && takes != Takes::Some))
    }

    /// A backend may have room: call the first who may take it. None: any backend.
    pub(super) fn call(&self, backend: Option<SocketAddr>) {
        let waiting = self.waiting.borrow();
        if let Some(waiter) = waiting.iter().find(|w| !w.called.get() && w.takes.may(backend)) {
            waiter.call();
        }
    }

    /// Call everybody: something else than room has changed.
    pub(super) fn call_all(&self) {
        self.waiting.borrow().iter().for_each(|waiter| waiter.call());
    }

    /// This one did not take what it was called for: call the next.
    fn pass_on(&self, waiter: &Rc<Waiter>) {
        let waiting = self.waiting.borrow();
        let after = waiting.iter().skip_while(|w| !Rc::ptr_eq(w, waiter)).skip(1);
        if let Some(next) = after.into_iter().find(|w| !w.called.get()) {
            next.call();
        }
    }

    /// Stand at the end until `ask` has an answer. It is asked when this one is called; dropping the future leaves the
    /// queue.
    pub(super) async fn wait<T>(&self, takes: Takes, mut ask: impl FnMut() -> Option<T>) -> T {
        let waiter = Rc::new(Waiter { takes, called: Cell::new(false), waker: RefCell::new(None) });
        self.waiting.borrow_mut().push_back(waiter.clone());
        let _place = Place { queue: self, waiter: waiter.clone() };
        poll_fn(|cx| {
            while waiter.called.replace(false) {
                if let Some(answer) = ask() {
                    return Poll::Ready(answer);
                }
                if takes != Takes::Any {
                    self.pass_on(&waiter);
                }
            }
            *waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Left when it is dropped, however that comes.
struct Place<'a> {
    queue: &'a Queue,
    waiter: Rc<Waiter>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        // There may be room for more than one, or this one was called and went away.
        self.queue.call(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_came_first_goes_first_and_who_leaves_is_no_obstacle() {
        let (queue, room) = (Queue::default(), Cell::new(0));
        let take = || (room.get() > 0).then(|| room.set(room.get() - 1));
        let mut first = pin!(queue.wait(Takes::Any, take));
        let mut second = Box::pin(queue.wait(Takes::Any, take));
        let mut third = pin!(queue.wait(Takes::Any, take));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        assert_eq!(queue.len(), 3);
        room.set(1);
        queue.call(None);
        assert!(poll(second.as_mut()).is_none(), "it was not called");
        assert!(poll(first.as_mut()).is_some());
        drop(second);
        assert_eq!(queue.len(), 1);
        room.set(1);
        assert!(poll(third.as_mut()).is_some(), "called by the one that left");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn who_waits_for_one_backend_does_not_stand_in_the_way() {
        let (a, b) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let queue = Queue::default();
        let mut pinned = pin!(queue.wait(Takes::Only(a), || Some("a")));
        let mut free = pin!(queue.wait(Takes::Any, || Some("any")));
        assert!(poll(pinned.as_mut()).is_none() && poll(free.as_mut()).is_none());
        assert!(queue.is_before(Takes::Only(b)) && queue.is_before(Takes::Any));
        queue.call(Some(b));
        assert!(poll(pinned.as_mut()).is_none());
        assert_eq!(poll(free.as_mut()), Some("any"));
        assert!(!queue.is_before(Takes::Only(b)) && !queue.is_before(Takes::Any));
        queue.call(Some(a));
        assert_eq!(poll(pinned.as_mut()), Some("a"));
    }

    #[test]
    fn who_does_not_take_what_came_free_passes_it_on() {
        let queue = Queue::default();
        let mut picky = pin!(queue.wait(Takes::Some, || None::<u8>));
        let mut other = pin!(queue.wait(Takes::Any, || Some(1)));
        assert!(poll(picky.as_mut()).is_none() && poll(other.as_mut()).is_none());
        queue.call(None);
        assert!(poll(picky.as_mut()).is_none());
        assert_eq!(poll(other.as_mut()), Some(1));
    }
}
