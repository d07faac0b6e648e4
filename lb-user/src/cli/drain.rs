//! `bailey pool drain --wait`: drain, and tell what is left until nothing is.

use super::args::At;
use super::table::ago;
use super::verbs::{Out, apply};
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use crate::reconcile::PoolChange;
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at a backend that drains.
const LOOK: Duration = Duration::from_millis(200);
/// Between two lines about what is left.
const TELL: Duration = Duration::from_secs(1);
/// A backend of a forwarded service has drained when it was sent nothing for so long.
const QUIET: Duration = Duration::from_secs(2);
/// What is cut is gone after so long.
const SLACK: Duration = Duration::from_secs(5);

/// How it ended.
#[derive(Debug, Serialize)]
struct Drained {
    generation: u64,
    /// In flight when its time was over.
    cut_requests: u64,
    cut_tunnels: u64,
    seconds: u64,
}

/// What is left on the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    requests: u64,
    tunnels: u64,
    sessions: Option<u64>,
    slots: u32,
}

impl Left {
    fn of(backend: &BackendView) -> Self {
        Left {
            requests: backend.active.saturating_sub(backend.tunnels),
            tunnels: backend.tunnels,
            sessions: backend.sessions,
            slots: backend.forwarded.iter().map(|view| view.slots).sum(),
        }
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests, {} tunnels left", self.requests, self.tunnels)?;
        if let Some(sessions) = self.sessions {
            write!(f, ", {sessions} sessions known")?;
        }
        if self.slots > 0 {
            write!(f, ", {} slots of forwarded services lead there", self.slots)?;
        }
        Ok(())
    }
}

/// Drain, and wait until nothing is in flight, which the end of the drain's time sees to. What is in flight to a backend
/// of a forwarded service is not known: it has drained when no new flow goes to it and no packet did for a while.
pub(super) async fn drain(
    at: &At,
    timeout: Option<Duration>,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, ClientError> {
    let began = Instant::now();
    let view = look(at, client).await?;
    let before = find(at, &view).cloned();
    let seconds = timeout.map(|timeout| timeout.as_secs() as u32);
    let changed = apply(at, PoolChange::Drain { seconds }, client).await?;
    let time = timeout.unwrap_or(Duration::from_secs(view.drain_seconds)) + SLACK;
    let mut quiet: Option<(u64, Instant)> = None;
    let mut told: Option<(Instant, Left)> = None;
    loop {
        let view = look(at, client).await?;
        let Some(backend) = find(at, &view) else { return Ok(gone(at, out)) };
        let left = Left::of(backend);
        let packets: u64 = backend.forwarded.iter().map(|view| view.packets).sum();
        let since = match quiet {
            Some((before, since)) if before == packets => since,
            _ => Instant::now(),
        };
        quiet = Some((packets, since));
        let silent = backend.forwarded.is_empty() || (left.slots == 0 && since.elapsed() >= QUIET);
        if backend.active == 0 && silent {
            let cut = |count: fn(&BackendView) -> u64| count(backend).saturating_sub(before.as_ref().map_or(0, count));
            let drained = Drained {
                generation: changed.generation,
                cut_requests: cut(|backend| backend.cut_requests),
                cut_tunnels: cut(|backend| backend.cut_tunnels),
                seconds: began.elapsed().as_secs(),
            };
            out.show(&drained, |drained| words(at, drained));
            return Ok(ExitCode::SUCCESS);
        }
        if began.elapsed() >= time {
            let what = match backend.active {
                0 => format!("{} is still sent packets", at.address),
                _ => format!("{}: {left}", at.address),
            };
            return Err(ClientError::Refused(Failure {
                error: format!("{what} after {time:?}"),
                hint: Some("it stays draining; wait longer (--timeout), or take it out: bailey pool disable".into()),
                ..Failure::default()
            }));
        }
        let due = told.as_ref().is_none_or(|(at, before)| at.elapsed() >= TELL && *before != left);
        if due && !out.json {
            let when = backend.drain_left_seconds.map(|left| format!("; cut in {}", ago(left))).unwrap_or_default();
            eprintln!("{} {}: {left}{when}", at.pool, at.address);
            told = Some((Instant::now(), left));
        }
        sleep(LOOK).await;
    }
}

async fn look(at: &At, client: &Client) -> Result<PoolView, ClientError> {
    client.get(&format!("/v1/pools/{}", at.pool)).await
}

/// The backend; none: it is there no more.
fn find<'v>(at: &At, view: &'v PoolView) -> Option<&'v BackendView> {
    view.backends.iter().find(|backend| backend.address == at.address)
}

fn gone(at: &At, out: &Out) -> ExitCode {
    let what = format!("{} {}: it is gone from the pool", at.pool, at.address);
    out.show(&serde_json::json!({ "gone": true }), |_| what + "\n");
    ExitCode::SUCCESS
}

fn words(at: &At, drained: &Drained) -> String {
    let mut text = format!("{} {}: drained, generation {}", at.pool, at.address, drained.generation);
    if drained.cut_requests + drained.cut_tunnels > 0 {
        text += &format!("; {} requests and {} tunnels were cut", drained.cut_requests, drained.cut_tunnels);
    }
    text + "\n"
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
