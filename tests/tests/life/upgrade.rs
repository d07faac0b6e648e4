//! A new control plane takes over from one that lives, or does not.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, plain, with};
use lb_tests::lab::HOST;
use lb_tests::netns::runtime;
use lb_tests::process::{called, control_planes};
use lb_tests::wait::{PATIENCE, wait_for, wait_ok};
use rustix::process::Signal;

use crate::load::{SOCKETS, under_load};
use crate::site::{PROGRAMS, Site, another, worker};

const UPGRADES: u32 = 5;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("five_upgrades_under_load_lose_no_request", PROGRAMS, upgrades),
        plain("an_upgrade_that_cannot_be_changes_nothing_and_says_why", refused),
        plain("nothing_is_changed_while_an_upgrade_is_under_way", underway),
        plain("sigusr2_upgrades_and_what_operators_and_checks_said_goes_on", by_signal),
    ]
}

fn upgrades() -> Result<()> {
    let site = Site::new("drain_timeout = \"2s\"\n")?;
    let mut edge = site.start()?;
    let target = site.here.target(site.secure, HOST)?;
    let outcome = under_load(site.clear, &target, SOCKETS, |load| {
        for _ in 0..UPGRADES {
            let (before, broken) = (worker(&edge)?, load.broken.load(Ordering::Relaxed));
            let new = edge.json(&["upgrade"])?;
            let pid = u32::try_from(new["pid"].as_u64().context("no process id")?)?;
            ensure!(called(pid).is_some(), "the new control plane is not there");
            another(&edge, before)?;
            // Tunnels have the time that the config gives them.
            ensure!(load.broken.load(Ordering::Relaxed) == broken, "WebSockets broke with the upgrade");
            wait_for("the old worker to end", PATIENCE, || called(before).is_none().then_some(()))?;
            // It cut each of them once, and they are open again, at the new one.
            wait_ok("WebSockets again", PATIENCE, || {
                ensure!(load.open.load(Ordering::Relaxed) == SOCKETS, "some are missing");
                ensure!(load.broken.load(Ordering::Relaxed) == broken + SOCKETS, "some were cut twice, or not");
                Ok(())
            })?;
        }
        load.flows_on()
    })?;
    println!("wrk {:?}, h2load {:?}", outcome.wrk, outcome.h2load);
    let (wrk, h2load) = (&outcome.wrk, &outcome.h2load);
    ensure!((wrk.refused, wrk.lost, wrk.bad) == (0, 0, 0), "wrk: {wrk:?}");
    // h2load counts what it would have sent on a connection that says GOAWAY as lost: at the most what each of its four
    // connections had in mind at each upgrade.
    ensure!((h2load.refused, h2load.bad) == (0, 0) && h2load.lost <= u64::from(UPGRADES) * 16, "h2load: {h2load:?}");
    ensure!(edge.process().wait(PATIENCE)?.success(), "the first control plane did not end well");
    ensure!(edge.metrics()?.sum("bailey_upgrades_total", &[("result", "applied")]) == 1.0);
    ensure!(control_planes(&site.here.file("bailey.toml")).len() == 1, "more than one control plane");
    Ok(())
}

