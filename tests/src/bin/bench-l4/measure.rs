//! One state of `edge`, its traffic, and what that cost.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::flood::{Generator, Meter, Sink, Traffic};
use lb_tests::netns::runtime;
use lb_user::datapath::{Counters, Datapath, KernelDatapath};

use crate::desired::{Case, Group};
use crate::stage::Stage;

/// Frames that make hops and caches warm.
const WARM: u32 = 20_000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Of a round.
    pub(crate) frames: u32,
    pub(crate) rounds: usize,
    pub(crate) cpu: usize,
}

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) v6: bool,
    /// None: every frame of its own.
    pub(crate) flows: Option<u32>,
    /// Nanoseconds a packet in the program at the edge; none: there is none.
    pub(crate) program: Option<f64>,
    /// Nanoseconds a packet of everything on the CPU, the generator included.
    pub(crate) path: f64,
}

/// One round: run time a run of the program, wall time a frame that arrived.
pub(crate) struct Round {
    pub(crate) program: f64,
    pub(crate) path: f64,
}

/// The program that only drops, with one flow and with a million.
pub(crate) fn baseline(stage: &Stage, load: Load) -> Result<Vec<Figure>> {
    let _drops = Sink::attach(&stage.lab.edge, "wan")?;
    let mut generator = Generator::open(&stage.lab.client, "eth0")?;
    let mut figures = Vec::new();
    for (v6, from, to) in [(false, "10.64.0.0", "10.99.0.1:80"), (true, "fd64::", "[fd99::1]:80")] {
        for flows in [1, 1_000_000] {
            let traffic =
                Traffic { flows: Some(flows), begins: false, ..Traffic::syns(stage.mac, from.parse()?, to.parse()?) };
            generator.aim(&traffic)?;
            let rounds = rounds(stage, load, &mut generator)?;
            figures.push(figure("empty drop".into(), v6, Some(flows), &rounds));
        }
    }
    Ok(figures)
}

pub(crate) fn group(stage: &Stage, load: Load, group: &Group) -> Result<Vec<Figure>> {
    let edge = &stage.lab.edge;
    edge.run(|| {
        let runtime = runtime()?;
        let mut datapath = runtime.block_on(KernelDatapath::open(group.options.clone(), None))?;
        runtime.block_on(datapath.apply(&group.desired))?;
        let mut generator = Generator::open(&stage.lab.client, "eth0")?;
        let figures = group.cases.iter().map(|case| measure(stage, load, &mut generator, &datapath, case)).collect();
        runtime.block_on(datapath.close())?;
        figures
    })
}

fn measure(
    stage: &Stage,
    load: Load,
    generator: &mut Generator<'_>,
    datapath: &KernelDatapath,
    case: &Case,
) -> Result<Figure> {
    let traffic = Traffic {
        mac: stage.mac,
        from: case.from,
        to: case.to,
        flows: case.flows,
        spoiled: false,
        ports: case.ports,
        begins: case.flows.is_none(),
    };
    generator.aim(&traffic)?;
    generator.send(WARM, Some(load.cpu))?;
    let before = packets(&datapath.counters()?, case.verdict);
    let rounds = rounds(stage, load, generator)?;
    let counters = datapath.counters()?;
    let meant = packets(&counters, case.verdict) - before;
    let sent = f64::from(load.frames) * load.rounds as f64;
    // A figure for packets that went another way than the line says would be worse than none.
    ensure!(meant as f64 > sent * 0.9, "{}: {meant} of {sent} packets were {}", case.name, case.verdict);
    Ok(figure(case.name.clone(), case.v6, case.flows, &rounds))
}

fn rounds(stage: &Stage, load: Load, generator: &mut Generator<'_>) -> Result<Vec<Round>> {
    (0..load.rounds).map(|_| round(stage, load, generator)).collect()
}

fn round(stage: &Stage, load: Load, generator: &mut Generator<'_>) -> Result<Round> {
    // Without the clock reads of the kernel's statistics first: they are no part of the path.
    let path = generator.send(load.frames, Some(load.cpu))?;
    let meter = Meter::start(&stage.lab.edge, "wan")?;
    generator.send(load.frames, Some(load.cpu))?;
    let (time, runs) = meter.read()?;
    ensure!(runs as f64 > f64::from(load.frames) * 0.9, "{runs} of {} frames came to the edge", load.frames);
    Ok(Round { program: time.as_nanos() as f64 / runs as f64, path: each(path, u64::from(load.frames)) })
}

pub(crate) fn each(time: Duration, frames: u64) -> f64 {
    time.as_nanos() as f64 / frames as f64
}

fn figure(name: String, v6: bool, flows: Option<u32>, rounds: &[Round]) -> Figure {
    let program = median(rounds.iter().map(|round| round.program).collect());
    let path = median(rounds.iter().map(|round| round.path).collect());
    Figure { name, v6, flows, program: Some(program), path }
}

pub(crate) fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn packets(counters: &Counters, verdict: &str) -> u64 {
    counters.packets.iter().filter(|row| row.verdict == verdict).map(|row| row.packets).sum()
}
