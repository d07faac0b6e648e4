//! What is shown, step by step. A step that does not hold is an error.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::client::{Protocol, Reply, Target};
use lb_tests::edge::Edge;
use lb_tests::lab::ServedBy;
use lb_tests::left::Left;
use lb_tests::metrics::Scrape;
use lb_tests::process::signal_process;
use lb_tests::wait::{PATIENCE, wait_for};
use rustix::process::Signal;

use super::stage::Stage;

/// The whole of it but the end.
pub(crate) fn tell(stage: &Stage, edge: &Edge, backends: &[Backend]) -> Result<()> {
    println!("\n{}", edge.done(&["status"])?.trim_end());
    let before = edge.metrics()?;
    flows(stage, edge)?;
    websocket(stage)?;
    drain(stage, edge, backends)?;
    kill(stage, edge)?;
    counters(&before, &edge.metrics()?)?;
    requests_seen(edge, backends)
}

/// Stop, and see that nothing is left.
pub(crate) fn end(stage: &Stage, edge: &mut Edge) -> Result<()> {
    step("The edge ends");
    let status = edge.stop()?;
    ensure!(status.code() == Some(0), "bailey run ended with {status}:\n{}", edge.log());
    if let Some(lab) = stage.lab() {
        let left = Left::see(lab)?;
        ensure!(left.is_nothing(), "left behind in the kernel: {left:?}");
        println!("  nothing is left in the kernel: no program, no pin, no route");
    }
    println!("\nEvery step held.");
    Ok(())
}

fn step(title: &str) {
    println!("\n== {title}");
}

/// HTTPS over both protocols and families: who served which flow.
fn flows(stage: &Stage, edge: &Edge) -> Result<()> {
    const EACH: usize = 4;
    step("HTTPS: which worker and CPU served which flow");
    println!(
        "  {:<9} {:<24} {:>6} {:>4} {:>12}  {:<9} bailey flow said",
        "protocol", "client", "worker", "CPU", "delivered on", "by"
    );
    let mut workers = BTreeMap::<u32, usize>::new();
    for target in stage.targets()? {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for reply in replies(stage, &target, protocol, EACH)? {
                ensure!(reply.status == 200, "answered {}", reply.status);
                let by = ServedBy::of(&reply)?;
                let said = agreed(stage, edge, &target, &reply, by)?;
                let name = if protocol == Protocol::Http1 { "HTTP/1.1" } else { "HTTP/2" };
                println!(
                    "  {name:<9} {:<24} {:>6} {:>4} {:>12}  {:<9} {said}",
                    reply.local.to_string(),
                    by.worker,
                    by.cpu,
                    by.incoming_cpu,
                    reply.header("x-backend")
                );
                *workers.entry(by.worker).or_default() += 1;
            }
        }
    }
    println!("  flows by worker: {workers:?}");
    Ok(())
}

/// With XDP the kernel's choice, the worker's word and the operator's question must agree.
fn agreed(stage: &Stage, edge: &Edge, target: &Target, reply: &Reply, by: ServedBy) -> Result<String> {
    if stage.lab().is_none() {
        return Ok("(no steering)".into());
    }
    let said = edge.json(&["flow", &reply.local.to_string(), &format!("{}/tcp", target.address)])?;
    ensure!(by.incoming_cpu == by.cpu, "flow of {} was delivered on another CPU: {by:?}", reply.local);
    ensure!(said["worker"] == by.worker && said["cpu"] == by.cpu, "{}: served by {by:?}, but {said}", reply.local);
    Ok(format!("worker {} on CPU {}", said["worker"], said["cpu"]))
}

/// One request on each of `count` connections.
fn replies(stage: &Stage, target: &Target, protocol: Protocol, count: usize) -> Result<Vec<Reply>> {
    stage.as_client(|| async {
        let mut replies = Vec::new();
        for _ in 0..count {
            replies.push(target.get(protocol, "/hello").await?);
        }
        Ok(replies)
    })
}

fn first(stage: &Stage) -> Result<Target> {
    stage.targets()?.into_iter().next().context("no service")
}

