//! What is shown of names of backends. Pure.

use super::api::NameView;
use crate::config::Pool;
use crate::reconcile::State;
use std::collections::BTreeSet;
use std::time::SystemTime;
use tokio::time::Instant;

/// The names of a pool.
pub(super) fn names(edge: &State, pool: &Pool) -> Vec<NameView> {
    let now = Instant::now();
    let view = |named: &crate::config::NamedBackend| {
        let note = edge.names.get(&named.host).cloned().unwrap_or_default();
        let age = note.answered.and_then(|at| SystemTime::now().duration_since(at).ok());
        NameView {
            name: named.to_string(),
            addresses: note.addresses.into_iter().collect(),
            answered_seconds: age.map(|age| age.as_secs()),
            next_seconds: note.next.map(|next| next.saturating_duration_since(now).as_secs()),
            failing_seconds: note.failing.as_ref().map(|(since, _)| now.saturating_duration_since(*since).as_secs()),
            error: note.failing.map(|(_, why)| why),
            empty_seconds: note.empty_since.map(|since| now.saturating_duration_since(since).as_secs()),
        }
    };
    pool.names.iter().map(view).collect()
}

/// What does not go as it should.
pub(super) fn troubles(edge: &State) -> Vec<String> {
    let used: BTreeSet<&str> = edge.config.hosts();
    let failing = edge.names.iter().filter(|(host, _)| used.contains(host.as_str()));
    let trouble = |(host, note): (&String, &crate::names::Note)| {
        let (since, why) = note.failing.as_ref()?;
        let had = match note.addresses.len() {
            0 => "it has no address".to_owned(),
            1 => "the address that it had stays".to_owned(),
            n => format!("the {n} addresses that it had stay"),
        };
        Some(format!("the name {host:?} cannot be looked up since {}s ({why}); {had}", since.elapsed().as_secs()))
    };
    failing.filter_map(trouble).collect()
}
