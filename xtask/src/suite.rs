//! `cargo xtask test`: setup, format, lints, and every test of the workspace, with one sum at the end.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::{child, lint, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Everything; true when nothing failed. A check that fails counts as one failed test, and the rest still runs.
pub(crate) fn run(args: &Args) -> Result<bool> {
    setup::run(&setup::Args::default())?;
    let mut tally = Tally::default();
    for (name, check) in [("fmt", lint::format as fn() -> Result<()>), ("clippy", lint::clippy)] {
        match check() {
            Ok(()) => tally.passed += 1,
            Err(error) => {
                eprintln!("{name}: {error:#}");
                tally.failed += 1;
            }
        }
    }
    // The lab runs the edge's programs from the target directory. Built as the tests are, so that nothing, the kernel
    // half least of all, is built once more for another choice of features.
    child::run(
        &mut child::cargo(["build", "--workspace", "--exclude", "lb-ebpf", "--all-targets"]),
        "mend what the compiler says",
    )?;
    tests(args, &mut tally)?;
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(tally.failed == 0)
}

fn tests(args: &Args, tally: &mut Tally) -> Result<()> {
    let mut command = child::cargo(["test", "--workspace", "--exclude", "lb-ebpf", "--no-fail-fast"]);
    command.args(args.filter.iter().flat_map(|filter| ["--", filter])).stdout(Stdio::piped());
    let mut running = command.spawn().context("cannot start cargo test")?;
    let mut sums = Tally::default();
    if let Some(output) = running.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.context("reading the output of cargo test")?;
            println!("{line}");
            sums.add_line(&line);
        }
    }
    let status = running.wait().context("waiting for cargo test")?;
    if !status.success() && sums.failed == 0 {
        eprintln!("cargo test failed ({status}) without naming a test: something did not build or was killed");
        sums.failed = 1;
    }
    tally.passed += sums.passed;
    tally.failed += sums.failed;
    tally.skipped += sums.skipped;
    Ok(())
}

impl Tally {
    /// Add a runner's summary: `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn add_line(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn summaries_add_up_and_other_lines_do_not() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s",
            "7 passed and nothing else",
        ] {
            tally.add_line(line);
        }
        assert_eq!(tally, Tally { passed: 8, failed: 2, skipped: 1 });
    }
}
