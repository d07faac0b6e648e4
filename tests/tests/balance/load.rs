//! Under load.

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::here::Here;
use lb_tests::lab::HOST;
use lb_tests::programs::curl;
use lb_tests::wait::{PATIENCE, wait_ok};
use rustix::process::Signal;

use crate::site::{Nginx, Site};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("a_backend_that_is_killed_under_load_costs_no_request", &["nginx", "h2load"], killed),
        with("shares_follow_weights_and_bounds_are_kept", &["nginx", "h2load"], bounded),
        with("http2_to_nginx_shares_connections_through_its_goaways", &["nginx", "h2load"], multiplexed),
        with("a_key_stays_with_its_backend", &["nginx", "curl"], keyed),
    ]
}

fn list(backends: &[Nginx]) -> String {
    let addresses: Vec<String> = backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
    format!("backends = [{}]", addresses.join(", "))
}

fn three(here: &Here, listen: &str, server: &str) -> Result<Vec<Nginx>> {
    ["a", "b", "c"].into_iter().map(|name| Nginx::start(here, name, listen, server)).collect()
}

fn killed() -> Result<()> {
    let here = Here::new()?;
    let mut backends = three(&here, "", "")?;
    let retry = "retry = { tries = 3, on = [\"connect\", \"refused\", \"reset\"] }\nhealth = { type = \"tcp\", interval = \"500ms\" }";
    let site = Site::start(&here, &format!("{}\n{retry}", list(&backends)))?;
    std::thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| site.load(20_000, &[]));
        wait_ok("requests", PATIENCE, || {
            ensure!(site.answered(&backends[0])? > 100.0, "too few requests yet");
            Ok(())
        })?;
        backends[0].process.signal(Signal::KILL)?;
        load.join().map_err(|_| anyhow::anyhow!("h2load's thread"))?.map(drop)
    })?;
    let tried = site.sum("bailey_retries_total", &[])?;
    ensure!(tried > 0.0 && site.sum("bailey_retries_denied_total", &[])? == 0.0, "{tried} retries");
    wait_ok("the checks to see it", PATIENCE, || {
        ensure!(site.sum("bailey_backend_up", &[])? == 2.0, "still up");
        Ok(())
    })?;
    // What is left serves; what comes back serves again.
    site.load(500, &[])?;
    drop(backends.remove(0));
    Ok(())
}

fn bounded() -> Result<()> {
    let here = Here::new()?;
    let backends = three(&here, "", "")?;
    let tables: Vec<String> = [3, 1, 1]
        .iter()
        .zip(&backends)
        .map(|(weight, one)| format!("{{ address = \"{}\", weight = {weight} }}", one.address))
        .collect();
    let site = Site::start(&here, &format!("backends = [{}]", tables.join(", ")))?;
    site.load(2500, &[])?;
    let answered: Vec<f64> = backends.iter().map(|one| site.answered(one)).collect::<Result<_>>()?;
    // Exact on each thread but for its last round.
    ensure!((answered[0] - 1500.0).abs() < 20.0 && (answered[1] - 500.0).abs() < 20.0, "{answered:?}");
    drop(site);
    let tables: Vec<String> = backends
        .iter()
        .map(|one| format!("{{ address = \"{}\", max_connections = 4, max_requests = 4 }}", one.address))
        .collect();
    let site = Site::start(&here, &format!("backends = [{}]", tables.join(", ")))?;
    site.load(4000, &["-m", "16"])?;
    ensure!(site.sum("bailey_pool_queued_total", &[])? > 100.0, "nobody waited");
    ensure!(site.sum("bailey_pool_queue_length", &[])? == 0.0, "somebody still waits");
    for one in &backends {
        let opened = site.sum("bailey_backend_connections_total", &[("backend", &one.address.to_string())])?;
        // nginx ends one after a thousand requests.
        ensure!(opened <= 12.0, "{opened} connections");
    }
    Ok(())
}

fn multiplexed() -> Result<()> {
    let here = Here::new()?;
    // Twelve streams at once, and after 500 requests the connection is told to go.
    let server = "keepalive_requests 500; http2_max_concurrent_streams 12;";
    let backends = [Nginx::start(&here, "a", "http2", server)?];
    let site = Site::start(&here, &format!("{}\nprotocol = \"h2c\"", list(&backends)))?;
    site.load(10_000, &["-m", "16"])?;
    ensure!(site.answered(&backends[0])? == 10_000.0, "{:?}", site.answered(&backends[0]));
    let opened = site.sum("bailey_backend_connections_total", &[])?;
    // 10,000 by 500, and as many as 128 requests at once need.
    ensure!((20.0..120.0).contains(&opened), "{opened} connections");
    ensure!(site.sum("bailey_backend_failures_total", &[])? == 0.0, "a connection that goes is no failure");
    Ok(())
}

fn keyed() -> Result<()> {
    let here = Here::new()?;
    let backends = three(&here, "", "")?;
    let site =
        Site::start(&here, &format!("{}\nbalance = \"hash\"\nhash_key = \"${{request.path}}\"", list(&backends)))?;
    let body = |path: &str| -> Result<String> {
        let url = format!("https://{HOST}:{}{path}", site.at.port());
        let said = curl(site.at, &[HOST], &here.ca(), &[&url])?;
        ensure!(said.status(200), "{}", said.text);
        said.text.trim_end().lines().last().map(str::to_owned).context("no body")
    };
    let mut seen = std::collections::BTreeSet::new();
    // Where a key leads depends on the backends' ports: sixty leave none out, but once in ten billion runs.
    for n in 0..60 {
        if n >= 12 && seen.len() == 3 {
            break;
        }
        let path = format!("/{n}");
        let first = body(&path)?;
        ensure!(body(&path)? == first && body(&path)? == first, "{path} moved from {first}");
        seen.insert(first);
    }
    ensure!(seen.len() == 3, "{seen:?}");
    Ok(())
}
