//! `net.ipv4.tcp_syncookies`: the kernel makes and takes cookies for `edge` whenever it is 2. At 1, which is the
//! default, it does so while a listener's queue is full.

use std::path::{Path, PathBuf};

/// Of the network namespace of the thread that reads or writes it.
const PATH: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const UNCONDITIONAL: &str = "2";

/// The setting, and what it was.
#[derive(Debug)]
pub(super) struct SynCookiesSetting {
    path: PathBuf,
    /// What it was before it was set; none while it is not.
    before: Option<String>,
    /// It could not be set, which has been said.
    failed: bool,
}

impl Default for SynCookiesSetting {
    fn default() -> Self {
        Self { path: PathBuf::from(PATH), before: None, failed: false }
    }
}

impl SynCookiesSetting {
    /// Cookies whenever `edge` asks, or as it was.
    pub(super) fn set(&mut self, on: bool) {
        let result = match (on, &self.before) {
            (true, None) => exchange(&self.path, UNCONDITIONAL).map(|before| self.before = Some(before)),
            (false, Some(before)) => exchange(&self.path, before).map(|_| self.before = None),
            _ => return,
        };
        if let Err(e) = &result
            && !self.failed
        {
            tracing::warn!(
                setting = %self.path.display(),
                error = %e,
                "SYN cookies could not be switched; set net.ipv4.tcp_syncookies by hand: 2 for services with SYN cookies"
            );
        }
        self.failed = result.is_err();
    }
}

/// Write `value`; gives what was there.
fn exchange(path: &Path, value: &str) -> std::io::Result<String> {
    let before = std::fs::read_to_string(path)?.trim().to_owned();
    if before != value {
        std::fs::write(path, value)?;
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_back_to_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tcp_syncookies");
        std::fs::write(&path, "1\n").unwrap();
        let mut setting = SynCookiesSetting { path: path.clone(), ..SynCookiesSetting::default() };
        let read = || std::fs::read_to_string(&path).unwrap().trim().to_owned();
        setting.set(false);
        assert_eq!(read(), "1");
        setting.set(true);
        setting.set(true);
        assert_eq!(read(), "2");
        setting.set(false);
        assert_eq!(read(), "1");
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tcp_syncookies");
        let mut setting = SynCookiesSetting { path: path.clone(), ..SynCookiesSetting::default() };
        setting.set(true);
        assert!(setting.failed && setting.before.is_none());
        std::fs::write(&path, "0").unwrap();
        setting.set(true);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2");
    }
}
