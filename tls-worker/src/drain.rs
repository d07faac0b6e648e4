//! Ending: what is idle closes, what is open is answered, and what is left after the grace is cut.

use crate::conn::Signal;
use crate::thread::Thread;
use std::rc::Rc;
use std::time::Duration;

/// How long what was cut may take to be gone.
const LAST: Duration = Duration::from_secs(2);

/// Ends when no connection and no tunnel of the thread is open, or they did not go even when cut. The listeners are
/// closed already.
pub(crate) async fn run(thread: Rc<Thread>, grace: Duration) {
    thread.draining.set(true);
    ring(&thread, Signal::Finish);
    if tokio::time::timeout(grace, all_closed(&thread)).await.is_err() {
        tracing::warn!(thread = thread.index, open = thread.open.borrow().len(), "grace is over, cutting what is open");
        ring(&thread, Signal::Cut);
        let _ = tokio::time::timeout(LAST, all_closed(&thread)).await;
    }
}

fn ring(thread: &Thread, signal: Signal) {
    thread.open.borrow().values().for_each(|bell| bell.ring(signal));
}

async fn all_closed(thread: &Thread) {
    while !thread.open.borrow().is_empty() {
        thread.closed.notified().await;
    }
}
