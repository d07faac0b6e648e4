//! `/v1/sessions/POOL`: who a pool's persistence knows.

use super::api::{MAX_SESSIONS_LISTED, SESSIONS_LISTED, SessionList, SessionRow};
use super::refused::Refused;
use crate::config::Pool;
use crate::reconcile::State;
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tls_worker::api::PersistBy;

/// The pool's persistence has a table, or is none of them.
pub(super) fn known(edge: &State, name: &str) -> Result<(), Refused> {
    let Some(pool) = edge.config.pool(name) else {
        return Err(super::router::unknown("pool", name, edge.config.pools.iter().map(|p| p.name.as_str())));
    };
    let (error, hint) = match &pool.persistence {
        None => ("has no persistence", "add a table [pool.NAME.persistence]"),
        Some(persistence) if matches!(persistence.by, PersistBy::Cookie(_)) => {
            ("seals its cookies, and keeps no table", "clients forget theirs; new keys end every one of them")
        }
        Some(_) => return Ok(()),
    };
    Err(Refused::new(StatusCode::CONFLICT, format!("pool {name:?} {error}"), Some(hint)))
}

/// How many clients of a pool are known to be with each of these backends; none: its persistence has no table.
pub(super) fn leading_to(edge: &State, pool: &Pool, backends: &[SocketAddr]) -> BTreeMap<SocketAddr, u64> {
    let table = pool.persistence.as_ref().is_some_and(|persistence| !matches!(persistence.by, PersistBy::Cookie(_)));
    if !table || backends.is_empty() {
        return BTreeMap::new();
    }
    backends.iter().copied().zip(edge.worker.sessions.count(&pool.name, backends)).collect()
}

/// `query`: `limit=N` and `after=KEY`.
pub(super) fn list(edge: &State, pool: &str, query: &str) -> Result<SessionList, Refused> {
    known(edge, pool)?;
    let (mut limit, mut after) = (SESSIONS_LISTED, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" => after = Some(value.into_owned()),
            "limit" => {
                limit = value.parse().ok().filter(|n| (1..=MAX_SESSIONS_LISTED).contains(n)).ok_or_else(|| {
                    let error = format!("limit {value:?} is not a number from 1 to {MAX_SESSIONS_LISTED}");
                    Refused::new(StatusCode::BAD_REQUEST, error, None)
                })?;
            }
            _ => {
                let error = format!("unknown parameter {name:?}");
                return Err(Refused::new(StatusCode::BAD_REQUEST, error, Some("there are `limit` and `after`")));
            }
        }
    }
    let (sessions, total) = edge.worker.sessions.list(pool, after.as_deref(), limit);
    let row = |session: tls_worker::api::Session| SessionRow {
        key: session.key,
        backend: session.backend,
        idle_seconds: session.idle_ms / 1_000,
    };
    Ok(SessionList { pool: pool.to_owned(), total, sessions: sessions.into_iter().map(row).collect() })
}
