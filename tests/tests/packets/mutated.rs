//! Absurd packets: the named ones, broken at random. None may end the program, change its bytes or go uncounted.

use lb_tests::random::Random;
use lb_user::datapath::probe::XdpAction;
use libtest_mimic::{Failed, Trial};

use crate::setup::*;
use crate::{ConcatCases, ip, links, upper};

const PACKETS: u64 = 20_000;
/// BPF_PROG_TEST_RUN takes no less than an Ethernet header and no more than a page holds beside its own room.
const LEAST: usize = 14;
const MOST: usize = 3000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("20,000 broken packets are all counted and none is changed", broken)]
}

fn broken() -> Result<(), Failed> {
    let corpus: Vec<Vec<u8>> =
        [links::cases(), ip::cases(), upper::cases()].concat_cases().into_iter().map(|case| case.frame).collect();
    for (steer, bench) in Bench::all()? {
        let probe = bench.probe();
        let total = || -> Result<u64, String> { Ok(counted(&probe)?.values().map(|(packets, _)| packets).sum()) };
        let before = total()?;
        let mut random = Random::new(1);
        for _ in 0..PACKETS {
            let frame = mutate(&mut random, &corpus);
            let outcome = probe.run(&frame)?;
            let known = matches!(outcome.action, XdpAction::Pass | XdpAction::Drop | XdpAction::Redirect);
            if !known || outcome.output != frame {
                return Err(format!("{steer:?}: {:?} of {frame:02x?}", outcome.action).into());
            }
        }
        let counted = total()? - before;
        if counted != PACKETS {
            return Err(format!("{steer:?}: {counted} of {PACKETS} packets were counted").into());
        }
    }
    Ok(())
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(frame.len());
        match random.below(6) {
            0 => frame[at] = random.next() as u8,
            1 => frame[at] ^= 1 << random.below(8),
            // What lengths and types are often broken by.
            2 => frame[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => frame.truncate(at.max(LEAST)),
            4 => frame.splice(at..at, (0..random.below(64)).map(|i| i as u8)).for_each(drop),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                frame.truncate(at.max(LEAST));
                frame.extend_from_slice(&other[from..]);
            }
        }
    }
    frame.truncate(MOST);
    frame
}
