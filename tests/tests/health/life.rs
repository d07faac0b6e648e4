//! What comes of checks: a backend that flaps under load, checks that pools share, answers beside checks, what the edge
//! cannot check, too few backends.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::peers::nginx;
use lb_tests::programs;
use lb_tests::wait::{PATIENCE, wait_for, wait_ok};

use crate::site::backends;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with(
            "a_backend_that_flaps_under_load_loses_no_request_and_leaves_its_history",
            &["nginx", "wrk", "curl"],
            flapping,
        ),
        plain("a_backend_of_ten_pools_is_asked_once_and_a_reload_keeps_what_is_known", shared),
        with("checks_answers_and_operators_are_put_together_by_one_rule", &["curl"], standing),
        plain("what_the_edge_cannot_check_stays_as_it_is_and_is_told", unable),
        plain("a_pool_with_fewer_backends_than_its_minimum_is_told", few),
    ]
}

fn service(at: std::net::SocketAddr) -> String {
    format!("[service.web]\naddresses = [\"{at}\"]\nmode = \"http\"\npool = \"app\"\n")
}

fn flapping() -> Result<()> {
    const ROUNDS: usize = 3;
    let here = Here::new()?;
    let (at, steady, shaky) = (free_address()?, free_address()?, free_address()?);
    let start = |name: &str, at| {
        let folder = here.file(name);
        std::fs::create_dir_all(&folder)?;
        nginx(&folder, &format!("server {{ listen {at}; location / {{ return 200 ok; }} }}\n"), at)
    };
    let _steady = start("steady", steady)?;
    let mut process = Some(start("shaky", shaky)?);
    let pool = format!(
        "[pool.app]\nbackends = [\"{steady}\", \"{shaky}\"]\nretry = {{ tries = 3, on = [\"connect\", \"refused\", \"reset\"] }}\n\
         health = {{ type = \"http\", interval = \"100ms\", fall = 2, rise = 2 }}\n"
    );
    let edge = here.start(&(here.head("") + &service(at) + &pool))?;
    let is = |up: bool| {
        wait_ok(if up { "it to be up" } else { "it to be down" }, PATIENCE, || {
            let shown = backends(&edge, "app")?;
            let one = shown.iter().find(|one| one["address"] == shaky.to_string()).context("no backend")?.clone();
            ensure!(one["health"] == if up { "up" } else { "down" }, "{one}");
            Ok(one)
        })
    };
    is(true)?;
    let over = AtomicBool::new(false);
    let (said, last) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut all = Vec::new();
            while !over.load(Ordering::SeqCst) {
                all.push(programs::run("wrk", &["-t1", "-c4", "-d1s", &format!("http://{at}/")], "")?);
            }
            anyhow::Ok(all)
        });
        let flap = || {
            let mut last = None;
            for _ in 0..ROUNDS {
                drop(process.take());
                is(false)?;
                process = Some(start("shaky", shaky)?);
                last = Some(is(true)?);
            }
            anyhow::Ok(last)
        };
        let last = { flap }();
        over.store(true, Ordering::SeqCst);
        let said = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        anyhow::Ok((said, last?.context("no round")?))
    })?;
    for one in &said {
        // wrk says so only where there are some.
        ensure!(one.has("requests in") && !one.has("Non-2xx") && !one.has("Socket errors"), "{}", one.text);
    }
    let history = last["history"].as_array().context("no history")?;
    ensure!(history.len() == (2 * ROUNDS).min(8), "{last}");
    let causes: Vec<&str> = history.iter().filter_map(|past| past["cause"].as_str()).collect();
    ensure!(causes[0].contains("2 of 2") && causes[1].contains("HTTP 200"), "{causes:?}");
    let shaky = shaky.to_string();
    let changes = edge.metrics()?.sum("bailey_health_changes_total", &[("backend", &shaky)]);
    ensure!(changes == (2 * ROUNDS) as f64, "{changes} changes");
    let table = edge.done(&["pool", "show", "app"])?;
    ensure!(table.contains("BEFORE") && table.contains("TAKES PART"), "{table}");
    Ok(())
}

