//! Settings under /proc/sys/net, of the network namespace of the calling thread; put back to what they were.

use std::path::PathBuf;

use super::error::failed;
use crate::datapath::DatapathError;

const ROOT: &str = "/proc/sys/net";

/// A setting that was changed, as it is told to the edge after this one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Noted {
    /// Below [`ROOT`].
    pub(super) name: String,
    before: String,
}

/// A setting that was changed.
#[derive(Debug)]
pub(super) struct Sysctl {
    path: PathBuf,
    before: String,
    left: bool,
}

impl Sysctl {
    /// Set `net/NAME` to `value`; none when it is that already.
    pub(super) fn set(name: &str, value: &str) -> Result<Option<Self>, DatapathError> {
        Self::set_at(PathBuf::from(format!("{ROOT}/{name}")), value)
    }

    fn set_at(path: PathBuf, value: &str) -> Result<Option<Self>, DatapathError> {
        let unusable = |e| failed(format!("set {} to {value}", path.display()), &e);
        let before = std::fs::read_to_string(&path).map_err(unusable)?.trim().to_owned();
        if before == value {
            return Ok(None);
        }
        std::fs::write(&path, value).map_err(unusable)?;
        Ok(Some(Self { path, before, left: false }))
    }

    /// A setting that an edge before this one changed; none of another place.
    pub(super) fn inherited(noted: &Noted) -> Option<Self> {
        let parts = noted.name.split('/').all(|part| !part.is_empty() && part != "..");
        let path = PathBuf::from(format!("{ROOT}/{}", noted.name));
        parts.then(|| Self { path, before: noted.before.clone(), left: false })
    }

    /// For the edge after this one.
    pub(super) fn noted(&self) -> Option<Noted> {
        let name = self.path.strip_prefix(ROOT).ok()?.to_str()?.to_owned();
        Some(Noted { name, before: self.before.clone() })
    }

    /// It stays as it is.
    pub(super) fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        if let Err(e) = std::fs::write(&self.path, &self.before) {
            tracing::warn!(path = %self.path.display(), value = self.before, error = %e, "not put back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_back_to_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("setting");
        std::fs::write(&path, "1\n").unwrap();
        let read = || std::fs::read_to_string(&path).unwrap().trim().to_owned();
        let changed = Sysctl::set_at(path.clone(), "2").unwrap().unwrap();
        assert_eq!(read(), "2");
        assert!(Sysctl::set_at(path.clone(), "2").unwrap().is_none());
        drop(changed);
        assert_eq!(read(), "1");
    }

    #[test]
    fn what_cannot_be_set_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let error = Sysctl::set_at(folder.path().join("setting"), "2").unwrap_err().to_string();
        assert!(error.contains("setting") && error.contains('2'), "{error}");
    }
}
