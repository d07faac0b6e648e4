//! Very many requests, by h2load and wrk: every answer as it should be, and no memory more at the end than when a tenth
//! was done. `SOAK_REQUESTS` says how many; `cargo xtask soak` does a million in a release build.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::programs::run_for;

use crate::limits::counted;
use lb_tests::peers::nginx_with;

/// Requests, where nothing else is said: some seconds of an unoptimised edge.
const REQUESTS: u64 = 100_000;
/// Seconds that a part may take.
const PATIENCE: u32 = 900;
/// What the worker may have more at the end, KiB: pages that the allocator has not given back.
const GROWTH: u64 = 8 << 10;

pub(crate) fn tests() -> Vec<Test> {
    vec![with(
        "very_many_requests_have_no_unexpected_code_and_leave_memory_as_it_was",
        &["h2load", "wrk", "nginx"],
        soak,
    )]
}

fn soak() -> Result<()> {
    let wanted = std::env::var("SOAK_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(REQUESTS);
    let here = Here::new()?;
    let (secure, clear, origin) = (free_address()?, free_address()?, free_address()?);
    let servers = format!("server {{ listen {origin}; location / {{ return 200 \"{}\"; }} }}\n", "x".repeat(1000));
    let _nginx = nginx_with(here.folder(), "keepalive_requests 1000000;", &servers, origin)?;
    let edge = here.start(&format!(
        "{}[service.secure]\naddresses = [\"{secure}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n\
         limits = {{ requests_per_second = 10000000, per_source_requests_per_second = 10000000, per_source_connections = 10000 }}\n\
         [service.clear]\naddresses = [\"{clear}\"]\nmode = \"http\"\npool = \"app\"\n\
         [pool.app]\nbackends = [\"{origin}\"]\n",
        here.head("")
    ))?;
    let part = wanted / 10;
    load(secure, true, part / 2)?;
    load(clear, false, part / 2)?;
    let early = memory(&edge)?;
    let mut done = part;
    while done < wanted {
        let left = (wanted - done).min(4 * part);
        load(secure, true, left / 2)?;
        load(clear, false, left / 4)?;
        done += left / 2 + left / 4 + wrk(clear)?;
    }
    let late = memory(&edge)?;
    println!("{done} requests; the worker has {early} KiB after {part}, {late} KiB at the end");
    ensure!(late <= early + GROWTH, "the worker grew from {early} to {late} KiB");
    let text = edge.metrics()?;
    let good = text.sum("bailey_http_requests_total", &[("code", "2xx")]);
    let all = text.sum("bailey_http_requests_total", &[]);
    ensure!(good == all && good >= done as f64, "{good} good answers of {all}, {done} were asked for");
    for name in ["bailey_backend_failures_total", "bailey_http_rejected_total", "bailey_client_timeouts_total"] {
        ensure!(text.sum(name, &[]) == 0.0, "{name}: {}", text.sum(name, &[]));
    }
    Ok(())
}

fn load(to: SocketAddr, secure: bool, requests: u64) -> Result<()> {
    let (n, connect) = (requests.to_string(), format!("--connect-to={to}"));
    let url = format!("{}://{HOST}:{}/", if secure { "https" } else { "http" }, to.port());
    let shape: &[&str] = if secure { &["-c", "16", "-m", "8"] } else { &["-c", "16", "--h1"] };
    let said = run_for(PATIENCE, "h2load", &[shape, &["-n", &n, &connect, &url]].concat(), "")?;
    let good = counted(&said.text, " 2xx")?;
    ensure!(good == requests, "{good} of {requests} were answered with 2xx:\n{}", said.text);
    Ok(())
}

/// Two seconds of wrk; how many requests that were.
fn wrk(to: SocketAddr) -> Result<u64> {
    let said = run_for(PATIENCE, "wrk", &["-t", "1", "-c", "16", "-d", "2s", &format!("http://{to}/")], "")?;
    ensure!(!said.has("Non-2xx") && !said.has("Socket errors"), "{}", said.text);
    let line = said.text.lines().find_map(|line| line.trim().split_once(" requests in "));
    Ok(line.with_context(|| said.text.clone())?.0.parse()?)
}

/// Resident memory of the worker, KiB.
fn memory(edge: &Edge<'_>) -> Result<u64> {
    let worker = edge.worker().context("no worker")?;
    let text = std::fs::read_to_string(format!("/proc/{worker}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
