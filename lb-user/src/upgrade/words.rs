//! What two control planes say to each other. As with workers that are adopted, fields are added with a default, and never
//! taken away: one release speaks with the next. `offer_v1.json` beside this file is what the first release said.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use tls_worker::api::wire::WireError;
use tls_worker::api::{ListenerInfo, Note, Session};

/// Of these messages. A new control plane refuses an offer of another one.
pub const HANDOVER_VERSION: u32 = 1;

/// From the old one to the new one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToNew {
    /// The first message. The sockets ride on the frame, in the order of [`Offer::sockets`].
    Offer(Box<Offer>),
    /// Listeners of workers; the descriptors ride on the frame.
    Listeners(Vec<ListenerInfo>),
    /// Where clients of a pool were.
    Sessions { pool: String, entries: Vec<Session> },
    /// That was all.
    Complete,
    /// Serve: the old one leaves everything.
    Commit,
}

/// What stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Offer {
    /// [`HANDOVER_VERSION`].
    pub(super) version: u32,
    /// Release of the old one, for people.
    pub(super) release: String,
    /// Instance.
    pub(super) edge: String,
    /// See there.
    pub(super) note: Note,
    /// Names of the edge's own sockets.
    pub(super) sockets: Vec<String>,
}

/// From the new one to the old one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToOld {
    /// Its workers accept.
    Ready { pid: u32, release: String, generation: u64 },
    /// It ends, and has changed nothing.
    Refused { reason: String },
    /// It has the edge.
    Serving,
}

/// Why a new control plane cannot take over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Started by hand.
    #[error("--take-over is for a control plane that another one starts: type `bailey upgrade`")]
    NoSocket,
    /// The other side is gone, or says what is not understood.
    #[error("the other control plane: {0}")]
    Wire(#[from] WireError),
    /// It did not go on.
    #[error("the other control plane said nothing within {0:?}")]
    Late(Duration),
    /// Of another version.
    #[error(
        "the running release {release} hands over by version {theirs} of these messages, and this one takes version {HANDOVER_VERSION}; restart bailey instead"
    )]
    Version {
        /// Release of the old one.
        release: String,
        /// Its version.
        theirs: u32,
    },
    /// The file is another edge's.
    #[error("the config is of edge {ours:?}, and {theirs:?} is running; restart bailey to rename it")]
    Edge {
        /// In the file.
        ours: String,
        /// Running.
        theirs: String,
    },
    /// What it says cannot be read.
    #[error("{0}; restart bailey instead")]
    Note(#[from] crate::reconcile::NoteError),
    /// Something out of turn.
    #[error("the other control plane said {0} out of turn")]
    Turn(&'static str),
}
