//! Staples across restarts: a file for each certificate in the directory `[edge] state`, checked again when it is
//! read, as a disk may be older than it looks.

use super::message::{Checked, Question, check_response};
use super::staple::{Fingerprint, hex};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest file that is read, bytes; a response has at most that many.
const MAX_FILE: u64 = super::fetch::MAX_RESPONSE as u64;

/// The directory.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

impl Store {
    /// Below `[edge] state`.
    pub fn new(state: &Path) -> Self {
        Self(state.join("staples"))
    }

    /// What was stored for a certificate, if it still holds.
    pub fn read(&self, fingerprint: &Fingerprint, question: &Question, now: SystemTime) -> Option<(Checked, Vec<u8>)> {
        let path = self.path(fingerprint);
        let meta = std::fs::metadata(&path).ok()?;
        if !meta.is_file() || meta.len() > MAX_FILE {
            return None;
        }
        let bytes = std::fs::read(&path).ok()?;
        match check_response(&bytes, question, None, now) {
            Ok(checked) => Some((checked, bytes)),
            Err(error) => {
                tracing::info!(file = %path.display(), %error, "stored staple not used");
                None
            }
        }
    }

    /// Keep a response. A reader sees the old one or the new one.
    pub fn write(&self, fingerprint: &Fingerprint, response: &[u8]) -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let path = self.path(fingerprint);
        let draft = path.with_extension("draft");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(response)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    }

    /// Forget one.
    pub fn remove(&self, fingerprint: &Fingerprint) {
        let _ = std::fs::remove_file(self.path(fingerprint));
    }

    /// Remove the files of certificates that there are no more.
    pub fn keep_only(&self, fingerprints: &BTreeSet<Fingerprint>) {
        let wanted: BTreeSet<PathBuf> = fingerprints.iter().map(|fingerprint| self.path(fingerprint)).collect();
        let Ok(entries) = std::fs::read_dir(&self.0) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let ours = path.extension().is_some_and(|extension| extension == "ocsp" || extension == "draft");
            if ours && !wanted.contains(&path) {
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    fn path(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.0.join(hex(fingerprint)).with_extension("ocsp")
    }
}
