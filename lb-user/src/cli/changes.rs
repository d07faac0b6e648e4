//! Changes at run time: made, looked at, taken back.

use super::args::{Cli, DenyVerb, PoolVerb, Verb};
use super::args_change::{ChangeVerb, How};
use super::save;
use super::table::{ago, table};
use super::verbs::Out;
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use crate::reconcile::PoolChange;
use clap::Parser as _;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest file of changes, bytes; the daemon takes no more at once.
const MAX_FILE: u64 = 1 << 20;

pub(super) async fn change(verb: ChangeVerb, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    match verb {
        ChangeVerb::Diff => {
            let diff: DiffView = client.get("/v1/diff").await?;
            out.show(&diff, differences);
        }
        ChangeVerb::Save { dry_run } => save::save(dry_run, client, out).await?,
        ChangeVerb::History { limit } => {
            let history: HistoryView = client.get(&format!("/v1/history?limit={limit}")).await?;
            out.show(&history, |history| self::history(history, SystemTime::now()));
        }
        ChangeVerb::Reset { pool, how } => {
            let what = pool.as_ref().map_or_else(|| "reset".into(), |pool| format!("pool {pool}: reset"));
            make(vec![Change::Reset { pool }], &how, &what, client, out).await?;
        }
        ChangeVerb::Rollback { number, how } => {
            let what = format!("as after change {number}");
            make(vec![Change::Rollback { number }], &how, &what, client, out).await?;
        }
        ChangeVerb::Apply { file, how } => {
            let changes = read(&file)?;
            let lines: Vec<usize> = changes.iter().map(|(line, _)| *line).collect();
            let what = format!("{} changes", changes.len());
            let changes = changes.into_iter().map(|(_, change)| change).collect();
            make(changes, &how, &what, client, out).await.map_err(|error| placed(error, &file, &lines))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn make(changes: Vec<Change>, how: &How, what: &str, client: &Client, out: &Out) -> Result<(), ClientError> {
    let request = ChangesRequest { changes, only_if: how.unless.only_if(), dry_run: how.dry_run };
    let changed: Changed = client.post("/v1/changes", &request).await?;
    out.show(&changed, |changed| {
        let mut text: String = changed.steps.iter().map(|step| format!("{step}\n")).collect();
        if changed.steps.is_empty() {
            text += "nothing differs from what is in force\n";
        }
        text + &match how.dry_run {
            true => format!("nothing was done; generation {}\n", changed.generation),
            false => made(what, changed),
        }
    });
    Ok(())
}

/// `WHAT, generation N`, and where it does not last, that.
pub(super) fn made(what: &str, changed: &Changed) -> String {
    let mut text = format!("{what}, generation {}\n", changed.generation);
    if changed.kept.is_none() {
        text += "  it holds until the daemon ends: to keep changes over a restart, set `state` under [edge]\n";
    }
    text
}

/// A refusal of one line says which.
fn placed(error: ClientError, file: &Path, lines: &[usize]) -> ClientError {
    match error {
        ClientError::Refused(failure) => {
            let line = failure.change.and_then(|index| lines.get(index));
            let error = match line {
                Some(line) => format!("{}:{line}: {}", file.display(), failure.error),
                None => failure.error,
            };
            ClientError::Refused(Failure { error, ..failure })
        }
        other => other,
    }
}

/// Changes and their lines.
fn read(file: &Path) -> Result<Vec<(usize, Change)>, ClientError> {
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::Read::take(std::io::stdin(), MAX_FILE + 1)),
        _ => {
            std::fs::File::open(file).and_then(|file| std::io::read_to_string(std::io::Read::take(file, MAX_FILE + 1)))
        }
    };
    // A part of it would be another transaction.
    let text = text.and_then(|text| match text.len() as u64 > MAX_FILE {
        true => Err(std::io::Error::other(format!("longer than {MAX_FILE} bytes"))),
        false => Ok(text),
    });
    let text = text.map_err(|error| refused(format!("cannot read {}: {error}", file.display()), None))?;
    parse(&text).map_err(|(line, why)| {
        let hint = "a line is a change, such as: pool weight web 10.0.0.1:80 5, or: deny add 192.0.2.0/24 --for 1h";
        refused(format!("{}:{line}: {why}; nothing was changed", file.display()), Some(hint))
    })
}

fn parse(text: &str) -> Result<Vec<(usize, Change)>, (usize, String)> {
    let mut changes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let bad = |why: String| (index + 1, why);
        let words = shlex::split(line).ok_or_else(|| bad("a quote is not closed".into()))?;
        if words.is_empty() {
            continue;
        }
        let verb = Cli::try_parse_from(["bailey".to_owned()].into_iter().chain(words)).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            bad(first.strip_prefix("error: ").unwrap_or(first).to_owned())
        })?;
        changes.push((index + 1, of(verb.verb).map_err(bad)?));
    }
    Ok(changes)
}

/// The change that a verb stands for.
fn of(verb: Verb) -> Result<Change, String> {
    match verb {
        Verb::Pool(PoolVerb::Drain { wait: true, .. }) => Err("a transaction does not wait: leave --wait out".into()),
        Verb::Pool(verb) => match pool(verb) {
            Some((at, change, _)) => Ok(Change::Pool { pool: at.pool, address: at.address, change }),
            None => Err("this changes nothing".into()),
        },
        Verb::Deny(verb) => rule(verb).map(|(change, _)| Change::Rule(change)).ok_or("this changes nothing".into()),
        Verb::Change(ChangeVerb::Reset { pool, .. }) => Ok(Change::Reset { pool }),
        Verb::Change(ChangeVerb::Rollback { number, .. }) => Ok(Change::Rollback { number }),
        _ => Err("only changes of pools and rules, reset and rollback can stand in a transaction".into()),
    }
}