fn script(site: &Site, name: &str, text: &str) -> Result<PathBuf> {
    let file = site.here.file(name);
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n"))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

fn serves(site: &Site) -> Result<()> {
    let target = site.here.target(site.secure, HOST)?;
    let reply = runtime()?.block_on(target.get(Protocol::Http1, "/"))?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(())
}

fn refused() -> Result<()> {
    let site = Site::new("")?;
    let mut edge = site.start()?;
    let before = worker(&edge)?;
    let good = site.config("");
    let sleeps = script(&site, "sleeps", "exec sleep 60")?;
    let fails = script(&site, "fails", "exit 3")?;
    let path = |file: &PathBuf| file.to_string_lossy().into_owned();
    let metrics = good.lines().find(|line| line.starts_with("metrics = ")).context("no port of metrics")?;
    let tries: [(&str, Vec<String>, &str); 6] = [
        (&good, vec!["--binary".into(), "/nonexistent/bailey".into()], "cannot run /nonexistent/bailey"),
        (&good, vec!["--binary".into(), path(&fails)], "exit status: 3"),
        (&good, vec!["--binary".into(), path(&sleeps), "--timeout".into(), "1s".into()], "not ready within"),
        (&good.replace("pool = \"app\"", "pool = \"nowhere\""), vec![], "there is no pool \"nowhere\""),
        (&good.replace(&format!("name = \"{}\"", site.here.name), "name = \"other\""), vec![], "restart bailey"),
        // After it had the sockets, which stay with the old one.
        (&good.replace(metrics, &format!("metrics = \"{}\"", site.app)), vec![], "for metrics"),
    ];
    for (number, (config, arguments, why)) in tries.iter().enumerate() {
        edge.rewrite(config)?;
        let words: Vec<&str> = ["upgrade"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let outcome = edge.cli(&words)?;
        ensure!(outcome.code == Some(1) && outcome.stderr.contains(why), "not saying {why:?}: {outcome:?}");
        ensure!(worker(&edge)? == before, "another worker");
        let metrics = edge.metrics()?;
        ensure!(metrics.sum("bailey_upgrades_total", &[("result", "refused")]) == (number + 1) as f64);
        serves(&site)?;
    }
    // It goes on as before: changes are taken, and a good upgrade too.
    edge.rewrite(&good)?;
    edge.done(&["reload"])?;
    edge.done(&["pool", "weight", "app", &site.app.to_string(), "3"])?;
    edge.done(&["upgrade"])?;
    another(&edge, before)?;
    serves(&site)?;
    ensure!(edge.process().wait(Duration::from_secs(20))?.success());
    Ok(())
}

fn underway() -> Result<()> {
    let site = Site::new("")?;
    let edge = site.start()?;
    let begun = site.here.file("begun");
    let slow = script(&site, "slow", &format!("touch {}; exec sleep 60", begun.display()))?;
    let app = site.app.to_string();
    std::thread::scope(|scope| -> Result<()> {
        let upgrade = scope.spawn(|| edge.cli(&["upgrade", "--binary", &slow.to_string_lossy(), "--timeout", "2s"]));
        wait_for("the upgrade to begin", PATIENCE, || begun.exists().then_some(()))?;
        for verb in [&["reload"][..], &["pool", "drain", "app", &app], &["upgrade"], &["cert", "reload"]] {
            let outcome = edge.cli(verb)?;
            ensure!(outcome.code == Some(1) && outcome.stderr.contains("under way"), "{verb:?}: {outcome:?}");
        }
        ensure!(edge.done(&["status"])?.contains("worker"), "it can still be asked");
        let outcome = upgrade.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(outcome.code == Some(1), "{outcome:?}");
        Ok(())
    })?;
    edge.done(&["pool", "weight", "app", &app, "5"])?;
    serves(&site)
}

fn by_signal() -> Result<()> {
    let site = Site::new("drain_timeout = \"1s\"\n")?;
    let dead = format!(
        "[pool.dead]\nbackends = [\"127.0.0.1:{}\"]\nhealth = {{ type = \"tcp\", interval = \"100ms\", fall = 1 }}\n",
        site.spare
    );
    let mut edge = site.here.start(&site.config(&dead))?;
    wait_ok("the checks", PATIENCE, || {
        ensure!(edge.metrics()?.sum("bailey_backend_up", &[("pool", "dead")]) == 0.0);
        ensure!(edge.metrics()?.sum("bailey_backend_up", &[("pool", "app")]) == 1.0);
        Ok(())
    })?;
    let generation = |edge: &Edge<'_>| -> Result<f64> { Ok(edge.metrics()?.sum("bailey_config_generation", &[])) };
    let (before, first) = (generation(&edge)?, worker(&edge)?);
    edge.process().signal(Signal::USR2)?;
    let second = another(&edge, first)?;
    ensure!(edge.process().wait(PATIENCE)?.success(), "{}", edge.log());
    ensure!(generation(&edge)? > before, "generations began anew");
    // Known from the first moment, not after the first check: the pool is checked hourly from here on.
    ensure!(
        edge.metrics()?.sum("bailey_backend_up", &[("pool", "dead")]) == 0.0,
        "a backend that is down counts as up"
    );
    // And once more, from one that was started that way.
    edge.done(&["upgrade"])?;
    another(&edge, second)?;
    serves(&site)
}
