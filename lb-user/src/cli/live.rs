//! `bailey watch`: goes on for a while.

use super::verbs::Out;
use super::{say, table_forward};
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use std::ops::ControlFlow;
use std::process::ExitCode;

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
            Err(ClientError::Refused(Failure { error: "the daemon ended".into(), ..Failure::default() }))
        }
    }
}
