//! What a journal lies on. A seam: tests have one that forgets, fills up and dies between any two steps.

use std::io;

/// A file's worth of bytes.
pub trait Medium: Send + 'static {
    /// All of it; nothing, where there is none yet.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Add to the end. When it returns, that survives a loss of power; on an error, any part of it may.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cut to this length, durably.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Put other bytes in place of all that there is, durably: after a crash there are the old ones or the new ones.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Keep what cannot be used where a person can look at it.
    fn set_aside(&mut self, bytes: &[u8]) -> io::Result<()>;
}
