//! What is shown of backends' health.

use super::table::{ago, table};
use crate::admin::api::BackendView;

/// Earlier states that are shown.
const MAX_ROWS: usize = 20;

/// What the checks say of a backend.
pub(super) fn checks(backend: &BackendView) -> String {
    let mut cell = match (&backend.cause, backend.since_seconds) {
        (Some(cause), Some(since)) => format!("{} ({cause}; {} ago)", backend.health, ago(since)),
        _ => backend.health.clone(),
    };
    let standing = &backend.standing;
    if standing.against > 0 {
        cell += &format!("; {} in a row say otherwise", standing.against);
    }
    if let Some(trouble) = &standing.trouble {
        cell += &format!("; cannot be checked: {trouble}");
    }
    cell
}

/// What they said before, the newest first.
pub(super) fn history(backends: &[BackendView]) -> String {
    let rows = backends.iter().flat_map(|backend| backend.standing.history.iter().map(move |past| (past, backend)));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(past, _)| past.ago_seconds);
    let cells = rows.into_iter().take(MAX_ROWS).map(|(past, backend)| {
        let state = if past.up { "up" } else { "down" };
        vec![backend.address.to_string(), format!("{} ago", ago(past.ago_seconds)), state.into(), past.cause.clone()]
    });
    table(&["BEFORE", "SINCE", "CHECKS", "CAUSE"], cells)
}
