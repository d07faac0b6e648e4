//! `net.ipv4.tcp_syncookies`: the kernel makes and takes cookies for `edge` whenever it is 2. At 1, which is the
//! default, it does so while a listener's queue is full.

use crate::datapath::kernel::sysctl::{Noted, Sysctl};

/// Below /proc/sys/net.
pub(in crate::datapath::kernel) const NAME: &str = "ipv4/tcp_syncookies";
const UNCONDITIONAL: &str = "2";

/// The setting, while it is ours.
#[derive(Debug, Default)]
pub(super) struct SynCookiesSetting {
    on: bool,
    /// None: it was what it is to be.
    changed: Option<Sysctl>,
    /// It could not be set, which has been said.
    failed: bool,
}

impl SynCookiesSetting {
    /// As an edge before this one changed it.
    pub(super) fn inherited(noted: Option<&Noted>) -> Self {
        let changed = noted.and_then(Sysctl::inherited);
        Self { on: changed.is_some(), changed, failed: false }
    }

    /// For the edge after this one.
    pub(super) fn noted(&self) -> Option<Noted> {
        self.changed.as_ref().and_then(Sysctl::noted)
    }

    /// It stays as it is.
    pub(super) fn leave(self) {
        if let Some(changed) = self.changed {
            changed.leave();
        }
    }

    /// Cookies whenever `edge` asks, or as it was. What cannot be set is tried again at the next call.
    pub(super) fn set(&mut self, on: bool) {
        if on == self.on {
            return;
        }
        if !on {
            (self.on, self.changed) = (false, None);
            return;
        }
        match Sysctl::set(NAME, UNCONDITIONAL) {
            Ok(changed) => *self = Self { on: true, changed, failed: false },
            Err(error) if !self.failed => {
                tracing::warn!(
                    %error,
                    "SYN cookies could not be switched on; set net.ipv4.tcp_syncookies to 2 by hand for services with SYN cookies"
                );
                self.failed = true;
            }
            Err(_) => {}
        }
    }
}
