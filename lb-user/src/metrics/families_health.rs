//! Families of health checks. Pure.

use super::family::Family;
use crate::reconcile::{State, state};
use std::collections::BTreeMap;
use tls_worker::api::{BackendState, Histogram};

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut checks = Family::counter("bailey_health_checks_total", "Health checks done.");
    let mut changes = Family::counter("bailey_health_changes_total", "Changes of what a backend's checks say.");
    let mut took = Family::histogram("bailey_health_check_duration_seconds", "How long health checks took.");
    let mut by_pool: BTreeMap<&str, Histogram> = BTreeMap::new();
    for (key, counts) in &edge.checks {
        let labels = || [("pool", key.0.clone()), ("backend", key.1.to_string())];
        let tally = counts.read();
        for (result, count) in [("good", tally.good), ("bad", tally.bad), ("unable", tally.unable)] {
            let [pool, backend] = labels();
            checks.add([pool, backend, ("result", result.into())], count);
        }
        changes.add(labels(), edge.health.get(key).map_or(0, |note| note.changes));
        by_pool.entry(&key.0).or_default().merge(&tally.seconds);
    }
    for (pool, seconds) in by_pool {
        took.add_histogram([("pool", pool.into())], &seconds);
    }
    let mut families = vec![checks, changes, took];
    let busy = &edge.checking;
    for (name, help, value) in [
        ("bailey_health_probes", "Backends that are checked; pools that ask one the same count once.", busy.probes()),
        ("bailey_health_checks_running", "Health checks that run now.", busy.running()),
        ("bailey_health_checks_limit", "How many may run at once: max_health_checks.", busy.most()),
    ] {
        let mut gauge = Family::gauge(name, help);
        gauge.add([], value);
        families.push(gauge);
    }
    let mut late =
        Family::counter("bailey_health_checks_late_total", "Checks begun over a second after they were due.");
    late.add([], busy.late());
    families.push(late);
    let mut least = Family::gauge("bailey_pool_min_up", "Backends of a pool that are to be up at least.");
    let mut up = Family::gauge("bailey_pool_backends_up", "Backends of a pool that may be chosen.");
    for pool in &edge.config.pools {
        let backends = edge.overlay.effective(pool).into_iter();
        let chosen = backends.filter(|backend| {
            let checked = edge.health.get(&(pool.name.clone(), backend.address)).map(|note| note.up);
            state(backend.mark, checked) == BackendState::Up
        });
        up.add([("pool", pool.name.clone())], chosen.count() as u64);
        least.add([("pool", pool.name.clone())], u64::from(pool.balancing.min_up));
    }
    families.extend([up, least]);
    families
}
