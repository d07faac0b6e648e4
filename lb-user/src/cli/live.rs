//! `bailey watch`: goes on for a while.

use super::table_forward;
use super::verbs::Out;
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use std::io::Write as _;
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
            let text = match out.json {
                true => serde_json::to_string(&line).unwrap_or_default(),
                false => table_forward::seen(&line),
            };
            // Whoever reads this may have seen enough (`bailey watch | head`).
            let gone = writeln!(std::io::stdout(), "{text}").is_err();
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
