//! What is told of the state directory, and what is refused for it.

use std::path::PathBuf;

/// Why a change was not made: it could not be written down. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the change was not made, as it cannot be kept in {}: {why}", .place.display())]
pub struct NotKept {
    /// The state directory.
    pub place: PathBuf,
    /// The system's answer.
    pub why: String,
}

/// Why an edge does not start with a state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another edge has it.
    #[error(
        "the state directory {} is another edge's (process {pid}); stop that, or set another `state` under [edge]",
        .path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// As it says itself.
        pid: String,
    },
    /// A later release wrote it.
    #[error(
        "{}/journal is of format {format}, written by bailey {release}; this is {}, which reads format {}: run that release, or move the file away to start without the changes of run time in it",
        .path.display(), env!("CARGO_PKG_VERSION"), super::FORMAT
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// In the file.
        format: u32,
        /// That wrote it.
        release: String,
    },
}

/// What is known of the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// Where it is; none: changes live as long as the process.
    pub place: Option<PathBuf>,
    /// Why nothing can be written, while that is so.
    pub trouble: Option<String>,
    /// What was lost when it was read at start.
    pub lost: Option<String>,
    /// Of the journal.
    pub bytes: u64,
    /// Lines written, and those that could not be.
    pub writes: (u64, u64),
}
