//! Signals, and the service manager.

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
pub(super) enum Ask {
    Reload,
    /// Files of access logs were rotated.
    Reopen,
    /// A new control plane is to take over.
    Upgrade,
    End,
}

pub(super) struct Signals {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.hangup.recv() => Ask::Reload,
            _ = self.user1.recv() => Ask::Reopen,
            _ = self.user2.recv() => Ask::Upgrade,
            _ = self.terminate.recv() => Ask::End,
            _ = self.interrupt.recv() => Ask::End,
        }
    }

    /// Ends with the next wish to end.
    pub(super) async fn end(&mut self) {
        while !matches!(self.next().await, Ask::End) {}
    }
}

/// Tell the service manager, where there is one.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "service manager not told");
    }
}
