//! Packets through `edge` by BPF_PROG_TEST_RUN: what XDP does with each, that it leaves the bytes alone, and that it
//! counts exactly one row. A machine that cannot load BPF programs ignores all of them and says why.

mod flows;
mod forward;
mod ip;
mod links;
mod mutated;
mod setup;
mod shield;
mod upper;

use lb_common::Verdict;
use lb_common::verdict::Action;
use lb_tests::privilege;
use lb_user::datapath::probe::XdpAction;
use libtest_mimic::{Arguments, Failed, Trial};

use setup::{Bench, Steer};

/// A named frame, and how it ends.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    ends: Ends,
}

/// How a frame ends.
#[derive(Clone, Copy)]
enum Ends {
    /// The same wherever workers are; counted for no service.
    As(Verdict),
    /// As a packet of a flow of this service.
    Flow(u32),
    /// As an ICMP error about a flow of this service.
    ErrorAbout(u32),
}

fn main() {
    let mut arguments = Arguments::from_args();
    // The counters are shared, and what takes time is the kernel.
    arguments.test_threads = Some(1);
    let missing = privilege::missing_for_bpf();
    if let Some(missing) = missing {
        eprintln!("packets: every test is ignored: {missing}");
    }
    let cases = [links::cases(), ip::cases(), upper::cases()].concat_cases();
    let mut trials: Vec<Trial> = cases.into_iter().map(|case| Trial::test(case.name, move || run(&case))).collect();
    trials.push(Trial::test("the verifier has room left", room_in_the_verifier));
    trials.extend(flows::trials());
    trials.extend(mutated::trials());
    trials.extend(forward::trials());
    trials.extend(shield::trials());
    let trials = trials.into_iter().map(|trial| if missing.is_some() { trial.with_ignored_flag(true) } else { trial });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// The verifier gives up at a million instructions; a kernel of another version may look at more of them than this one.
fn room_in_the_verifier() -> Result<(), Failed> {
    const MOST: u32 = 500_000;
    for (steer, bench) in Bench::all()? {
        let looked_at = bench.probe().verified_instructions()?.unwrap_or(0);
        if looked_at > MOST {
            return Err(
                format!("{steer:?}: the verifier looked at {looked_at} instructions, {MOST} at the most").into()
            );
        }
        eprintln!("{steer:?}: the verifier looked at {looked_at} instructions");
    }
    Ok(())
}

trait ConcatCases {
    fn concat_cases(self) -> Vec<Case>;
}

impl<const N: usize> ConcatCases for [Vec<Case>; N] {
    fn concat_cases(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}

fn run(case: &Case) -> Result<(), Failed> {
    for (steer, bench) in Bench::all()? {
        let (service, verdict) = case.ends.expected(*steer);
        let action = match verdict.action() {
            Action::Pass => XdpAction::Pass,
            Action::Redirect => XdpAction::Redirect,
            Action::Drop => XdpAction::Drop,
            Action::Send => XdpAction::Tx,
        };
        let seen = bench.run(&case.frame)?;
        let wanted = setup::Seen {
            action,
            unchanged: true,
            counted: vec![(service, verdict.name(), 1, case.frame.len() as u64)],
        };
        if seen != wanted {
            return Err(format!("{steer:?}: wanted {wanted:?}, got {seen:?}").into());
        }
    }
    Ok(())
}

impl Ends {
    fn expected(self, steer: Steer) -> (u32, Verdict) {
        match self {
            Ends::As(verdict) => (0, verdict),
            Ends::Flow(service) => (service, steer.flow()),
            Ends::ErrorAbout(service) => (service, steer.error()),
        }
    }
}
