//! The way of events to the control plane, over the life of several of them.

use crate::api::Event;
use crate::api::wire::Sender;
use tokio::sync::mpsc;

/// Send events; a new control plane comes as a new sender. Without one, events are lost: nobody waits for them.
///
/// Sending is not cancel safe, and a control plane that does not read must hold up nothing else: so it has a task.
pub(super) async fn send(first: Sender, mut events: mpsc::Receiver<Event>, mut next: mpsc::Receiver<Sender>) {
    let mut current = Some(first);
    loop {
        let event = tokio::select! {
            biased;
            Some(sender) = next.recv() => {
                current = Some(sender);
                continue;
            }
            event = events.recv() => event,
        };
        let Some(event) = event else { return };
        if let Some(sender) = &mut current
            && let Err(error) = sender.send(&event, &[]).await
        {
            tracing::warn!(%error, "the control plane does not take answers");
            current = None;
        }
    }
}
