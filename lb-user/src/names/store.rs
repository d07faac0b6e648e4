//! The last good answers across restarts: a file in the directory `[edge] state`, for a start while DNS fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Longest file that is read, bytes.
const MAX_FILE: u64 = 16 << 20;

/// Addresses by name.
pub type Answers = BTreeMap<String, BTreeSet<IpAddr>>;

/// The file.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

impl Store {
    /// Below `[edge] state`.
    pub fn new(state: &Path) -> Self {
        Self(state.join("names.json"))
    }

    /// What was stored; nothing where it cannot be read.
    pub(super) fn read(&self) -> Answers {
        let Ok(meta) = std::fs::metadata(&self.0) else { return Answers::new() };
        let read = || {
            if !meta.is_file() || meta.len() > MAX_FILE {
                return Err(std::io::Error::other(format!("not a file of at most {MAX_FILE} bytes")));
            }
            Ok(serde_json::from_slice(&std::fs::read(&self.0)?)?)
        };
        read().unwrap_or_else(|error: std::io::Error| {
            tracing::warn!(file = %self.0.display(), %error, "stored addresses of names not used");
            Answers::new()
        })
    }

    /// Keep these. A reader sees the old ones or the new ones.
    pub(super) fn write(&self, answers: &Answers) -> std::io::Result<()> {
        if let Some(directory) = self.0.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let draft = self.0.with_extension("draft");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(answers)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_bad_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&dir.path().join("deep/state"));
        assert!(store.read().is_empty());
        let answers = Answers::from([("a.test".into(), ["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()].into())]);
        store.write(&answers).unwrap();
        assert_eq!(store.read(), answers);
        for bad in [&b"{"[..], b"[]", b"{\"a\": [\"x\"]}", b"\xff"] {
            std::fs::write(&store.0, bad).unwrap();
            assert!(store.read().is_empty());
        }
    }
}
