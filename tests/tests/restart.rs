//! A worker that dies is replaced, and no connection is refused meanwhile; one whose control plane dies is adopted.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::client::{Protocol, Target};
use lb_tests::edge::Edge;
use lb_tests::harness::{lab, main as run};
use lb_tests::lab::{Lab, VIP4};
use lb_tests::process::{called, control_planes, signal_process};
use lb_tests::wait::{PATIENCE, wait_for};
use rustix::process::Signal;

const KILLS: u32 = 3;
const UPGRADES: u32 = 3;

fn main() -> ExitCode {
    run(vec![
        lab("a_worker_killed_under_load_refuses_nobody", killed_under_load),
        lab("an_upgrade_under_load_costs_nobody_anything", upgraded_under_load),
        lab("the_worker_of_a_killed_control_plane_is_adopted_by_the_next", control_plane_killed),
    ])
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    served: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
}

fn killed_under_load() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("cpus = [0, 1]", ""))?;
    let program = || lab.edge.output("ip", &["-d", "link", "show", "dev", "wan"]).map(|text| xdp_id(&text));
    let attached = program()?;
    ensure!(attached.is_some(), "no XDP program on wan");
    let load = under_load(&lab, |load| kill_workers(&edge, load))?;
    ensure!(number(&load.refused) == 0, "{} connections were refused", number(&load.refused));
    ensure!(number(&load.served) > 50, "only {} requests were served", number(&load.served));
    // What was open in a worker when it died is lost; more than that is not.
    ensure!(number(&load.cut) <= u64::from(KILLS) * 40, "{} requests were cut", number(&load.cut));
    ensure!(program()? == attached, "another XDP program after the restarts");
    let restarts = edge.metrics()?.sum("bailey_worker_restarts_total", &[]);
    ensure!(restarts == f64::from(KILLS), "bailey_worker_restarts_total is {restarts}");
    Ok(())
}

/// Do the work while four clients connect again and again.
fn under_load(lab: &Lab, work: impl FnOnce(&Load) -> Result<()>) -> Result<Load> {
    let target = lab.target(VIP4, 443)?;
    let load = Load::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| lab.client.run_async(|| connect_again(&target, &load)))).collect();
        let outcome = work(&load);
        load.stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        outcome
    })?;
    Ok(load)
}

fn number(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn upgraded_under_load() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("cpus = [0, 1]\ndrain_timeout = \"5s\"", ""))?;
    let _last = Successors(lab.folder().join("bailey.toml"));
    let program = || lab.edge.output("ip", &["-d", "link", "show", "dev", "wan"]).map(|text| xdp_id(&text));
    let load = under_load(&lab, |load| {
        for _ in 0..UPGRADES {
            let (served, attached) = (number(&load.served), program()?);
            wait_for("load to flow", PATIENCE, || (number(&load.served) > served + 10).then_some(()))?;
            edge.done(&["upgrade"])?;
            ensure!(program()?.is_some_and(|now| Some(now) != attached), "not another program in the same place");
            let served = number(&load.served);
            wait_for("requests after the upgrade", PATIENCE, || (number(&load.served) > served + 30).then_some(()))?;
        }
        Ok(())
    })?;
    let counts = (number(&load.refused), number(&load.cut));
    ensure!(counts == (0, 0), "refused, and cut: {counts:?} of {}", number(&load.served));
    Ok(())
}

/// Ends control planes that upgrades started.
struct Successors(PathBuf);

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in control_planes(&self.0) {
            let _ = signal_process(pid, Signal::TERM);
            if wait_for("a control plane to end", PATIENCE, || called(pid).is_none().then_some(())).is_err() {
                let _ = signal_process(pid, Signal::KILL);
            }
        }
    }
}

fn kill_workers(edge: &Edge, load: &Load) -> Result<()> {
    let mut before = edge.metrics()?;
    for kill in 1..=KILLS {
        let served = load.served.load(Ordering::Relaxed);
        wait_for("load to flow", PATIENCE, || (load.served.load(Ordering::Relaxed) > served + 10).then_some(()))?;
        let old = wait_for("a worker", PATIENCE, || edge.worker())?;
        signal_process(old, Signal::KILL)?;
        wait_for("another worker", PATIENCE, || edge.worker().filter(|new| *new != old))?;
        wait_for("requests after the restart", PATIENCE, || {
            (load.served.load(Ordering::Relaxed) > served + 30).then_some(())
        })?;
        let after = edge.metrics()?;
        let fallen = after.fallen(&before);
        ensure!(fallen.is_empty(), "counters fell over kill {kill}: {fallen:?}");
        before = after;
    }
    Ok(())
}

async fn connect_again(target: &Target, load: &Load) -> Result<()> {
    while !load.stop.load(Ordering::Relaxed) {
        match target.get(Protocol::Http1, "/").await {
            Ok(reply) if reply.status == 200 => load.served.fetch_add(1, Ordering::Relaxed),
            Ok(reply) => anyhow::bail!("answered {}", reply.status),
            Err(error) if is_refusal(&error) => load.refused.fetch_add(1, Ordering::Relaxed),
            Err(_) => load.cut.fetch_add(1, Ordering::Relaxed),
        };
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    kinds.map(std::io::Error::kind).any(|kind| kind == ErrorKind::ConnectionRefused)
}

/// From `prog/xdp id 42 name edge …`.
fn xdp_id(text: &str) -> Option<u32> {
    text.split_once("prog/xdp id ")?.1.split_whitespace().next()?.parse().ok()
}

fn control_plane_killed() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let config = lab.site("", "");
    let mut edge = Edge::start(&lab, &config)?;
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    edge.process().signal(Signal::KILL)?;
    edge.process().wait(PATIENCE)?;
    drop(edge);
    let edge = Edge::start(&lab, &config)?;
    let now = edge.json(&["status"])?["worker"]["pid"].as_u64();
    ensure!(now == Some(worker.into()), "not the worker that was left: {now:?} for {worker}");
    let target = lab.target(VIP4, 443)?;
    let reply = lab.client.run_async(|| async { target.get(Protocol::Http1, "/").await })?;
    ensure!(reply.status == 200, "{reply:?}");
    drop(edge);
    wait_for("the worker to end with its new control plane", PATIENCE, || {
        called(worker).is_none_or(|name| name != "bailey-worker").then_some(())
    })
}
