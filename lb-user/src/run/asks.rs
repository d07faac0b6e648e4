//! What signals ask for, carried out.

use super::signals::{Signals, notify};
use crate::privileges;
use crate::reconcile::{Event, OnlyIf, UpgradeError, UpgradeRequest};
use crate::state::Who;
use rustix::process::Signal;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// For a new control plane to become ready, when a signal asks for one.
const UPGRADE: Duration = Duration::from_secs(30);

/// The reconciler logs what came of it.
pub(super) async fn reload(events: &mpsc::Sender<Event>) {
    let now = NotifyState::monotonic_usec_now();
    if let Ok(now) = now {
        notify(&[NotifyState::Reloading, now]);
    }
    let (reply, done) = oneshot::channel();
    if events.send(Event::Reload { who: Who::named("SIGHUP"), only_if: OnlyIf::default(), reply }).await.is_ok() {
        let _ = done.await;
    }
    notify(&[NotifyState::Ready]);
}

/// What came of it is logged by those who carry it out.
pub(super) async fn upgrade_by_signal(events: mpsc::Sender<Event>) {
    let (reply, done) = oneshot::channel();
    let request = UpgradeRequest { binary: None, timeout: UPGRADE };
    if events.send(Event::Upgrade { request, reply }).await.is_ok()
        && let Ok(Err(error @ UpgradeError::Underway)) = done.await
    {
        tracing::warn!(%error, "SIGUSR2");
    }
}

/// Whoever ends the edge means the control plane that has it.
pub(super) fn pass_on_the_end(pid: u32) {
    if let Err(error) = privileges::signal(pid, Signal::TERM) {
        tracing::warn!(%error, pid, "the new control plane is not told to end");
    }
}

/// The new one has everything; what is open here is given its time, unless a signal says that it is over.
pub(super) async fn leave(events: &mpsc::Sender<Event>, grace: Duration, signals: &mut Signals) {
    tracing::info!(grace_seconds = grace.as_secs(), "this control plane ends when its workers have drained");
    let (reply, drained) = oneshot::channel();
    if events.send(Event::Leave { grace, reply }).await.is_ok() {
        tokio::select! {
            _ = drained => {}
            () = signals.end() => tracing::warn!("what is still open is cut"),
        }
    }
    tracing::info!("ended; the edge is the new control plane's");
}
