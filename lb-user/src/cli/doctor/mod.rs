//! `bailey doctor`: whether this host can be an edge. What is looked at stands in [`host`], what is thought of it in
//! [`judge`] and [`config`]; each finding that is not good says what to do.

mod config;
mod host;
mod judge;
#[cfg(test)]
mod tests;

use super::say::{self, Tone, paint};
use crate::admin::api::Status;
use crate::admin::client::{Client, ClientError};
use host::Facts;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The config that is looked at where none is named.
const CONFIG: &str = "/etc/bailey/bailey.toml";

/// What is thought of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// Good.
    Ok,
    /// An edge runs, but somebody should look.
    Warn,
    /// An edge does not run, or not as its config says.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// In a word.
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do; none when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), next: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), next: Some(next.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), next: Some(next.into()) }
    }
}

/// Look at everything. The exit code is 1 when something failed.
pub(super) fn run(path: Option<PathBuf>, socket: &Path, json: bool) -> ExitCode {
    let path = path.or_else(|| Some(PathBuf::from(CONFIG)).filter(|path| path.exists()));
    let facts = Facts::of_this_host();
    let (mut findings, edge) = config::findings(path.as_deref(), &facts);
    findings.extend(judge::findings(&facts, edge.as_ref()));
    findings.push(daemon(socket));
    if json {
        let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
        say::print_json(&serde_json::json!({ "ok": !failed, "findings": findings }), false);
    } else {
        say::print(&shown(&findings));
    }
    match findings.iter().any(|finding| finding.verdict == Verdict::Fail) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// The daemon on the socket, if there is one.
fn daemon(socket: &Path) -> Finding {
    const CHECK: &str = "daemon";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Finding::warn(CHECK, "it could not be asked", "try again") };
    let client = Client::new(socket);
    match runtime.block_on(client.get::<Status>("/v1/status")) {
        Ok(status) if status.healthy => Finding::ok(CHECK, format!("{} {} is healthy", status.name, status.version)),
        Ok(status) => {
            Finding::fail(CHECK, format!("{}: {}", status.name, status.troubles.join("; ")), "see bailey status")
        }
        Err(ClientError::Unreachable { .. }) => Finding::warn(
            CHECK,
            format!("none answers on {}", socket.display()),
            "start it: systemctl start bailey, or bailey run --config FILE; another socket is named by --socket",
        ),
        Err(error) => Finding::fail(CHECK, error.to_string(), error.hint().unwrap_or_default()),
    }
}

/// A line for each finding, with what to do under it, and a sum.
fn shown(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Finding { check, verdict, found, next } in findings {
        let word = match verdict {
            Verdict::Ok => paint(Tone::Good, "ok  "),
            Verdict::Warn => paint(Tone::Warning, "warn"),
            Verdict::Fail => paint(Tone::Bad, "FAIL"),
        };
        out += &format!("{word}  {check:width$}  {found}\n");
        if let Some(next) = next {
            out += &format!("{:1$}{next}\n", "", width + 8);
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    out + &format!(
        "{} good, {} to look at, {} failed\n",
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail)
    )
}
