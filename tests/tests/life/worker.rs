//! Deaths of workers.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, plain, with};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::process::signal_process;
use lb_tests::wait::{PATIENCE, wait_ok};
use rustix::process::Signal;

use crate::load::{SOCKETS, under_load};
use crate::site::{PROGRAMS, Site, another, worker};

const KILLS: u32 = 20;
/// A worker that lived for so long is no part of a crash loop, which would be waited for.
const STEADY: Duration = Duration::from_millis(600);
/// From a death to the next one's service.
const GAP: Duration = Duration::from_millis(200);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("a_worker_killed_twenty_times_refuses_nobody", PROGRAMS, killed),
        plain("of_two_processes_one_that_dies_leaves_the_other_serving", two),
        plain("the_cause_of_an_end_is_told", causes),
    ]
}

fn killed() -> Result<()> {
    let site = Site::new("")?;
    let edge = site.start()?;
    let target = site.here.target(site.secure, HOST)?;
    let mut gaps = Vec::new();
    let outcome = under_load(site.clear, &target, SOCKETS, |load| {
        let mut pid = worker(&edge)?;
        for _ in 0..KILLS {
            signal_process(pid, Signal::KILL)?;
            pid = another(&edge, pid)?;
            gaps.push(edge.metrics()?.sum("bailey_worker_gap_seconds", &[]));
            let serves = Instant::now();
            let messages = load.messages.load(Ordering::Relaxed);
            wait_ok("WebSockets again", PATIENCE, || {
                ensure!(load.open.load(Ordering::Relaxed) == SOCKETS, "some are missing");
                ensure!(load.messages.load(Ordering::Relaxed) > messages + SOCKETS);
                ensure!(serves.elapsed() >= STEADY, "it is young");
                Ok(())
            })?;
        }
        load.flows_on()
    })?;
    let (wrk, h2load) = (outcome.wrk, outcome.h2load);
    ensure!(wrk.refused == 0 && h2load.refused == 0, "refused: {wrk:?} {h2load:?}");
    ensure!(wrk.bad == 0 && h2load.bad == 0, "answered badly: {wrk:?} {h2load:?}");
    // Each death costs what is open: six connections of wrk, four of h2load with four requests each.
    let most = u64::from(KILLS) * 8;
    ensure!(wrk.lost <= most, "{} of wrk lost", wrk.lost);
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_worker_ends_total", &[("cause", "killed")]) == f64::from(KILLS));
    ensure!(metrics.sum("bailey_worker_restarts_total", &[]) == f64::from(KILLS));
    gaps.sort_by(f64::total_cmp);
    println!("gaps of {KILLS} kills: {gaps:?}");
    // The load takes all that the machine has, and so may others: what it can do shows where it was let.
    ensure!(gaps[gaps.len() / 4] <= GAP.as_secs_f64(), "the next ones served only after {gaps:?} seconds");
    Ok(())
}

fn two() -> Result<()> {
    let cpus = if std::thread::available_parallelism()?.get() > 1 { "[0, 1]" } else { return Ok(()) };
    let site = Site::new(&format!("cpus = {cpus}\nworker_processes = 2\n"))?;
    let edge = site.start()?;
    let processes = |edge: &Edge<'_>| -> Result<Vec<u64>> {
        let status: serde_json::Value = serde_json::from_str(&edge.cli(&["status", "--json"])?.stdout)?;
        let rows = status["worker"]["processes"].as_array().cloned().unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row["pid"].as_u64()).collect())
    };
    let before = processes(&edge)?;
    ensure!(before.len() == 2 && before[0] != before[1], "{before:?}");
    let target = site.here.target(site.secure, HOST)?;
    let get = || runtime()?.block_on(target.get(Protocol::Http1, "/"));
    // The kernel spreads connections over both: each gets some of forty, but for one in 2^39.
    for _ in 0..40 {
        ensure!(get()?.status == 200);
    }
    let served = |edge: &Edge<'_>, worker: &str| -> Result<f64> {
        Ok(edge.metrics()?.sum("bailey_worker_connections_total", &[("worker", worker)]))
    };
    ensure!(served(&edge, "0")? > 0.0 && served(&edge, "1")? > 0.0, "one of them serves nothing");
    signal_process(before[0] as u32, Signal::KILL)?;
    for _ in 0..40 {
        ensure!(get()?.status == 200);
    }
    wait_ok("both", PATIENCE, || {
        let now = processes(&edge)?;
        ensure!(now.len() == 2 && now[1] == before[1] && now[0] != before[0], "{before:?} became {now:?}");
        Ok(())
    })?;
    // A change reaches both.
    edge.done(&["pool", "weight", "app", &site.app.to_string(), "7"])?;
    let metrics = edge.metrics()?;
    let generations: Vec<f64> = metrics.matching("bailey_worker_generation", &[]).map(|sample| sample.value).collect();
    ensure!(generations.len() == 2 && generations[0] == generations[1], "{generations:?}");
    Ok(())
}

fn causes() -> Result<()> {
    let site = Site::new("")?;
    let edge = site.start()?;
    let count =
        |cause: &str| -> Result<f64> { Ok(edge.metrics()?.sum("bailey_worker_ends_total", &[("cause", cause)])) };
    let mut pid = worker(&edge)?;
    for (signal, cause) in [(Signal::ABORT, "panic"), (Signal::SYS, "signal"), (Signal::KILL, "killed")] {
        signal_process(pid, signal)?;
        pid = another(&edge, pid)?;
        ensure!(count(cause)? == 1.0, "{cause} is not counted");
        ensure!(edge.log().contains(&format!("cause=\"{cause}\"")), "{}", edge.log());
    }
    Ok(())
}
