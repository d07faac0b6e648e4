//! A worker in the lab, while it serves: it has nothing to give away.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::Edge;
use lb_tests::lab::{Lab, VIP4};
use lb_tests::wait::{PATIENCE, wait_for};

pub(crate) fn unprivileged() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    // It serves as it is looked at: no privilege is dropped only later.
    let reply = lab.client.run_async(|| async { target.get(Protocol::Http1, "/").await })?;
    ensure!(reply.status == 200);
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    let nobody = lb_tests::netns::finish(std::process::Command::new("id").args(["-u", "nobody"]))?;
    let threads = std::fs::read_dir(format!("/proc/{worker}/task"))?;
    for thread in threads {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"));
            line.map(|text| text.split_whitespace().map(String::from).collect::<Vec<_>>())
        };
        ensure!(field("Uid:")?.iter().all(|id| *id == nobody.trim()), "{:?}", field("Uid:")?);
        ensure!(field("Gid:")?.iter().all(|id| id != "0"), "{:?}", field("Gid:")?);
        ensure!(field("Groups:")?.iter().all(|id| id != "0"), "{:?}", field("Groups:")?);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            ensure!(field(set)? == ["0000000000000000"], "{set} {:?}", field(set)?);
        }
        ensure!(field("NoNewPrivs:")? == ["1"]);
        // By a filter.
        ensure!(field("Seccomp:")? == ["2"]);
    }
    // Landlock cannot be seen from outside: the worker says what its kernel said.
    let said = wait_for("the worker's word", PATIENCE, || {
        let status = edge.json(&["status"]).ok()?;
        status["worker"]["unconfined"].as_array().cloned()
    })?;
    ensure!(said.is_empty(), "{said:?}");
    ensure!(edge.metrics()?.sum("bailey_worker_confined", &[]) == 1.0);
    // Keys stay in its memory: what may not be dumped may not be traced either, and proc(5) gives its files to root.
    let owner = std::fs::metadata(format!("/proc/{worker}/environ"))?.uid();
    ensure!(owner == 0, "the worker's memory may be looked into: its files in /proc belong to {owner}");
    for process in [worker, edge.id()] {
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits"))?;
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit of cores")?;
        ensure!(line.split_whitespace().filter(|word| *word == "0").count() == 2, "{line}");
    }
    for file in std::fs::read_dir(format!("/proc/{worker}/fd"))? {
        let link = std::fs::read_link(file?.path())?;
        ensure!(!link.to_string_lossy().contains("bpf"), "the worker holds {link:?}");
    }
    Ok(())
}
