//! What is left of root in the control plane.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::Edge;
use lb_tests::lab::{Lab, VIP4, folder};
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_for};

use crate::{attempt, expect};

/// `linux/capability.h`: KILL, SETGID, SETUID, SETPCAP.
const LAUNCH: u64 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;
/// NET_ADMIN, NET_RAW, PERFMON, BPF.
const KERNEL: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
/// Somebody else: nobody.
const OTHER: u32 = 65534;

const CONFIG: &str = "[edge]\ninterfaces = [\"lo\"]\ndatapath = \"generic\"\n";

pub(crate) fn kept() -> Result<()> {
    running()?;
    let folder = folder()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (config, theirs, ours) = (path("bailey.toml"), path("theirs"), path("ours"));
    std::fs::write(&config, CONFIG)?;
    for file in [&theirs, &ours] {
        std::fs::write(file, "secret")?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
    }
    chown(&theirs, Some(OTHER), Some(OTHER))?;
    expect(&["nothing"], &[(&["read", &theirs], "ok")])?;
    expect(
        &["edge", &config],
        &[
            (&["read", &ours], "ok"),
            (&["read", &theirs], "EACCES"),
            (&["give-away", &ours], "EPERM"),
            (&["become-other"], "EPERM"),
            (&["start-as-other"], "EPERM"),
            (&["mount", &folder.path().to_string_lossy()], "EPERM"),
            (&["listen", "127.0.0.1:81"], "EACCES"),
            (&["raw-socket"], "ok"),
        ],
    )
}

/// Of an edge that serves, thread by thread.
fn running() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    let reply = lab.client.run_async(|| async { target.get(Protocol::Http1, "/").await })?;
    ensure!(reply.status == 200);
    let mut launchers = 0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", edge.id()))? {
        let path = thread?.path();
        let status = std::fs::read_to_string(path.join("status"))?;
        let launcher = std::fs::read_to_string(path.join("comm"))?.trim() == "launcher";
        launchers += usize::from(launcher);
        let meant = if launcher { KERNEL | LAUNCH } else { KERNEL };
        for set in ["CapPrm:", "CapEff:"] {
            ensure!(capabilities(&status, set)? == meant, "{set} of {path:?}, meant {meant:x}:\n{status}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            ensure!(capabilities(&status, set)? == 0, "{set} of {path:?}:\n{status}");
        }
        ensure!(capabilities(&status, "CapBnd:")? == KERNEL | LAUNCH, "{status}");
        ensure!(field(&status, "NoNewPrivs:")? == "1", "{status}");
    }
    ensure!(launchers == 1, "{launchers} launchers");
    // A worker that is killed is started again by what is left, and SIGTERM ends both.
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    lb_tests::process::signal_process(worker, rustix::process::Signal::KILL)?;
    wait_for("another worker", PATIENCE, || edge.worker().filter(|next| *next != worker))?;
    Ok(())
}

pub(crate) fn launcher() -> Result<()> {
    let folder = folder()?;
    let config = folder.path().join("bailey.toml");
    std::fs::write(&config, CONFIG)?;
    let config = config.to_str().context("not UTF-8")?;
    let worker = attempt(&["edge", config, "launch-as-other"])?;
    ensure!(field(&worker, "Uid:")?.split_whitespace().all(|id| id == OTHER.to_string()), "{worker}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        ensure!(capabilities(&worker, set)? == 0, "{worker}");
    }
    ensure!(field(&worker, "Groups:").map_or(true, |groups| groups.is_empty()), "{worker}");
    // The next control plane has what this one has, and no more.
    let successor = attempt(&["edge", config, "launch-successor"])?;
    ensure!(capabilities(&successor, "CapPrm:")? == KERNEL | LAUNCH, "{successor}");
    ensure!(capabilities(&successor, "CapBnd:")? == KERNEL | LAUNCH, "{successor}");

    let mut sleep = Command::new("sleep");
    let mut theirs = Process::start("theirs", folder.path(), sleep.arg("100").uid(OTHER).gid(OTHER))?;
    let pid = theirs.id().to_string();
    expect(&["edge", config], &[(&["signal", &pid], "EPERM"), (&["signal-by-launcher", &pid], "ok")])?;
    wait_for("its end", PATIENCE, || theirs.ended()).map(drop)
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map(str::trim).with_context(|| format!("no {name} in {status}"))
}

fn capabilities(status: &str, name: &str) -> Result<u64> {
    Ok(u64::from_str_radix(field(status, name)?, 16)?)
}
