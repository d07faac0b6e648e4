//! Families of what a pool does about backends that are full, slow or bad. Pure.

use super::family::Family;
use crate::reconcile::State;
use tls_worker::api::PoolReport;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let pools = &edge.worker.report.pools;
    let each = |mut family: Family, value: fn(&PoolReport) -> u64| {
        for row in pools {
            family.add([("pool", row.pool.clone())], value(row));
        }
        family
    };
    let labelled = |mut family: Family, label, value: fn(&PoolReport) -> &[(String, u64)]| {
        for row in pools {
            for (word, count) in value(row) {
                family.add([("pool", row.pool.clone()), (label, word.clone())], *count);
            }
        }
        family
    };
    let (gauge, counter) = (Family::gauge, Family::counter);
    let mut waited = Family::histogram("bailey_pool_queue_duration_seconds", "How long requests waited in the queue.");
    for row in pools.iter().filter(|row| row.wait_seconds.count() > 0) {
        waited.add_histogram([("pool", row.pool.clone())], &row.wait_seconds);
    }
    let mut ejected =
        gauge("bailey_backend_ejected", "Worker threads that leave a backend out because of its answers.");
    let mut ejections = counter("bailey_backend_ejections_total", "How often a worker thread began to.");
    for row in &edge.worker.report.backends {
        let labels = || [("pool", row.pool.clone()), ("backend", row.backend.to_string())];
        ejected.add(labels(), row.ejected);
        for (cause, count) in &row.ejections {
            let [pool, backend] = labels();
            ejections.add([pool, backend, ("cause", cause.clone())], *count);
        }
    }
    vec![
        each(gauge("bailey_pool_requests_active", "Requests in flight."), |row| row.active),
        each(gauge("bailey_pool_queue_length", "Requests that wait for a backend now."), |row| row.waiting),
        each(counter("bailey_pool_queued_total", "Requests that had to wait for a backend."), |row| row.waits),
        each(counter("bailey_pool_queue_overflows_total", "Requests that found the queue full."), |row| row.overflows),
        each(counter("bailey_pool_queue_timeouts_total", "Requests that waited for too long."), |row| row.timeouts),
        waited,
        labelled(counter("bailey_retries_total", "Requests tried again."), "reason", |row| &row.retries),
        each(counter("bailey_retries_denied_total", "Retries that the budget did not allow."), |row| row.denied),
        labelled(counter("bailey_hedges_total", "Second tries beside the first."), "result", |row| &row.hedges),
        labelled(counter("bailey_circuit_opens_total", "Requests that met a bound of their pool."), "limit", |row| {
            &row.circuit
        }),
        each(gauge("bailey_pool_panic", "Worker threads that take all backends, as too few may be chosen."), |row| {
            row.panic
        }),
        ejected,
        ejections,
    ]
}
