//! From the reconciler's picture to what is shown of backends' health. Pure.

use super::api::{BackendView, PastView, PoolView, StandingView};
use crate::config::Pool;
use crate::health::{Key, Known, standing};
use crate::reconcile::{HealthNote, Mark, State};
use tls_worker::api::BackendReport;

/// Troubles of one kind that a status tells at the most.
const MAX_TROUBLES: usize = 5;

/// What is known of a backend, put together by the one rule.
pub(super) fn view(
    edge: &State,
    key: &Key,
    mark: Mark,
    note: Option<&HealthNote>,
    report: Option<&BackendReport>,
) -> StandingView {
    let worker = &edge.worker.report;
    let tally = edge.checks.get(key).map(|counts| counts.read()).unwrap_or_default();
    let known = Known {
        mark,
        checked: note.map(|note| note.up),
        ejected: report.map_or(0, |report| report.ejected),
        panic: worker.pools.iter().find(|pool| pool.pool == key.0).map_or(0, |pool| pool.panic),
        threads: worker.threads.len() as u64,
    };
    let past = note.into_iter().flat_map(|note| note.history.iter());
    let past = past.map(|past| PastView {
        up: past.up,
        cause: past.cause.clone(),
        ago_seconds: past.since.elapsed().as_secs(),
    });
    StandingView {
        takes_part: standing(known).words(known.threads),
        ejected: known.ejected,
        against: tally.against,
        trouble: tally.trouble,
        history: past.collect(),
    }
}

/// What is wrong with the backends of a pool that is used.
pub(super) fn troubles(pool: &Pool, view: &PoolView) -> Vec<String> {
    let mut troubles = Vec::new();
    let (up, least) = (view.row.up, pool.balancing.min_up as usize);
    if up == 0 {
        troubles.push(format!("pool {:?} has no backend that may be chosen", pool.name));
    } else if up < least {
        let least = format!("fewer than its min_up of {least}");
        troubles
            .push(format!("pool {:?} has {up} of {} backends that may be chosen, {least}", pool.name, view.row.total));
    }
    let unchecked = |backend: &BackendView| {
        let why = backend.standing.trouble.as_ref()?;
        Some(format!("backend {} of pool {:?} cannot be checked: {why}", backend.address, pool.name))
    };
    troubles.extend(view.backends.iter().filter_map(unchecked).take(MAX_TROUBLES));
    troubles
}
