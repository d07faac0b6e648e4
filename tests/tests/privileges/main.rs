//! Who may do what: the process that reads hostile bytes next to nothing, the one that rules the kernel no more than
//! that takes. Shown by trying, with the program `attempt`, which gives up the same by the same code.

mod control;
mod lab;
mod worker;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use lb_tests::harness::{lab, main as run, plain};

fn main() -> ExitCode {
    run(vec![
        lab("the_worker_is_an_unprivileged_user_with_no_capability_and_no_bpf", lab::unprivileged),
        plain("no_file_and_no_listener_is_opened_behind_landlock", worker::files),
        plain("no_call_is_made_that_a_worker_has_no_use_for", worker::calls),
        plain("a_confined_worker_can_do_what_it_is_for", worker::uses),
        lab("the_control_plane_keeps_of_root_what_it_needs", control::kept),
        lab("the_launcher_starts_and_ends_processes_of_others", control::launcher),
    ])
}

/// What `attempt` said, or the signal that ended it.
fn attempt(words: &[&str]) -> Result<String> {
    use std::os::unix::process::ExitStatusExt;
    let output = Command::new(lb_tests::need::binary("attempt")?).args(words).output()?;
    if let Some(signal) = output.status.signal() {
        return Ok(format!("signal {signal}"));
    }
    let said = String::from_utf8(output.stdout).context("not UTF-8")?;
    let said = said.trim().to_owned();
    anyhow::ensure!(!said.is_empty(), "attempt {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Try each of these; all that came otherwise than meant.
fn expect(who: &[&str], attempts: &[(&[&str], &str)]) -> Result<()> {
    let mut wrong = Vec::new();
    for (what, meant) in attempts {
        let said = attempt(&[who, what].concat())?;
        if said != *meant {
            wrong.push(format!("{what:?} as {who:?}: {said}, meant: {meant}"));
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
