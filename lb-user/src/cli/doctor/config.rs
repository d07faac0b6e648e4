//! What the config asks of the host: its own problems, the worker's program and user, the state directory, and whether
//! the kernel takes the programs.

use super::Finding;
use super::host::Facts;
use crate::config::{self, DatapathKind, Edge, LoadError};
use crate::datapath::probe::Probe;
use crate::datapath::{Desired, Worker};
use crate::supervisor;
use rustix::fs::{Access, access, statvfs};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Less room is little for what is kept across restarts.
const ROOM: u64 = 64 << 20;
/// `CAP_BPF` (linux/capability.h).
const CAP_BPF: u64 = 1 << 39;

/// Findings, and the edge that the config describes when it can be used.
pub(super) fn findings(path: Option<&Path>, facts: &Facts) -> (Vec<Finding>, Option<Edge>) {
    const CHECK: &str = "config";
    let Some(path) = path else {
        let next = "name one: bailey doctor --config FILE; only the host is looked at";
        return (vec![Finding::warn(CHECK, "none", next)], None);
    };
    let check = format!("bailey check --config {}", path.display());
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(LoadError::Invalid(problems)) => {
            let errors = problems.views().into_iter().filter(|view| view.severity == config::Severity::Error);
            // The first says most; all of them are told by the check.
            let found = errors.map(|error| format!("{}:{}: {}", path.display(), error.line, error.message)).next();
            let found = found.unwrap_or_else(|| path.display().to_string());
            return (vec![Finding::fail(CHECK, found, check)], None);
        }
        Err(error) => return (vec![Finding::fail(CHECK, error.to_string(), check)], None),
    };
    let mut all = vec![match loaded.warnings.count(config::Severity::Warning) {
        0 => Finding::ok(CHECK, path.display().to_string()),
        warnings => Finding::warn(CHECK, format!("{}, warnings: {warnings}", path.display()), check),
    }];
    let edge = &loaded.config.edge;
    all.push(worker(edge));
    if edge.datapath != DatapathKind::Sockets && facts.capabilities & CAP_BPF != 0 {
        all.push(programs());
    }
    all.push(state(edge.state.as_deref()));
    (all, Some(edge.clone()))
}

fn worker(edge: &Edge) -> Finding {
    const CHECK: &str = "worker";
    match supervisor::launch(edge.worker_binary.as_deref(), edge.user.as_deref()) {
        Ok(_) => Finding::ok(CHECK, "its program can be run, its user exists"),
        Err(error) => {
            let text = error.to_string();
            let (found, next) = text.split_once("; ").unwrap_or((&text, "see [edge] worker_binary and user"));
            Finding::fail(CHECK, found, next)
        }
    }
}

/// They are loaded, attached to nothing, and gone again.
fn programs() -> Finding {
    const CHECK: &str = "programs";
    let loaded = Probe::open(false, &[Worker { index: 0, cpu: 0 }], &Desired::default());
    match loaded.and_then(|probe| probe.verified_instructions()) {
        Ok(Some(count)) => Finding::ok(CHECK, format!("the kernel takes them ({count} instructions looked at)")),
        Ok(None) => Finding::ok(CHECK, "the kernel takes them"),
        Err(error) => {
            Finding::fail(CHECK, error.to_string(), "see the kernel's log: dmesg; or use datapath = \"sockets\"")
        }
    }
}

/// The directory for what is kept.
pub(super) fn state(directory: Option<&Path>) -> Finding {
    const CHECK: &str = "state";
    let Some(directory) = directory else {
        let next = "set state = \"/var/lib/bailey\" under [edge], or StateDirectory= in the unit";
        return Finding::warn(CHECK, "no directory: nothing is kept over a restart", next);
    };
    let shown = directory.display();
    let Ok(meta) = std::fs::metadata(directory) else {
        return Finding::warn(CHECK, format!("{shown} is missing"), format!("install -d -m 700 {shown}"));
    };
    if !meta.is_dir() {
        return Finding::fail(CHECK, format!("{shown} is no directory"), "set another `state` under [edge]");
    }
    if access(directory, Access::WRITE_OK).is_err() {
        let next = "let the daemon's user write there, and look whether the file system is read-only: findmnt";
        return Finding::fail(CHECK, format!("{shown} cannot be written to"), next);
    }
    if meta.permissions().mode() & 0o022 != 0 {
        let next = format!("chmod 700 {shown}: who writes there changes what the edge does");
        return Finding::fail(CHECK, format!("others may write to {shown}"), next);
    }
    match statvfs(directory).map(|room| room.f_bavail.saturating_mul(room.f_frsize)) {
        Ok(room) if room < ROOM => Finding::warn(
            CHECK,
            format!("{shown}: {} MiB are free", room >> 20),
            "make room: a full disk refuses changes",
        ),
        _ => Finding::ok(CHECK, shown.to_string()),
    }
}
