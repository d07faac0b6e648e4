//! A flow is served by exactly one worker, and that on the CPU that the kernel chose for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use lb_tests::client::{Protocol, Reply};
use lb_tests::edge::Edge;
use lb_tests::harness::{lab, main as run};
use lb_tests::lab::{Lab, ServedBy, VIP4, VIP6};
use lb_tests::metrics::Scrape;
use lb_tests::netns::pin;

const FLOWS: usize = 500;

fn main() -> ExitCode {
    run(vec![
        lab("hash_puts_500_flows_on_the_workers_that_it_says_each_on_its_own_cpu", hash),
        lab("rss_leaves_a_flow_on_the_cpu_that_it_came_in_on", rss),
        lab("ipv6_flows_are_steered_alike", ipv6),
    ])
}

fn hash() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("cpus = [0, 1]\nsteering = \"hash\"", ""))?;
    let replies = flows(&lab, VIP4.into(), FLOWS, None)?;
    let by_worker = count(&replies)?;
    for (number, reply) in replies.iter().enumerate() {
        let by = ServedBy::of(reply)?;
        ensure!(by.cpu == by.worker && by.incoming_cpu == by.cpu, "flow from {}: {by:?}", reply.local);
        if number % 25 == 0 {
            let said = edge.json(&["flow", &reply.local.to_string(), &format!("{VIP4}:443/tcp")])?;
            ensure!(said["worker"] == by.worker && said["cpu"] == by.cpu, "{}: {by:?}, but {said}", reply.local);
        }
    }
    ensure!(by_worker.values().all(|flows| *flows > FLOWS as u64 / 4), "shares are far from even: {by_worker:?}");
    let scrape = edge.metrics()?;
    for (worker, flows) in &by_worker {
        let worker = worker.to_string();
        for name in ["bailey_worker_connections_total", "bailey_worker_connections_on_cpu_total"] {
            let counted = scrape.sum(name, &[("worker", &worker)]);
            ensure!(counted == *flows as f64, "{name}{{worker={worker}}} is {counted}, the headers say {flows}");
        }
    }
    assigned(&scrape, FLOWS)?;
    ensure!(scrape.sum("bailey_connections_total", &[("service", "web")]) == FLOWS as f64);
    ensure!(scrape.sum("bailey_worker_connections_unknown_total", &[]) == 0.0);
    let steered = |verdict| scrape.sum("bailey_packets_total", &[("service", "web"), ("verdict", verdict)]);
    ensure!(steered("steer_local") + steered("steer_redirect") > 3.0 * FLOWS as f64, "packets were not counted");
    Ok(())
}

fn rss() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("cpus = [0, 1]\nsteering = \"rss\"", ""))?;
    let mut total = 0;
    for cpu in 0..2 {
        // veth delivers on the CPU that sends: the client's CPU takes the part of the NIC's hash.
        let replies = flows(&lab, VIP4.into(), 100, Some(cpu))?;
        let there = replies.iter().filter(|reply| ServedBy::of(reply).is_ok_and(|by| by.cpu == cpu as u32)).count();
        // A frame that finds the receive queue busy on the other CPU is taken there.
        ensure!(there >= 90, "{there} of 100 flows that came in on CPU {cpu} were served there");
        total += replies.len();
    }
    let scrape = edge.metrics()?;
    ensure!(scrape.sum("bailey_worker_connections_total", &[]) == total as f64);
    assigned(&scrape, total)?;
    let verdict = |name| scrape.sum("bailey_packets_total", &[("service", "web"), ("verdict", name)]);
    ensure!(verdict("steer_rss") > 0.0 && verdict("steer_redirect") == 0.0, "rss redirects nothing");
    Ok(())
}

fn ipv6() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("cpus = [0, 1]\nsteering = \"hash\"", ""))?;
    let replies = flows(&lab, VIP6.into(), 60, None)?;
    for reply in &replies {
        let by = ServedBy::of(reply)?;
        ensure!(by.incoming_cpu == by.cpu, "flow from {}: {by:?}", reply.local);
        let said = edge.json(&["flow", &reply.local.to_string(), &format!("[{VIP6}]:443/tcp")])?;
        ensure!(said["worker"] == by.worker, "{}: {by:?}, but {said}", reply.local);
    }
    ensure!(count(&replies)?.len() == 2, "60 flows on one worker");
    Ok(())
}

/// A SYN that is sent again and a late packet of a connection that is gone are looked up, and so assigned, too.
fn assigned(scrape: &Scrape, flows: usize) -> Result<()> {
    let assigned = scrape.sum("bailey_steered_flows_total", &[]);
    let flows = flows as f64;
    ensure!(assigned >= flows && assigned <= 1.05 * flows, "{assigned} lookups were assigned for {flows} flows");
    Ok(())
}

/// One request on each of `count` connections, one after the other.
fn flows(lab: &Lab, vip: IpAddr, count: usize, cpu: Option<usize>) -> Result<Vec<Reply>> {
    let target = lab.target(vip, 443)?;
    lab.client.run(|| {
        cpu.map_or(Ok(()), pin)?;
        lb_tests::netns::runtime()?.block_on(async {
            let mut replies = Vec::with_capacity(count);
            for _ in 0..count {
                let reply = target.get(Protocol::Http1, "/").await?;
                ensure!(reply.status == 200, "{reply:?}");
                replies.push(reply);
            }
            Ok(replies)
        })
    })
}

fn count(replies: &[Reply]) -> Result<BTreeMap<u32, u64>> {
    let mut by_worker = BTreeMap::new();
    for reply in replies {
        *by_worker.entry(ServedBy::of(reply)?.worker).or_default() += 1;
    }
    Ok(by_worker)
}
