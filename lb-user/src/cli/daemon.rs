//! `bailey run` and `bailey check`: the verbs that read the config file themselves.

use super::say;
use crate::config::{self, LoadError, Problems, Severity};
use crate::privileges;
use crate::run;
use crate::upgrade::{self, Predecessor};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The daemon. Whatever keeps it from running is told on standard error.
///
/// `take_over`: another control plane started it, and hears of that too.
pub(super) fn run(path: PathBuf, take_over: bool) -> ExitCode {
    let path = std::path::absolute(&path).unwrap_or(path);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    let refuse = |reason: String| {
        if take_over {
            runtime.block_on(upgrade::refuse(&reason));
        }
    };
    let loaded = match config::load(&path) {
        Ok(loaded) => loaded,
        Err(LoadError::Invalid(problems)) => {
            say::complain(&problems.render(say::stderr_is_coloured()));
            say::complain(&summary(&path, &problems));
            let first = problems.views().into_iter().find(|view| view.severity == Severity::Error);
            refuse(first.map_or_else(|| summary(&path, &problems), |problem| problem.to_string()));
            return ExitCode::FAILURE;
        }
        Err(error) => {
            refuse(error.to_string());
            return failed(&error.to_string());
        }
    };
    run::log_to_stderr(&loaded.config.edge.log, say::stderr_is_coloured());
    if let Err(error) = privileges::reduce_for_edge(&loaded.config) {
        refuse(error.to_string());
        return failed(&error.to_string());
    }
    let ended = runtime.block_on(async {
        let predecessor = if take_over { Some(Predecessor::meet().await?) } else { None };
        run::run(path, loaded, predecessor).await
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

/// Every problem of a file.
pub(super) fn check(path: &Path, json: bool) -> ExitCode {
    let (good, problems) = match config::load(path) {
        Ok(loaded) => (true, loaded.warnings),
        Err(LoadError::Invalid(problems)) => (false, problems),
        Err(error) if json => {
            say::print_json(&serde_json::json!({ "ok": false, "error": error.to_string(), "problems": [] }), true);
            return ExitCode::FAILURE;
        }
        Err(error) => return failed(&error.to_string()),
    };
    if json {
        say::print_json(&serde_json::json!({ "ok": good, "problems": problems.views() }), true);
    } else {
        say::print(&(problems.render(say::stdout_is_coloured()) + &summary(path, &problems)));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failed(error: &str) -> ExitCode {
    say::fail(error, None, false)
}

fn summary(path: &Path, problems: &Problems) -> String {
    let count = |severity, word| match problems.count(severity) {
        0 => None,
        1 => Some(format!("1 {word}")),
        n => Some(format!("{n} {word}s")),
    };
    let counts: Vec<String> =
        [count(Severity::Error, "error"), count(Severity::Warning, "warning")].into_iter().flatten().collect();
    let counts = if counts.is_empty() { "good".to_owned() } else { counts.join(", ") };
    format!("{}: {counts}\n", path.display())
}
