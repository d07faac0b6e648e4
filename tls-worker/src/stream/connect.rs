//! A backend for a connection without HTTP. One that cannot be reached is passed over once.

use super::Client;
use crate::persist::Pin;
use crate::proxy::send::{self, About};
use crate::stats::Rejection;
use crate::upstream::{Active, Opened, PoolView, UpState, open};
use std::sync::Arc;

/// A backend's side.
pub(super) struct Connected {
    pub(super) stream: Opened,
    pub(super) state: Arc<UpState>,
    pub(super) active: Active,
}

/// Connect to a backend of the pool. `through`: see [`open`]. None: there is none, or two were not reached; counted.
pub(super) async fn connect(client: &Client, pool: &PoolView, about: &About<'_>, through: bool) -> Option<Connected> {
    let header = match pool.proxy_version.map(|version| send::header(version, about)).transpose() {
        Ok(header) => header.unwrap_or_default(),
        Err(error) => {
            tracing::debug!(pool = &*pool.name, %error, "no PROXY header");
            return None;
        }
    };
    let mut pin = Pin::by_source(pool, client.peer.ip());
    let mut failed = None;
    while let Some(choice) = pin.choose(pool, failed, || pool.choose(failed).cloned()) {
        let backend = &choice.backend;
        let active = Active::begin(backend);
        match open(pool, backend, &header, through).await {
            Ok((stream, state)) => return Some(Connected { stream, state, active }),
            Err(error) => {
                backend.stats.failures.inc(error.failure());
                tracing::debug!(pool = &*pool.name, backend = %backend.address, %error, "no connection");
                if failed.replace(backend.address).is_some() {
                    return None;
                }
            }
        }
    }
    if failed.is_none() {
        client.state.stats().rejected.inc(Rejection::NoBackend);
    }
    None
}
