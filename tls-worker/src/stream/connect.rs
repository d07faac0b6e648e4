//! A backend for a connection without HTTP. One that cannot be reached is passed over once.

use super::Client;
use crate::api::RetryOn;
use crate::persist::Pin;
use crate::proxy::send::{self, About};
use crate::stats::{Circuit, Rejection, RetryReason};
use crate::upstream::{Active, Ask, ConnectError, NoPlace, Opened, Outcome, PoolView, UpState, key, open};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// A backend's side.
pub(super) struct Connected {
    pub(super) stream: Opened,
    pub(super) state: Arc<UpState>,
    pub(super) active: Active,
}

/// Connect to a backend of the pool. `through`: see [`open`]. None: there is none, or those that were tried were not
/// reached; counted.
pub(super) async fn connect(client: &Client, pool: &PoolView, about: &About<'_>, through: bool) -> Option<Connected> {
    let header = match pool.proxy_version.map(|version| send::header(version, about)).transpose() {
        Ok(header) => header.unwrap_or_default(),
        Err(error) => {
            tracing::debug!(pool = &*pool.name, %error, "no PROXY header");
            return None;
        }
    };
    let key = pool.wants_key().then(|| key(client.peer.ip().to_string().as_bytes()));
    let mut pin = Pin::by_source(pool, client.peer.ip());
    let mut tried: Vec<SocketAddr> = Vec::new();
    let admitted = match pool.admit() {
        Ok(admitted) => admitted,
        Err(none) => {
            client.state.stats().rejected.inc(reason(none));
            return None;
        }
    };
    loop {
        let ask = Ask { tried: &tried, key, pinned: None, alone: true };
        let (choice, mut active) = match pool.place(ask, &mut pin).await {
            Ok(place) => place,
            Err(none) => {
                if tried.is_empty() {
                    client.state.stats().rejected.inc(reason(none));
                }
                return None;
            }
        };
        let (backend, began) = (&choice.backend, Instant::now());
        match open(pool, backend, &header, through).await {
            Ok((stream, state)) => {
                pool.outcome(&choice, Outcome::Good, began.elapsed());
                active.hold(admitted);
                active.becomes_tunnel();
                return Some(Connected { stream, state, active });
            }
            Err(error) => {
                tracing::debug!(pool = &*pool.name, backend = %backend.address, %error, "no connection");
                if !matches!(error, ConnectError::Drained) {
                    backend.stats.failures.inc(error.failure());
                    pool.outcome(&choice, Outcome::Connect, began.elapsed());
                }
                tried.push(backend.address);
                let more = tried.len() < pool.retry.tries as usize && pool.retry.on.contains(&RetryOn::Connect);
                if !more {
                    return None;
                }
                pool.state.stats.retries.inc(RetryReason::Connect);
            }
        }
    }
}

fn reason(none: NoPlace) -> Rejection {
    match none {
        NoPlace::QueueFull => Rejection::QueueFull,
        NoPlace::QueueTimeout => Rejection::QueueTimeout,
        NoPlace::Circuit(Circuit::Pending) => Rejection::CircuitPending,
        NoPlace::Circuit(_) => Rejection::CircuitRequests,
        NoPlace::Nobody => Rejection::NoBackend,
    }
}