fn websocket(stage: &Stage) -> Result<()> {
    step("A WebSocket through the edge");
    let target = first(stage)?;
    let said = ["hello", "through the wall", "goodbye"];
    let echoes = stage.as_client(|| async { target.websocket("/echo", &said).await })?;
    ensure!(echoes == said, "said {said:?}, heard {echoes:?}");
    println!("  said and heard: {echoes:?}");
    Ok(())
}

fn drain(stage: &Stage, edge: &Edge, backends: &[Backend]) -> Result<()> {
    let address = backends[0].address.to_string();
    step("Draining backend1");
    println!("  $ bailey pool drain app {address} --wait");
    edge.done(&["pool", "drain", "app", &address, "--wait"])?;
    let before: Vec<usize> = backends.iter().map(Backend::count).collect();
    replies(stage, &first(stage)?, Protocol::Http2, 10)?;
    let new: Vec<usize> = backends.iter().zip(&before).map(|(backend, before)| backend.count() - before).collect();
    println!("  of 10 requests since: backend1 saw {}, backend2 saw {}", new[0], new[1]);
    ensure!(new == [0, 10], "a drained backend was asked");
    println!("  $ bailey pool enable app {address}");
    edge.done(&["pool", "enable", "app", &address])?;
    let before = backends[0].count();
    replies(stage, &first(stage)?, Protocol::Http1, 10)?;
    println!("  of 10 requests since: backend1 saw {}", backends[0].count() - before);
    ensure!(backends[0].count() > before, "an enabled backend is not asked");
    Ok(())
}

fn kill(stage: &Stage, edge: &Edge) -> Result<()> {
    step("Killing the worker process");
    let old = wait_for("a worker process", PATIENCE, || edge.worker())?;
    // What a worker has counted is fetched at a scrape; what it counted since is lost with it.
    edge.metrics()?;
    println!("  $ kill -KILL {old}");
    let start = Instant::now();
    signal_process(old, Signal::KILL)?;
    // At once, while nobody serves: the connection waits in the listener's queue and is served by the next worker.
    let target = first(stage)?;
    let mut served = 0;
    let mut slowest = Duration::ZERO;
    while served < 10 {
        let begun = Instant::now();
        let reply = replies(stage, &target, Protocol::Http1, 1).context("after the worker's death")?;
        ensure!(reply[0].status == 200, "answered {}", reply[0].status);
        slowest = slowest.max(begun.elapsed());
        served += 1;
    }
    let new = wait_for("the next worker process", PATIENCE, || edge.worker().filter(|new| *new != old))?;
    println!(
        "  process {new} took over; {served} new connections were served, none refused, the slowest in {slowest:.0?}"
    );
    println!("  all of it within {:.0?}", start.elapsed());
    Ok(())
}

fn counters(before: &Scrape, after: &Scrape) -> Result<()> {
    step("Counters before and after");
    let fallen = after.fallen(before);
    ensure!(fallen.is_empty(), "counters fell: {fallen:?}");
    let shown = [
        "bailey_packets_total",
        "bailey_steered_flows_total",
        "bailey_worker_connections_total",
        "bailey_worker_connections_on_cpu_total",
        "bailey_tls_handshakes_total",
        "bailey_http_requests_total",
        "bailey_worker_restarts_total",
    ];
    for sample in after.samples().iter().filter(|sample| shown.contains(&sample.name.as_str())) {
        let labels: Vec<(&str, &str)> =
            sample.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let was = before.sum(&sample.name, &labels);
        if sample.value == was {
            continue;
        }
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        println!("  {:>6} -> {:<6} {}{{{}}}", was, sample.value, sample.name, labels.join(","));
    }
    Ok(())
}

fn requests_seen(edge: &Edge, backends: &[Backend]) -> Result<()> {
    step("Requests that each backend saw");
    let scrape = edge.metrics()?;
    for (number, backend) in backends.iter().enumerate() {
        let address = backend.address.to_string();
        let counted = scrape.sum("bailey_http_requests_total", &[("backend", &address)]);
        println!("  backend{} {address}: {} (the edge counts {counted})", number + 1, backend.count());
        ensure!(backend.count() > 0, "{address} was never asked");
    }
    Ok(())
}
