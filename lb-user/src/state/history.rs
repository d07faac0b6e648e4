//! What was changed, in its order, as far back as it is kept. Pure.

use super::entry::Record;
use crate::reconcile::Overlay;
use std::collections::VecDeque;
use std::sync::Arc;

/// Parts of all kept changes together: one change may be a list of tens of thousands.
const MAX_PARTS: usize = 1_000_000;

/// The kept part of a history. Cheap to clone: records are shared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// After the change before the first that is kept.
    base: Overlay,
    /// Number of that change.
    number: u64,
    /// After the last.
    overlay: Overlay,
    records: VecDeque<Arc<Record>>,
    parts: usize,
}

/// A change whose state is not known any more, or not yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no change {number}; those that can be gone back to are {first} to {last}")]
pub struct Forgotten {
    /// Asked for.
    pub number: u64,
    /// The oldest there is.
    pub first: u64,
    /// The newest.
    pub last: u64,
}

impl History {
    /// Beginning after a change.
    pub(super) fn after(number: u64, base: Overlay) -> Self {
        Self { overlay: base.clone(), base, number, records: VecDeque::new(), parts: 0 }
    }

    /// Number of the last change; 0: there was none.
    pub fn last(&self) -> u64 {
        self.records.back().map_or(self.number, |record| record.number)
    }

    /// Oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Arc<Record>> + ExactSizeIterator {
        self.records.iter()
    }

    /// What was in force after a change.
    pub fn at(&self, number: u64) -> Result<Overlay, Forgotten> {
        let (first, last) = (self.number, self.last());
        if !(first..=last).contains(&number) {
            return Err(Forgotten { number, first, last });
        }
        let mut overlay = self.base.clone();
        for record in self.records.iter().take_while(|record| record.number <= number) {
            overlay.apply(&record.delta);
        }
        Ok(overlay)
    }

    /// What is in force.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    pub(super) fn push(&mut self, record: Arc<Record>) {
        self.overlay.apply(&record.delta);
        self.parts += record.delta.len();
        self.records.push_back(record);
    }

    /// The last one was not made after all.
    pub(super) fn pop(&mut self) -> Option<Arc<Record>> {
        let last = self.records.pop_back()?;
        self.parts -= last.delta.len();
        self.overlay = self.at(self.last()).unwrap_or_default();
        Some(last)
    }

    /// Forget the oldest, until no more than so many are left.
    pub(super) fn trim(&mut self, keep: usize) {
        while self.records.len() > keep || self.parts > MAX_PARTS {
            let Some(oldest) = self.records.pop_front() else { return };
            self.parts -= oldest.delta.len();
            self.base.apply(&oldest.delta);
            self.number = oldest.number;
        }
    }

    /// Number and overlay before the first record.
    pub(super) fn base(&self) -> (u64, &Overlay) {
        (self.number, &self.base)
    }
}