fn shared() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("b")?;
    let pool = |i: usize| {
        let at = backend.address;
        format!("[pool.p{i}]\nbackends = [\"{at}\"]\nhealth = {{ type = \"http\", interval = \"100ms\" }}\n")
    };
    let pools: String = (0..10).map(pool).collect();
    let config = here.head("") + &service(free_address()?).replace("app", "p0") + &pools;
    let edge = here.start(&config)?;
    let good = |pool: &str| -> Result<f64> {
        Ok(edge.metrics()?.sum("bailey_health_checks_total", &[("pool", pool), ("result", "good")]))
    };
    wait_for("twenty checks", PATIENCE, || good("p9").ok().filter(|good| *good >= 20.0))?;
    let results = good("p9")?;
    let asked = backend.count() as f64;
    ensure!(asked <= results + 15.0, "{asked} requests for {results} results of each of ten pools");
    ensure!(edge.metrics()?.sum("bailey_health_probes", &[]) == 1.0);
    // A reload that changes something else keeps states and counts; one pool more is told at once.
    let before = good("p3")?;
    edge.rewrite(&(config + &pool(10)))?;
    edge.done(&["reload"])?;
    wait_for("the new pool", PATIENCE, || Some(backends(&edge, "p10").ok()?[0]["health"] == "up").filter(|up| *up))?;
    ensure!(good("p3")? >= before, "counts began anew");
    ensure!(edge.metrics()?.sum("bailey_health_probes", &[]) == 1.0);
    ensure!(backends(&edge, "p3")?[0]["history"] == serde_json::json!([]), "its state began anew");
    Ok(())
}

fn standing() -> Result<()> {
    let here = Here::new()?;
    let (at, backend) = (free_address()?, Backend::start_here("b")?);
    let pool = format!(
        "[pool.app]\nbackends = [\"{}\"]\nretry.tries = 1\nhealth = {{ type = \"http\", interval = \"100ms\" }}\n\
         outliers = {{ errors = 3, ejection = \"1h\", max_ejection = \"1h\", max_percent = 100 }}\n",
        backend.address
    );
    let edge = here.start(&(here.head("cpus = [0]") + &service(at) + &pool))?;
    let takes = |word: &str| {
        wait_ok(&format!("takes_part {word:?}"), PATIENCE, || {
            let one = backends(&edge, "app")?.first().context("no backend")?.clone();
            ensure!(one["takes_part"] == word && one["health"] == "up", "{one}");
            Ok(())
        })
    };
    takes("yes")?;
    // It is well when it is checked, and answers badly.
    for _ in 0..3 {
        programs::run("curl", &["-s", "-o", "/dev/null", &format!("http://{at}/?status=500")], "")?;
    }
    takes("no (answers)")?;
    let said = programs::run("curl", &["-s", "-i", &format!("http://{at}/")], "")?;
    ensure!(said.status(503), "{}", said.text);
    // What the operator says goes first.
    let address = backend.address.to_string();
    edge.done(&["pool", "drain", "app", &address])?;
    takes("no (draining)")?;
    edge.done(&["pool", "disable", "app", &address])?;
    takes("no (disabled)")?;
    edge.done(&["pool", "enable", "app", &address])?;
    takes("no (answers)")
}

fn unable() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("b")?;
    // RFC 5737: no host has it.
    let health = "type = \"tcp\", interval = \"100ms\", fall = 1, source = \"192.0.2.77\"";
    let pool = format!("[pool.app]\nbackends = [\"{}\"]\nhealth = {{ {health} }}\n", backend.address);
    let edge = here.start(&(here.head("") + &service(free_address()?) + &pool))?;
    let unable = [("pool", "app"), ("result", "unable")];
    wait_for("three tries", PATIENCE, || {
        edge.metrics().ok().filter(|m| m.sum("bailey_health_checks_total", &unable) >= 3.0)
    })?;
    let one = backends(&edge, "app")?.first().context("no backend")?.clone();
    ensure!(one["state"] == "up" && one["health"] == "unknown" && one["takes_part"] == "yes", "{one}");
    let status = edge.cli(&["status"])?;
    ensure!(
        status.code == Some(1) && status.stdout.contains("cannot be checked: no socket at 192.0.2.77"),
        "{status:?}"
    );
    let lines = edge.log().matches("cannot be checked").count();
    ensure!(lines == 1, "{lines} lines in the log");
    Ok(())
}

fn few() -> Result<()> {
    let here = Here::new()?;
    let (backend, dead) = (Backend::start_here("b")?, free_address()?);
    let pool = format!(
        "[pool.app]\nbackends = [\"{}\", \"{dead}\"]\nmin_up = 2\nhealth = {{ type = \"tcp\", interval = \"100ms\" }}\n",
        backend.address
    );
    let edge = here.start(&(here.head("") + &service(free_address()?) + &pool))?;
    let words = "has 1 of 2 backends that may be chosen, fewer than its min_up of 2";
    wait_ok("the trouble", PATIENCE, || {
        let status = edge.cli(&["status"])?;
        ensure!(status.code == Some(1) && status.stdout.contains(words), "{status:?}");
        Ok(())
    })?;
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_pool_backends_up", &[]) == 1.0 && metrics.sum("bailey_pool_min_up", &[]) == 2.0);
    Ok(())
}
