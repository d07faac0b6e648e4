//! When the edge has ended, nothing of it is left in the kernel.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::harness::{lab, main as run};
use lb_tests::lab::{Lab, VIP4};
use lb_tests::left::Left;
use rustix::process::Signal;

fn main() -> ExitCode {
    run(vec![
        lab("sigterm_leaves_no_program_pin_or_route", || ends_clean(Signal::TERM)),
        lab("sigint_leaves_no_program_pin_or_route", || ends_clean(Signal::INT)),
    ])
}

fn ends_clean(signal: Signal) -> Result<()> {
    let lab = Lab::new(1)?;
    let before = Left::see(&lab)?;
    ensure!(before.is_nothing(), "{before:?}");
    let mut edge = Edge::start(&lab, &lab.site("", ""))?;
    let during = Left::see(&lab)?;
    ensure!(during.program && during.pins && during.routes.iter().any(|r| r.contains(&VIP4.to_string())), "{during:?}");
    edge.process().signal(signal)?;
    let status = edge.process().wait(lb_tests::wait::PATIENCE)?;
    ensure!(status.code() == Some(0), "ended with {status}");
    let after = Left::see(&lab)?;
    ensure!(after.is_nothing(), "left behind: {after:?}");
    Ok(())
}
