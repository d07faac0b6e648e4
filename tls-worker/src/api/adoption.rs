//! A worker that outlives its control plane, and the next control plane that finds it.
//!
//! These words are the ones that must be understood from one release to another, whatever else changes: fields are
//! added with a default, and never taken away. `adoption_v1.json` beside this file is what
//! the first release said.

use super::{ListenerInfo, Secret, ThreadInfo};
use serde::{Deserialize, Serialize};

/// What a next control plane needs and no file has. The worker keeps it unread, and gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Of the text's form; the control plane's own.
    pub version: u32,
    /// The text. It holds keys of tickets.
    pub text: Secret,
}

/// A worker without a control plane, to the one that found it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adopted {
    /// [`super::WIRE_VERSION`] of the worker. Of another version only [`super::Command::Drain`] may be sent.
    pub version: u32,
    /// Its release, for people.
    pub release: String,
    /// Its threads, as they were asked for.
    pub threads: Vec<ThreadInfo>,
    /// What it serves by.
    pub generation: u64,
    /// So many listeners follow, in frames of [`super::Event::Listeners`].
    pub listeners: usize,
    /// The last that it was given.
    #[serde(default)]
    pub note: Option<Note>,
}

/// Listeners that a worker has, some of them; the descriptors ride on the frame, in this order.
pub type Listeners = Vec<ListenerInfo>;

#[cfg(test)]
mod tests {
    use crate::api::{Command, Event};

    #[test]
    fn what_the_first_release_said_is_understood() {
        let event: Event = serde_json::from_str(include_str!("adoption_v1.json")).unwrap();
        let Event::Adopted(adopted) = event else { panic!("{event:?}") };
        assert_eq!((adopted.version, adopted.generation, adopted.listeners), (1, 7, 2));
        assert_eq!(adopted.note.unwrap().text.expose(), b"{}");
        for (text, word) in [
            (r#"{"Adopt":{"version":1}}"#, "Adopt"),
            (r#"{"Drain":{"grace_ms":5}}"#, "Drain"),
            (r#"{"Meet":{"alone_ms":5}}"#, "Meet"),
        ] {
            let command: Command = serde_json::from_str(text).unwrap();
            assert!(format!("{command:?}").starts_with(word));
        }
    }
}
