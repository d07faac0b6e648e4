//! `bailey man` and `bailey completions`: what packages take along, made from the arguments themselves.

use super::args::Cli;
use super::say;
use clap::CommandFactory as _;
use std::path::Path;
use std::process::ExitCode;

/// A page for each verb, `bailey.1`, `bailey-pool.1`, `bailey-pool-add.1` and so on.
pub(super) fn pages(directory: &Path, json: bool) -> ExitCode {
    let written = std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    match written {
        Ok(()) if json => say::print_json(&serde_json::json!({ "written": directory }), false),
        Ok(()) => say::print(&format!("pages written to {}\n", directory.display())),
        Err(error) => {
            let error = format!("cannot write pages to {}: {error}", directory.display());
            return say::fail(error, Some("name a directory that this user can write to"), json);
        }
    };
    ExitCode::SUCCESS
}

/// On standard output.
pub(super) fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bailey", &mut script);
    say::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
