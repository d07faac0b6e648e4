//! Verbs that go on for a while: `watch`, and `drain --wait`.

use super::args::At;
use super::verbs::{Out, apply};
use super::{say, table_forward};
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use crate::reconcile::PoolChange;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at a backend that drains.
const LOOK: Duration = Duration::from_millis(200);
/// A backend of a forwarded service has drained when it was sent nothing for so long.
const QUIET: Duration = Duration::from_secs(2);

/// Print what is dropped, line by line, until there were enough or either side ends.
pub(super) async fn watch(
    request: &WatchRequest,
    count: Option<u64>,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, ClientError> {
    let mut left = count;
    let ended = client
        .watch(request, |line| {
            // Whoever reads this may have seen enough (`bailey watch | head`).
            let gone = !match out.json {
                true => say::print_json(&line, true),
                false => say::print(&(table_forward::seen(&line) + "\n")),
            };
            if let (Some(left), WatchLine::Seen(_)) = (&mut left, &line) {
                *left -= 1;
            }
            if gone || left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
    match ended {
        ControlFlow::Break(()) => Ok(ExitCode::SUCCESS),
        ControlFlow::Continue(()) => {
            Err(ClientError::Refused(Failure { error: "the daemon ended".into(), hint: None, problems: Vec::new() }))
        }
    }
}

/// Drain, and wait until nothing is in flight. What is in flight to a backend of a forwarded service is not known:
/// it has drained when no new flow goes to it and no packet did for a while.
pub(super) async fn drain(at: &At, timeout: Duration, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    let deadline = Instant::now() + timeout;
    let changed = apply(at, PoolChange::Drain, client).await?;
    let mut quiet: Option<(u64, Instant)> = None;
    loop {
        let view: PoolView = client.get(&format!("/v1/pools/{}", at.pool)).await?;
        let backend = view.backends.iter().find(|backend| backend.address == at.address);
        let active = backend.map_or(0, |backend| backend.active);
        let forwarded = backend.map_or(&[][..], |backend| &backend.forwarded);
        let packets: u64 = forwarded.iter().map(|view| view.packets).sum();
        let slots: u32 = forwarded.iter().map(|view| view.slots).sum();
        let since = match quiet {
            Some((before, since)) if before == packets => since,
            _ => Instant::now(),
        };
        quiet = Some((packets, since));
        let silent = forwarded.is_empty() || (slots == 0 && since.elapsed() >= QUIET);
        if active == 0 && silent {
            out.show(&changed, |c| format!("{} {}: drained, generation {}\n", at.pool, at.address, c.generation));
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= deadline {
            let what = match active {
                0 => format!("{} is still sent packets", at.address),
                active => format!("{active} requests to {} are still in flight", at.address),
            };
            return Err(ClientError::Refused(Failure {
                error: format!("{what} after {timeout:?}"),
                hint: Some("it stays draining; wait longer (--timeout), or take it out: bailey pool disable".into()),
                problems: Vec::new(),
            }));
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{AdminSocket, serve};
    use crate::reconcile::{Event, State, testing};
    use tokio::sync::mpsc;

    /// A daemon whose backend has so many slots, and gets a packet at each look up to so many.
    fn daemon(slots: u32, packets: u64) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (events, mut asked) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut looks = 0;
            while let Some(event) = asked.recv().await {
                match event {
                    Event::Pool { change: PoolChange::Drain, reply, .. } => drop(reply.send(Ok(9))),
                    Event::Query { reply, .. } => {
                        looks += 1;
                        let mut state: State = testing::forwarding();
                        let backend = &mut state.counters.forwards[0].backends[0];
                        (backend.slots, backend.packets) = (slots, looks.min(packets));
                        let _ = reply.send(state);
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        tokio::spawn(serve(AdminSocket::bind(&path).unwrap(), events));
        (dir, Client::new(&path))
    }

    async fn drained(slots: u32, packets: u64) -> (Result<ExitCode, ClientError>, Duration) {
        let (_dir, client) = daemon(slots, packets);
        let at = At { pool: "q".into(), address: "10.0.0.7:5353".parse().unwrap() };
        let start = Instant::now();
        let result = drain(&at, Duration::from_secs(30), &client, &Out::new(true)).await;
        (result, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_forwarded_backend_has_drained_when_it_was_sent_nothing_for_a_while() {
        let (result, after) = drained(0, 10).await;
        assert!(result.is_ok(), "{result:?}");
        assert!(after >= QUIET + 9 * LOOK && after < Duration::from_secs(30), "{after:?}");
        // New flows go there still.
        let (result, after) = drained(1, 10).await;
        assert!(result.unwrap_err().to_string().contains("is still sent packets after 30s") && after.as_secs() >= 30);
        // Its flows do not end.
        assert!(drained(0, u64::MAX).await.0.is_err());
    }
}
