//! Packets of forwarded services: every mode, way back, refusal and fragment, byte by byte; and slots that move.

mod back;
mod cases;
mod errors;
mod moved;
mod services;

use lb_common::Verdict;
use lb_tests::checksum::filled;
use lb_tests::privilege;
use lb_user::datapath::probe::XdpAction;
use libtest_mimic::{Failed, Trial};

use crate::setup::{self, Seen};

/// A named frame, how it ends, and the frame as it leaves.
pub(crate) struct Forwarded {
    name: &'static str,
    frame: Vec<u8>,
    service: u32,
    verdict: Verdict,
    /// None: unchanged.
    out: Option<Vec<u8>>,
}

/// Checksums of both frames are filled in.
fn case(name: &'static str, frame: Vec<u8>, service: u32, verdict: Verdict, out: Option<Vec<u8>>) -> Forwarded {
    Forwarded { name, frame: filled(frame), service, verdict, out: out.map(filled) }
}

pub(crate) fn trials() -> Vec<Trial> {
    let cases = [cases::cases(), back::cases(), errors::cases()].into_iter().flatten();
    let mut trials: Vec<Trial> = cases.map(|case| Trial::test(case.name, move || run(&case))).collect();
    trials.extend(moved::trials());
    trials
}

fn run(case: &Forwarded) -> Result<(), Failed> {
    let bench = services::bench()?;
    let probe = bench.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    privilege::pin_to(privilege::cpus()[0])?;
    let before = setup::counted(&probe)?;
    let outcome = probe.run(&case.frame)?;
    let counted = setup::grown(&before, setup::counted(&probe)?);
    let seen = Seen { action: outcome.action, unchanged: outcome.output == case.frame, counted };
    let action = match case.verdict.action() {
        lb_common::verdict::Action::Pass => XdpAction::Pass,
        lb_common::verdict::Action::Redirect => XdpAction::Redirect,
        lb_common::verdict::Action::Drop => XdpAction::Drop,
        // The probe's way out is the one that its packets come in by.
        lb_common::verdict::Action::Send => XdpAction::Tx,
    };
    let bytes = case.frame.len() as u64;
    let wanted =
        Seen { action, unchanged: case.out.is_none(), counted: vec![(case.service, case.verdict.name(), 1, bytes)] };
    if seen != wanted {
        return Err(format!("wanted {wanted:?}, got {seen:?}").into());
    }
    match &case.out {
        Some(out) if *out != outcome.output => Err(different(out, &outcome.output).into()),
        _ => Ok(()),
    }
}

fn different(wanted: &[u8], got: &[u8]) -> String {
    let at = wanted.iter().zip(got).position(|(a, b)| a != b).unwrap_or(wanted.len().min(got.len()));
    format!("the frames differ at byte {at}:\nwanted {wanted:02x?}\ngot    {got:02x?}")
}
