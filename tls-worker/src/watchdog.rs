//! One lazily re-armed timer for a connection. Its owner notes times as things happen (a store each) and says, when
//! asked, what is due next; the timer itself is touched only when it fires.
//!
//! It never sleeps longer than the shortest of the owner's timeouts, so that a wait that begins while it sleeps
//! (a request on a connection that was idle) is still ended in time.

use crate::clock::{self, Millis};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Stands for no deadline.
pub(crate) const NEVER: Millis = u64::MAX;

/// See the module.
pub(crate) struct Watchdog {
    sleep: Pin<Box<Sleep>>,
    step: Millis,
}

impl Watchdog {
    /// `shortest`: the shortest timeout that `deadline` of [`Watchdog::poll`] will ever add to the present.
    pub(crate) fn new(shortest: Millis) -> Self {
        Watchdog { sleep: Box::pin(tokio::time::sleep(Duration::from_millis(shortest))), step: shortest }
    }

    /// Ready when the time that `deadline` gives has passed. It is asked when the timer fires, not on every poll.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: impl Fn() -> Millis) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            let due = deadline();
            if due <= now {
                return Poll::Ready(());
            }
            let wait = (due - now).min(self.step).max(1);
            self.sleep.as_mut().reset(Instant::now() + Duration::from_millis(wait));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;

    #[tokio::test]
    async fn a_deadline_that_moves_is_followed_and_then_kept() {
        let began = clock::now();
        let due = Cell::new(began + 30);
        let asked = Cell::new(0);
        let mut dog = Watchdog::new(10);
        poll_fn(|cx| {
            dog.poll(cx, || {
                asked.set(asked.get() + 1);
                if asked.get() == 2 {
                    due.set(due.get() + 30);
                }
                due.get()
            })
        })
        .await;
        assert!(clock::now() >= began + 60);
        assert!(asked.get() >= 4);
    }
}
