//! Configs of other products, as a config of Bailey. Pure: a text comes in, a text and what is to be said of it go out.
//!
//! Nothing is passed over in silence: whatever of the other config does not stand in ours has a [`Note`] with its line.

mod netscaler;
mod note;
mod toml;

pub use netscaler::{Line, netscaler, read_lines};
pub use note::{Fate, Note};

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// A config of Bailey.
    pub toml: String,
    /// What is to be said, by line.
    pub notes: Vec<Note>,
    /// Files that the config names, and what they are to hold. The other product's config has only their names.
    pub files: Vec<(String, String)>,
}
