//! Access logs. A line is made in two steps: what the request says when it comes ([`Plan::begin`]), everything else when
//! the answer's header is there ([`Plan::answered`]), with holes for what is known at the end of its body. `value`
//! escapes, `way` carries lines to the control plane, which writes them.

mod plan;
mod value;
mod way;

pub(crate) use plan::{End, Plan, Start, Unfinished};
pub(crate) use way::Way;

use crate::stats::LogStats;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// A log, as one thread sees it in a generation.
pub(crate) struct LogView {
    pub(crate) plan: Arc<Plan>,
    pub(crate) stats: Arc<LogStats>,
    pub(crate) way: Rc<Way>,
    turn: Cell<u32>,
}

impl LogView {
    pub(crate) fn new(plan: Arc<Plan>, stats: Arc<LogStats>, way: Rc<Way>) -> Self {
        LogView { plan, stats, way, turn: Cell::new(0) }
    }

    /// Whether it is this request's turn to be written.
    pub(crate) fn is_turn(&self) -> bool {
        let turn = self.turn.get();
        self.turn.set(if turn + 1 >= self.plan.sample { 0 } else { turn + 1 });
        turn == 0
    }

    /// Write a line, or drop it where lines wait already.
    pub(crate) fn write(&self, line: &[u8]) {
        if self.way.put(&self.plan.name, line, self.plan.buffer) {
            self.stats.lines.inc();
        } else {
            self.stats.dropped.inc();
        }
    }
}
