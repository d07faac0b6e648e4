//! Deaths of the control plane: its workers serve on, and the next one adopts them.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::harness::{Test, plain, with};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::process::{called, signal_process};
use lb_tests::wait::{PATIENCE, wait_for, wait_ok};
use rustix::process::Signal;

use crate::load::{SOCKETS, under_load};
use crate::reload::clean;
use crate::site::{PROGRAMS, Site, another, worker};

const KILLS: u32 = 5;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("a_control_plane_killed_five_times_costs_nothing", PROGRAMS, killed),
        plain("a_worker_that_is_adopted_goes_on_with_what_is_known", known),
        plain("one_that_does_not_fit_is_drained_and_another_takes_its_listeners", replaced),
        plain("an_orphan_ends_when_it_is_told_to_or_nobody_comes", ends),
    ]
}

fn killed() -> Result<()> {
    let site = Site::new("")?;
    let mut edge = site.start()?;
    let target = site.here.target(site.secure, HOST)?;
    let first = worker(&edge)?;
    let outcome = under_load(site.clear, &target, SOCKETS, |load| {
        for _ in 0..KILLS {
            site.kill(&mut edge)?;
            // Nobody is in charge, and everything is served.
            load.breathes()?;
            edge = site.start()?;
            ensure!(worker(&edge)? == first, "another worker");
            edge.done(&["pool", "weight", "app", &site.app.to_string(), "2"])?;
        }
        load.flows_on()?;
        ensure!(load.broken.load(Ordering::Relaxed) == 0, "WebSockets broke");
        Ok(())
    })?;
    clean("wrk", &outcome.wrk)?;
    clean("h2load", &outcome.h2load)?;
    println!("wrk {:?}, h2load {:?}, {SOCKETS} WebSockets stayed open", outcome.wrk, outcome.h2load);
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_worker_adopted", &[]) == 1.0);
    ensure!(metrics.sum("bailey_worker_restarts_total", &[]) == 0.0);
    // A death after the adoption is seen like any other.
    signal_process(first, Signal::KILL)?;
    another(&edge, first)?;
    ensure!(edge.metrics()?.sum("bailey_worker_ends_total", &[("cause", "unknown")]) == 1.0);
    Ok(())
}

fn known() -> Result<()> {
    let site = Site::new("")?;
    let more = format!(
        "[pool.dead]\nbackends = [\"127.0.0.1:{}\"]\nhealth = {{ type = \"tcp\", interval = \"1h\", rise = 1, fall = 1 }}\n\
         [pool.kept]\nbackends = [\"{}\"]\npersistence = {{ type = \"source\" }}\n\
         [service.kept]\naddresses = [\"127.0.0.1:{}\"]\nmode = \"http\"\npool = \"kept\"\n",
        site.spare, site.app, site.kept
    );
    let config = site.config(&more);
    let mut edge = site.here.start(&config)?;
    wait_ok("the checks", PATIENCE, || {
        ensure!(edge.metrics()?.sum("bailey_backend_up", &[("pool", "dead")]) == 0.0);
        Ok(())
    })?;
    let ask = format!("http://127.0.0.1:{}/", site.kept);
    ensure!(lb_tests::programs::run("curl", &["-sS", &ask], "")?.has("app"));
    let session =
        |edge: &lb_tests::edge::Edge<'_>| edge.done(&["session", "list", "kept"]).map(|t| t.contains("127.0.0.1"));
    wait_ok("the session to be told", PATIENCE, || {
        ensure!(session(&edge)?, "not yet");
        Ok(())
    })?;
    // A session of TLS, by a ticket of keys that are in memory alone.
    let kept = site.here.file("session.pem");
    let kept = kept.to_string_lossy();
    ensure!(site.here.s_client(site.secure, &["-tls1_2", "-sess_out", &kept])?.status(200));
    let (pid, generation) = (worker(&edge)?, edge.metrics()?.sum("bailey_config_generation", &[]));
    site.kill(&mut edge)?;
    let edge = site.here.start(&config)?;
    ensure!(worker(&edge)? == pid, "another worker");
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_config_generation", &[]) > generation, "generations began anew");
    ensure!(metrics.sum("bailey_backend_up", &[("pool", "dead")]) == 0.0, "a backend that is down counts as up");
    let said = site.here.s_client(site.secure, &["-tls1_2", "-sess_in", &kept])?;
    ensure!(said.status(200) && said.has("Reused, TLSv1.2"), "{}", said.text);
    wait_ok("the session to be told again", PATIENCE, || {
        ensure!(session(&edge)?, "lost");
        Ok(())
    })
}

fn replaced() -> Result<()> {
    let site = Site::new("cpus = [0]\ndrain_timeout = \"1s\"\n")?;
    let mut edge = site.start()?;
    let first = worker(&edge)?;
    site.kill(&mut edge)?;
    // With other threads the worker that was left cannot be gone on with.
    let config = site.config("").replace("cpus = [0]", "cpus = [1]");
    if std::thread::available_parallelism()?.get() < 2 {
        return Ok(());
    }
    let edge = site.here.start(&config)?;
    ensure!(worker(&edge)? != first, "the same worker");
    let target = site.here.target(site.secure, HOST)?;
    for _ in 0..20 {
        ensure!(runtime()?.block_on(target.get(Protocol::Http1, "/"))?.status == 200);
    }
    wait_for("the old worker to end", PATIENCE, || called(first).is_none().then_some(()))?;
    ensure!(runtime()?.block_on(target.get(Protocol::Http1, "/"))?.status == 200);
    Ok(())
}

fn ends() -> Result<()> {
    let site = Site::new("")?;
    let mut edge = site.start()?;
    let pid = worker(&edge)?;
    site.kill(&mut edge)?;
    let target = site.here.target(site.secure, HOST)?;
    ensure!(runtime()?.block_on(target.get(Protocol::Http1, "/"))?.status == 200, "it serves alone");
    signal_process(pid, Signal::TERM)?;
    wait_for("the orphan to end", PATIENCE, || called(pid).is_none().then_some(()))?;
    drop(edge);
    let site = Site::new("orphan_timeout = \"1s\"\n")?;
    let mut edge = site.start()?;
    let pid = worker(&edge)?;
    site.kill(&mut edge)?;
    wait_for("the lonely worker to end", PATIENCE, || called(pid).is_none().then_some(()))?;
    // What dead ones left is no trouble to the next.
    let edge = site.start()?;
    let left = site.here.file(&format!("worker-{}-{pid}.sock", site.here.name));
    ensure!(!left.exists(), "{left:?} is left");
    worker(&edge).map(drop).context("a new worker")
}
