//! Reloads.

use anyhow::{Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::harness::{Test, with};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use std::sync::atomic::Ordering;

use crate::load::{SOCKETS, Seen, under_load};
use crate::site::{PROGRAMS, Site, worker};

const RELOADS: u32 = 100;

pub(crate) fn tests() -> Vec<Test> {
    vec![with("a_hundred_reloads_lose_nothing_and_touch_only_what_changed", PROGRAMS, reloads)]
}

fn reloads() -> Result<()> {
    let site = Site::new("")?;
    let edge = site.start()?;
    let target = site.here.target(site.secure, HOST)?;
    let pid = worker(&edge)?;
    // A service comes and goes, and a pool of its own; the others stay as they are.
    let reload = |n: u32| -> Result<()> {
        let more = format!(
            "[service.more]\naddresses = [\"127.0.0.1:{}\"]\nmode = \"http\"\npool = \"more\"\n\
             [pool.more]\nbackends = [\"127.0.0.1:{}\"]\n",
            site.spare,
            1 + n
        );
        edge.rewrite(&site.config(if n.is_multiple_of(2) { &more } else { "" }))?;
        edge.done(&["reload"]).map(drop)
    };
    let outcome = under_load(site.clear, &target, SOCKETS, |load| {
        load.flows_on()?;
        (0..RELOADS).try_for_each(reload)?;
        load.flows_on()?;
        ensure!(load.broken.load(Ordering::Relaxed) == 0, "WebSockets broke");
        Ok(())
    })?;
    clean("wrk", &outcome.wrk)?;
    clean("h2load", &outcome.h2load)?;
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_config_reloads_total", &[("result", "applied")]) == f64::from(RELOADS));
    ensure!(metrics.sum("bailey_worker_restarts_total", &[]) == 0.0 && worker(&edge)? == pid, "another worker");
    println!("wrk {:?}, h2load {:?}, {SOCKETS} WebSockets stayed open", outcome.wrk, outcome.h2load);
    // Programs that end with requests under way cost connections to the backend, so these are counted without them.
    let opened = || -> Result<f64> { Ok(edge.metrics()?.sum("bailey_backend_connections_total", &[("pool", "app")])) };
    let runtime = runtime()?;
    let mut client = runtime.block_on(target.connect(Protocol::Http1))?;
    ensure!(runtime.block_on(client.get("/"))?.status == 200);
    let before = opened()?;
    for n in 0..10 {
        reload(n)?;
        ensure!(runtime.block_on(client.get("/"))?.status == 200);
    }
    let more = opened()? - before;
    ensure!(more == 0.0, "{more} connections to a backend that did not change");
    ensure!(metrics.sum("bailey_backend_up", &[("pool", "app")]) == 1.0, "its checks began anew");
    Ok(())
}

/// Nothing lost, and there was something to lose.
pub(crate) fn clean(who: &str, seen: &Seen) -> Result<()> {
    ensure!(seen.good > 200 && (seen.refused, seen.lost, seen.bad) == (0, 0, 0), "{who}: {seen:?}");
    Ok(())
}
