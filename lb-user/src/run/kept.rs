//! What is kept in the state directory from one edge to the next.

use super::{CLOSE, RunError};
use crate::config::{self, Config};
use crate::reconcile::Recovered;
use crate::state::{Book, SessionStore};
use crate::supervisor::Sessions;
use tls_worker::api;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What the state directory says of the edge before this one.
pub(super) async fn recover(config: &Config) -> Result<(Recovered, Option<SessionStore>), RunError> {
    let edge = &config.edge;
    let opened = Book::open(edge.state.as_deref(), edge.state_history as usize)?;
    let sessions = Sessions::default();
    let store = match &edge.state {
        Some(state) if edge.state_sessions > 0 => {
            let named = |pool: &config::Pool| api::Pool {
                name: pool.name.clone(),
                persistence: pool.persistence.clone(),
                ..api::Pool::default()
            };
            let pools: Vec<_> = config.pools.iter().map(named).collect();
            Some(SessionStore::open(state, edge.state_sessions, &pools, &sessions).await)
        }
        _ => None,
    };
    let found = opened.found;
    let overlay = found.history.overlay().clone();
    let recovered = Recovered {
        overlay,
        ids: found.ids,
        generation: found.generation,
        sessions,
        book: opened.book,
        ..Recovered::default()
    };
    Ok((recovered, store))
}

/// What is known of sessions is written once more.
pub(super) async fn saved(end: oneshot::Sender<()>, saving: Option<JoinHandle<()>>) {
    drop(end);
    if let Some(saving) = saving
        && timeout(CLOSE, saving).await.is_err()
    {
        tracing::warn!("the last sessions are not saved");
    }
}
