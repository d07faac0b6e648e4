//! What is written to the terminal, and in which colours. Texts carry their colours; where nobody sees them (a pipe, a file,
//! `NO_COLOR`, `--color never`) they are taken off on the way out.

use crate::admin::api::Failure;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep};

/// Whoever waits for the daemon is told so after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a text is to its reader. Whatever is as it should be has no colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    /// As it should be.
    Plain,
    /// Above others.
    Heading,
    /// Good, where the opposite was to be feared.
    Good,
    /// Somebody should look.
    Warning,
    /// It does not serve.
    Bad,
}

/// The text in its colour.
pub(super) fn paint(tone: Tone, text: &str) -> String {
    let style = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Heading => Style::new().bold(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Warning => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
    };
    format!("{style}{text}{style:#}")
}

/// Take `--color` for all that is written from here on; `auto` leaves it to the terminal and to `NO_COLOR`, `CLICOLOR`,
/// `CLICOLOR_FORCE`.
pub(super) fn choose(color: clap::ColorChoice) {
    match color {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    }
    .write_global();
}

/// Whether standard error shows colours.
pub(super) fn stderr_is_coloured() -> bool {
    AutoStream::choice(&std::io::stderr()) != ColorChoice::Never
}

/// Whether standard output shows colours.
pub(super) fn stdout_is_coloured() -> bool {
    AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

/// Write to standard output. False: nobody reads it any more (`bailey status | head -1`), which is no error.
pub(super) fn print(text: &str) -> bool {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Write JSON to standard output, on many lines or on one.
pub(super) fn print_json<T: Serialize>(value: &T, one_line: bool) -> bool {
    let text = if one_line { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
    print(&(text.unwrap_or_default() + "\n"))
}

/// Write to standard error.
pub(super) fn complain(text: &str) {
    // Whoever closed it does not want to know.
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// What went wrong and what to do, for people on standard error, for programs on standard output. The exit code is 1.
pub(super) fn refuse(failure: &Failure, json: bool) -> ExitCode {
    if json {
        print_json(failure, false);
    } else {
        complain(&format!("{} {}\n", paint(Tone::Bad, "bailey:"), failure.error));
        if let Some(hint) = &failure.hint {
            complain(&format!("  {hint}\n"));
        }
    }
    ExitCode::FAILURE
}

/// The same, from words.
pub(super) fn fail(error: impl ToString, hint: Option<&str>, json: bool) -> ExitCode {
    refuse(&Failure { error: error.to_string(), hint: hint.map(str::to_owned), ..Failure::default() }, json)
}

/// Await, and on a terminal say so when it takes long.
pub(super) async fn patiently<T>(work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let (mut work, start) = (std::pin::pin!(work), Instant::now());
    tokio::select! {
        done = &mut work => return done,
        () = sleep(PATIENCE) => {}
    }
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            done = &mut work => {
                complain(ERASE_LINE);
                return done;
            }
            _ = seconds.tick() => complain(&format!("{ERASE_LINE}waiting for the daemon, {}s", start.elapsed().as_secs())),
        }
    }
}

/// To the begin of the line, and nothing on it (ECMA-48).
const ERASE_LINE: &str = "\r\x1b[K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_it_should_be_has_no_colour() {
        assert_eq!(paint(Tone::Plain, "up"), "up");
        for tone in [Tone::Heading, Tone::Good, Tone::Warning, Tone::Bad] {
            let painted = paint(tone, "x");
            assert!(
                painted.starts_with("\x1b[") && painted.contains('x') && painted.ends_with("\x1b[0m"),
                "{painted:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_changes_no_answer() {
        assert_eq!(patiently(async { 1 }).await, 1);
        let slow = async {
            sleep(Duration::from_secs(30)).await;
            2
        };
        assert_eq!(patiently(slow).await, 2);
    }
}
