//! What survives the process: the state directory.
//!
//! | file | holds | written |
//! | --- | --- | --- |
//! | `journal` | what operators changed, who, when; service ids; generations | before a change is carried out, with fsync |
//! | `sessions.redb` | tables of persistence | in the background, so many entries a second |
//! | `lock` | the process id of the edge that has it | at start |
//! | `staples/` | see [`crate::ocsp`] | as they are fetched |
//!
//! [`Entry`] is a line of the journal, [`Journal`] the file over a [`Medium`], [`History`] what it says, [`Book`] the
//! reconciler's hold on all of it. The disk is touched by a thread of its own: one that hangs holds up nobody else.

mod book;
mod directory;
mod entry;
mod history;
mod journal;
mod medium;
mod notes;
mod sessions;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use book::{Book, Opened};
pub use directory::Directory;
pub use entry::{FORMAT, Record, Who};
pub use history::{Forgotten, History};
pub use journal::{Found, Journal, read};
pub use medium::Medium;
pub use notes::{NotKept, Notes, StateError};
pub use sessions::SessionStore;
