//! What the two ends of a client connection tell each other past hyper: the stream that requests are read from, and
//! what answers them.

use crate::stats::{Counter, Rejection};
use std::sync::OnceLock;

/// See the module. Requests of HTTP/1.1 are answered in the order in which they came, so a number names one.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    begun: Counter,
    answered: Counter,
    /// The request that stands for one that is refused, and why.
    refused: OnceLock<(u64, Rejection)>,
    upgraded: Counter,
    waiting: Counter,
    part_of_head: Counter,
    lingers: Counter,
}

impl Pipeline {
    /// A request begins to be answered; why it is refused, if it is.
    pub(crate) fn begin(&self) -> Option<Rejection> {
        self.begun.inc();
        self.refused.get().filter(|(number, _)| *number == self.begun.get()).map(|(_, reason)| *reason)
    }

    /// Requests that began.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// A request's answer is sent, or was given up.
    pub(crate) fn end(&self) {
        self.answered.inc();
    }

    /// Requests whose answers are sent.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.get()
    }

    /// The request of this number, counted from one, is no request.
    pub(crate) fn refuse(&self, number: u64, reason: Rejection) {
        // Nothing is read behind the first.
        let _ = self.refused.set((number, reason));
    }

    /// What comes now is another protocol.
    pub(crate) fn set_upgraded(&self) {
        self.upgraded.set(1);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.get() > 0
    }

    /// Whether bytes wait for an answer before they can be read.
    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.waiting.set(waiting.into());
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Whether a part of a header is there.
    pub(crate) fn set_part_of_head(&self, part: bool) {
        self.part_of_head.set(part.into());
    }

    pub(crate) fn has_part_of_head(&self) -> bool {
        self.part_of_head.get() > 0
    }

    /// The connection ends while the client may still be sending.
    pub(crate) fn set_lingers(&self) {
        self.lingers.set(1);
    }

    pub(crate) fn lingers(&self) -> bool {
        self.lingers.get() > 0
    }
}
