//! What is said of a line that was not carried over as it stands.

use serde::Serialize;
use std::cell::RefCell;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was read otherwise than it stands, as it makes no sense else.
    Repaired,
    /// It stands in our config, and behaves otherwise, or needs a look.
    Differs,
    /// It does not stand in our config.
    LeftOut,
}

impl Fate {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::Differs => "differs",
            Self::LeftOut => "left out",
        }
    }
}

/// A remark about a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// From 1.
    pub line: usize,
    /// What became of it.
    pub fate: Fate,
    /// Why, and what to do.
    pub says: String,
}

/// Remarks, as they come up.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<Vec<Note>>);

impl Notes {
    pub(super) fn repaired(&self, line: usize, says: impl Into<String>) {
        self.note(line, Fate::Repaired, says);
    }

    pub(super) fn differs(&self, line: usize, says: impl Into<String>) {
        self.note(line, Fate::Differs, says);
    }

    pub(super) fn left_out(&self, line: usize, says: impl Into<String>) {
        self.note(line, Fate::LeftOut, says);
    }

    fn note(&self, line: usize, fate: Fate, says: impl Into<String>) {
        self.0.borrow_mut().push(Note { line, fate, says: says.into() });
    }

    /// By line, each once.
    pub(super) fn sorted(self) -> Vec<Note> {
        let mut notes = self.0.into_inner();
        notes.sort();
        notes.dedup();
        notes
    }
}
