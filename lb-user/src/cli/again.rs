//! `--watch`: a table again and again, until somebody stops it.

use super::args::{CertVerb, DenyVerb, PoolVerb, ServiceVerb, Verb};
use super::args_change::ChangeVerb;
use super::args_session::SessionVerb;
use super::verbs::{Out, carry_out};
use super::{say, screen};
use crate::admin::client::Client;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

/// What `--watch` means without a number.
pub(super) const PERIOD: &str = "2";

/// Seconds, from a tenth to an hour.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    let help = "write seconds, 0.1 to 3600, and the option after the verb: bailey status --watch 2";
    seconds.map(Duration::from_secs_f64).ok_or_else(|| help.into())
}

/// Whether a verb only looks, so that it can be done again and again.
pub(super) fn looks(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Status
            | Verb::Service(ServiceVerb::List | ServiceVerb::Show { .. })
            | Verb::Pool(PoolVerb::List | PoolVerb::Show { .. })
            | Verb::Session(SessionVerb::List { .. })
            | Verb::Cert(CertVerb::List | CertVerb::Show { .. })
            | Verb::Deny(DenyVerb::List { .. })
            | Verb::Flow { .. }
            | Verb::Change(ChangeVerb::Diff | ChangeVerb::History { .. })
    )
}

/// Until it is interrupted. On a terminal a daemon that is gone is told and waited for; elsewhere it is the end.
pub(super) async fn again(verb: &Verb, every: Duration, client: &Client, out: &Out) -> ExitCode {
    loop {
        if let Err(error) = carry_out(verb.clone(), client, out).await {
            if !out.on_screen() {
                return out.refused(&error);
            }
            let hint = error.hint().unwrap_or_default();
            out.draw(&format!("{} {error}\n  {hint}\n", say::paint(say::Tone::Bad, "bailey:")));
        }
        if out.nobody_reads() {
            return ExitCode::SUCCESS;
        }
        sleep(every).await;
    }
}

/// What stands above it on a screen.
pub(super) fn title(every: Duration) -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    screen::head(&format!("bailey {}", words.join(" ")), every)
}
