//! Settings under /proc/sys/net, of the network namespace of the calling thread; put back to what they were.

use std::path::PathBuf;

use super::error::failed;
use crate::datapath::DatapathError;

/// A setting that was changed.
#[derive(Debug)]
pub(super) struct Sysctl {
    path: PathBuf,
    before: String,
}

impl Sysctl {
    /// Set `net/NAME` to `value`; none when it is that already.
    pub(super) fn set(name: &str, value: &str) -> Result<Option<Self>, DatapathError> {
        let path = PathBuf::from(format!("/proc/sys/net/{name}"));
        let unusable = |e| failed(format!("set {} to {value}", path.display()), &e);
        let before = std::fs::read_to_string(&path).map_err(unusable)?.trim().to_owned();
        if before == value {
            return Ok(None);
        }
        std::fs::write(&path, value).map_err(unusable)?;
        Ok(Some(Self { path, before }))
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Err(e) = std::fs::write(&self.path, &self.before) {
            tracing::warn!(path = %self.path.display(), value = self.before, error = %e, "not put back");
        }
    }
}
