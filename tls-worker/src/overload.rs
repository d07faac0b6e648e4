//! What gives way when a thread has nearly as many connections as it may have, or no descriptor is left for one more.
//!
//! In this order: whoever has been connected for the longest is asked to end (an idle connection closes at once, one with a
//! request under way after its answer; a tunnel stays), one for each new connection from nine tenths of the bound on.
//! At the bound new connections are closed at accept. What is under way is never cut.

use crate::thread::Thread;
use std::cell::Cell;

/// Connections that are asked to end when no descriptor was left for a new one.
const AT_ONCE: usize = 32;

/// The bound of one thread.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// 0: none.
    most: Cell<u32>,
    /// Connections below this number were asked.
    asked: Cell<u64>,
}

impl Room {
    pub(crate) fn configure(&self, most: u32) {
        self.most.set(most);
    }

    /// Whether there is room for one more connection; where there is little, an old one makes some.
    pub(crate) fn admit(&self, thread: &Thread) -> bool {
        let (open, most) = (thread.open.borrow().len() as u64, u64::from(self.most.get()));
        if most == 0 {
            return true;
        }
        if open * 10 >= most * 9 {
            self.ask_oldest(thread);
        }
        if open >= most {
            thread.stats.refused.inc();
            return false;
        }
        true
    }

    /// A connection could not be accepted.
    pub(crate) fn exhausted(&self, thread: &Thread) {
        thread.stats.accept_failures.inc();
        (0..AT_ONCE).for_each(|_| self.ask_oldest(thread));
    }

    fn ask_oldest(&self, thread: &Thread) {
        let open = thread.open.borrow();
        if let Some((id, bell)) = open.range(self.asked.get()..).next() {
            self.asked.set(id + 1);
            bell.ring(crate::conn::Signal::Finish);
            thread.stats.asked_to_end.inc();
        }
    }
}