/// What a verb about a pool changes, and the word for it when it is done; none: it only looks.
pub(super) fn pool(verb: PoolVerb) -> Option<(super::args::At, PoolChange, &'static str)> {
    Some(match verb {
        PoolVerb::List | PoolVerb::Show { .. } => return None,
        PoolVerb::Add { at, weight } => (at, PoolChange::Add { weight }, "added"),
        PoolVerb::Remove { at } => (at, PoolChange::Remove, "removed"),
        PoolVerb::Drain { at, timeout, .. } => {
            let seconds = timeout.map(|timeout| timeout.as_secs() as u32);
            (at, PoolChange::Drain { seconds }, "draining")
        }
        PoolVerb::Enable { at } => (at, PoolChange::Enable, "enabled"),
        PoolVerb::Disable { at } => (at, PoolChange::Disable, "disabled"),
        PoolVerb::Weight { at, weight } => (at, PoolChange::Weight { weight }, "weighted"),
    })
}

/// The same about a rule.
pub(super) fn rule(verb: DenyVerb) -> Option<(PrefixChange, String)> {
    Some(match verb {
        DenyVerb::List { .. } => return None,
        DenyVerb::Add { network, allow, service, period, .. } => {
            let seconds = period.map(|period| period.as_secs().max(1) as u32);
            let done = format!("{network}: {}", if allow { "allowed" } else { "denied" });
            (PrefixChange::Add { service, network, allow, seconds }, done)
        }
        DenyVerb::Remove { network, service, .. } => {
            (PrefixChange::Remove { service, network }, format!("{network}: rule removed"))
        }
    })
}

pub(super) fn refused(error: String, hint: Option<&str>) -> ClientError {
    ClientError::Refused(Failure { error, hint: hint.map(Into::into), ..Failure::default() })
}

fn differences(diff: &DiffView) -> String {
    if diff.rows.is_empty() {
        return format!("nothing differs from {}\n", diff.file);
    }
    let word = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".into());
    let row = |row: &Row| vec![row.of.clone(), row.what.clone(), word(&row.before), word(&row.after)];
    let mut text = table(&["OF", "WHAT", "FILE", "NOW"], diff.rows.iter().map(row));
    let _ = match &diff.kept {
        Some(place) => writeln!(text, "kept in {place}; into {}: bailey save; away with it: bailey reset", diff.file),
        None => writeln!(text, "it holds until the daemon ends; into {}: bailey save", diff.file),
    };
    text
}

fn history(history: &HistoryView, now: SystemTime) -> String {
    if history.changes.is_empty() {
        return "nothing was changed\n".into();
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let row = |row: &HistoryRow| {
        let more = row.what.len().saturating_sub(1);
        let mut what = row.what.first().cloned().unwrap_or_default();
        if more > 0 {
            let _ = write!(what, " (and {more} more)");
        }
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(row.unix_ms / 1000).unwrap_or(0));
        let time = time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default();
        let ago = ago(now.saturating_sub(row.unix_ms) / 1000);
        vec![row.number.to_string(), time, ago, row.who.to_string(), row.generation.to_string(), what]
    };
    let mut text = table(&["CHANGE", "TIME", "AGO", "WHO", "GENERATION", "WHAT"], history.changes.iter().map(row));
    if history.changes.len() < history.total {
        let _ = writeln!(text, "the last {} of {}; more: --limit", history.changes.len(), history.total);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_changes_is_read_in_the_words_of_the_command_line() {
        let text = "# a comment\n\npool weight web 10.0.0.1:80 5 # and one behind\n  deny add 192.0.2.0/24 --for 1h --service 'web'\nreset --pool p\n";
        let changes = parse(text).unwrap();
        let lines: Vec<usize> = changes.iter().map(|(line, _)| *line).collect();
        let words: Vec<String> = changes.iter().map(|(_, change)| change.words()).collect();
        assert_eq!(lines, [3, 4, 5]);
        assert_eq!(
            words,
            ["pool weight web 10.0.0.1:80 5", "deny add 192.0.2.0/24 --for 3600s --service web", "reset --pool p"]
        );
        // What a history says of a change can be typed.
        assert_eq!(parse(&words.join("\n")).unwrap().len(), 3);
        for (bad, line, why) in [
            ("pool list\n", 1, "changes nothing"),
            ("\nstatus\n", 2, "only changes"),
            ("pool drain web\n", 1, "required"),
            ("pool weight web 10.0.0.1:80 900\n", 1, "900"),
            ("pool drain 'web\n", 1, "quote"),
        ] {
            let (at, said) = parse(bad).unwrap_err();
            assert!(at == line && said.contains(why), "{bad}: {at}: {said}");
        }
    }

    #[test]
    fn a_refused_change_is_told_with_its_line() {
        let failure = Failure { error: "no".into(), change: Some(1), ..Failure::default() };
        let error = placed(ClientError::Refused(failure), Path::new("f"), &[3, 7]);
        assert_eq!(error.to_string(), "f:7: no");
    }
}
