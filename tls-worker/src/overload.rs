//! What gives way when a thread has nearly as many connections as it may have, or no descriptor is left for one more.
//!
//! In this order: whoever has been connected for the longest is asked to end (an idle connection closes at once, one with a
//! request under way after its answer; a tunnel stays), one for each new connection from nine tenths of the bound on.
//! At the bound new connections are closed at accept. What is under way is never cut.

use crate::thread::Thread;
use std::cell::Cell;

/// Connections that are asked to end when no descriptor was left for a new one.
const AT_ONCE: usize = 32;

/// Who came so lately is not asked: its first request is on its way. A tenth of what is open, where that is less.
const NEWEST: u64 = 256;

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
        let (open, next) = (thread.open.borrow(), thread.next_connection.get());
        let newest = (open.len() as u64 / 10).clamp(1, NEWEST);
        let oldest = open.range(self.asked.get()..).next();
        if let Some((id, bell)) = oldest.filter(|(id, _)| **id + newest < next) {
            self.asked.set(id + 1);
            bell.ring(crate::conn::Signal::Finish);
            thread.stats.asked_to_end.inc();
        }
    }
}
