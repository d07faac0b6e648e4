//! `cargo xtask setup`: look at the machine ([`machine`]), decide what is missing ([`plan`], pure), say it, do it.

mod clients;
mod machine;
mod plan;

use std::process::Command;

use anyhow::{Result, bail};

use crate::child;
use machine::Privilege;
use plan::{Plan, Step};

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// One round learns what the next can know: which LLVM a compiler has is seen once it is installed.
const ROUNDS: usize = 4;

/// Set the machine up; quick and silent but for one line when nothing is missing.
pub(crate) fn run(args: &Args) -> Result<()> {
    let privilege = machine::privilege();
    for _ in 0..ROUNDS {
        let plan = plan::make(&machine::look()?)?;
        if plan.steps.is_empty() {
            println!("setup: everything is there ({})", plan.summary);
            return Ok(());
        }
        for step in &plan.steps {
            println!("would {}", step.says);
        }
        if args.dry_run {
            return Ok(());
        }
        refuse_without_root(&plan, privilege)?;
        perform(&plan, privilege)?;
        if plan.steps.iter().all(|step| step.optional) {
            return Ok(());
        }
    }
    let rest = plan::make(&machine::look()?)?;
    match rest.steps.iter().find(|step| !step.optional) {
        Some(step) => bail!("still missing after setup: it would {}; see the output above", step.says),
        None => Ok(()),
    }
}

fn refuse_without_root(plan: &Plan, privilege: Privilege) -> Result<()> {
    let blocked = |step: &&Step| step.root && !step.optional && privilege == Privilege::None;
    let lines: Vec<String> = plan.steps.iter().filter(blocked).map(|step| format!("  sudo {}", step.line())).collect();
    if !lines.is_empty() {
        bail!(
            "this needs root, and this user may not use sudo without a password. Run:\n{}\nthen `cargo xtask setup` again",
            lines.join("\n")
        );
    }
    Ok(())
}

fn perform(plan: &Plan, privilege: Privilege) -> Result<()> {
    for step in &plan.steps {
        println!("setup: {}", step.says);
        let outcome = child::run(&mut command(step, privilege), "mend what it says and run `cargo xtask setup` again");
        match (outcome, &step.or_else) {
            (Ok(()), _) => {}
            (Err(error), None) if step.optional => println!("setup: {error:#}; going on without"),
            (Err(error), None) => return Err(error),
            (Err(error), Some(other)) => {
                println!("setup: {error:#}");
                println!("setup: taking the other way");
                return perform(&other(&machine::look()?)?, privilege);
            }
        }
    }
    Ok(())
}

fn command(step: &Step, privilege: Privilege) -> Command {
    let mut words = step.command.iter();
    let mut command = if step.root && privilege == Privilege::Sudo {
        let mut command = Command::new("sudo");
        // Environment assignments are sudo's own arguments, so that its policy lets them through.
        command.arg("-n").args(step.env.iter().map(|(key, value)| format!("{key}={value}")));
        command
    } else {
        let mut command = Command::new(words.next().map_or("true", String::as_str));
        command.envs(step.env.iter().cloned());
        command
    };
    command.args(words);
    command
}
