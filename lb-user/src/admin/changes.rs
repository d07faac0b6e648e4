//! `/v1/changes`, `/v1/history`, `/v1/diff`: what operators changed, and change.

use super::api::*;
use super::peer::Peer;
use super::refused::Refused;
use super::router::{Answer, ask, json};
use crate::reconcile::{Asked, Event, Overlay, State, words};
use hyper::StatusCode;
use ring::digest::{SHA256, digest};
use tokio::sync::mpsc;

/// Make changes, or say what they would do.
pub(super) async fn make(events: &mpsc::Sender<Event>, peer: Peer, request: ChangesRequest) -> Result<Answer, Refused> {
    let ChangesRequest { changes, only_if, dry_run } = request;
    let asked = Asked { changes, who: peer.who().await, only_if, dry_run };
    let done = ask(events, |reply| Event::Change { asked, reply }).await??;
    let kept = done.kept.map(|path| path.display().to_string());
    let changed = Changed { generation: done.generation, number: done.number, kept, steps: done.steps };
    Ok(json(StatusCode::OK, &changed))
}

/// `query`: `limit=N`.
pub(super) fn history(edge: &State, query: &str) -> Result<HistoryView, Refused> {
    let mut limit = HISTORY_LISTED;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = value.parse().ok().filter(|n| *n >= 1);
        match (&*name, number) {
            ("limit", Some(number)) => limit = number,
            ("limit", None) => {
                return Err(Refused::new(
                    StatusCode::BAD_REQUEST,
                    format!("limit {value:?} is no number from 1"),
                    None,
                ));
            }
            _ => {
                let error = format!("unknown parameter {name:?}");
                return Err(Refused::new(StatusCode::BAD_REQUEST, error, Some("there is `limit`")));
            }
        }
    }
    let row = |record: &std::sync::Arc<crate::state::Record>| HistoryRow {
        number: record.number,
        unix_ms: record.unix_ms,
        who: record.who.clone(),
        what: record.what.clone(),
        generation: record.generation,
    };
    Ok(HistoryView {
        last: edge.history.last(),
        kept: edge.book.place.as_ref().map(|place| place.display().to_string()),
        total: edge.history.records().len(),
        changes: edge.history.records().rev().take(limit).map(row).collect(),
    })
}

/// What differs from the file.
pub(super) fn diff(edge: &State) -> DiffView {
    let config = &edge.config;
    let mut backends = Vec::new();
    for pool in &config.pools {
        let difference = |address, in_file, now| BackendDifference { pool: pool.name.clone(), address, in_file, now };
        let gone = edge.overlay.removed(pool).into_iter().map(|address| difference(address, true, None));
        backends.extend(gone);
        let changed = edge.overlay.effective(pool).into_iter().filter(|backend| backend.changed);
        backends.extend(changed.map(|backend| {
            difference(
                backend.address,
                backend.in_file,
                Some(BackendNow { weight: backend.weight, mark: backend.mark }),
            )
        }));
    }
    let rules = edge.overlay.rules().iter().map(|((service, network), rule)| RuleDifference {
        service: service.clone(),
        network: *network,
        allow: rule.allow,
        for_a_time: rule.until.is_some(),
        in_file: config.prefixes.get(service).and_then(|rules| rules.get(network)).copied(),
    });
    DiffView {
        file: config.origin.path.display().to_string(),
        digest: file_digest(config.origin.text.as_bytes()),
        kept: edge.book.place.as_ref().map(|place| place.display().to_string()),
        rows: words::between(config, &Overlay::default(), &edge.overlay),
        backends,
        rules: rules.collect(),
    }
}

/// What tells one text of a file from another.
pub fn file_digest(text: &[u8]) -> String {
    digest(&SHA256, text).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
