//! libtest-mimic, with skipped tests that say what was missing and failed ones that show the processes' logs.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{need::Need, netns, process};

/// One test: a sentence-like name, what it needs, and the work.
pub struct Test {
    name: &'static str,
    need: Need,
    work: fn() -> Result<()>,
}

/// A test that needs a lab.
pub const fn lab(name: &'static str, work: fn() -> Result<()>) -> Test {
    Test { name, need: Need::Lab, work }
}

/// A test that needs a room.
pub const fn room(name: &'static str, work: fn() -> Result<()>) -> Test {
    Test { name, need: Need::Room, work }
}

/// A test that an ordinary user can run.
pub const fn plain(name: &'static str, work: fn() -> Result<()>) -> Test {
    Test { name, need: Need::Nothing, work }
}

/// A test that an ordinary user can run who has these programs.
pub const fn with(name: &'static str, programs: &'static [&'static str], work: fn() -> Result<()>) -> Test {
    Test { name, need: Need::Programs(programs), work }
}

/// A test that an ordinary user can run who has this module of Python in the environment for test clients.
pub const fn python(name: &'static str, module: &'static str, work: fn() -> Result<()>) -> Test {
    Test { name, need: Need::Python(module), work }
}

/// A test file's `main`.
pub fn main(tests: Vec<Test>) -> ExitCode {
    // A lab is a handful of processes; more than two at once only make each other late.
    threads(tests, 2)
}

/// The same for tests that wait for the clock of what they test most of the time.
pub fn mostly_waiting(tests: Vec<Test>) -> ExitCode {
    threads(tests, 4)
}

/// The same for tests that take all that the machine has.
pub fn one_by_one(tests: Vec<Test>) -> ExitCode {
    threads(tests, 1)
}

fn threads(tests: Vec<Test>, at_once: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once);
    let missing = if arguments.list { None } else { Need::Lab.missing() };
    if missing.is_none() && tests.iter().any(|test| test.need == Need::Lab) && !arguments.list {
        netns::sweep();
    }
    let trials = tests.into_iter().map(|test| {
        let missing = if test.need == Need::Lab { missing.clone() } else { test.need.missing() };
        Trial::ignorable_test(test.name, move || run(test.work, missing))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run(work: fn() -> Result<()>, missing: Option<String>) -> Result<Completion, Failed> {
    if let Some(missing) = missing {
        return Ok(Completion::ignored_with(format!("missing: {missing}")));
    }
    process::forget_logs();
    // A panic must not lose the logs, which are only complete once the test's processes were dropped.
    let outcome = std::panic::catch_unwind(work);
    let logs = process::take_logs();
    match outcome {
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(error)) => Err(format!("{error:#}\n{logs}").into()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            Err(format!("panicked: {text}\n{logs}").into())
        }
    }
}
