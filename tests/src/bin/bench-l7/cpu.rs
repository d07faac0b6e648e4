//! What a tree of processes has used: CPU time from `/proc/PID/task/*/schedstat` (nanoseconds; the clock ticks of
//! `/proc/PID/stat` are 10 ms) and resident memory from `/proc/PID/statm`.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_tests::process::children;

/// One process of a tree at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Name of the program, as the kernel keeps it (15 bytes).
    pub(crate) comm: String,
    /// Nanoseconds on a CPU of all its threads that live, kernel and user.
    pub(crate) cpu_ns: u64,
    /// Bytes resident.
    pub(crate) rss: u64,
}

/// A process with all its descendants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    root: u32,
    processes: BTreeMap<u32, Usage>,
}

/// Nanoseconds that passed on CPUs between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// In all processes.
    pub(crate) all_ns: u64,
    /// In all but the one that was started: of Bailey, the worker.
    pub(crate) descendants_ns: u64,
}

/// The process `root` and all its descendants.
pub(crate) fn tree(root: u32) -> Result<Tree> {
    let mut processes = BTreeMap::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        processes.insert(pid, usage(pid).with_context(|| format!("process {pid} of the edge is gone"))?);
        open.extend(children(pid).into_iter().map(|(child, _)| child));
    }
    Ok(Tree { root, processes })
}

/// The same when it has come to rest: what a load left behind (closing connections) is done.
pub(crate) fn tree_at_rest(root: u32) -> Result<Tree> {
    /// A tree that uses less than 1 % of a CPU is at rest: timers may go on.
    const REST: Duration = Duration::from_millis(10);
    const DEADLINE: Duration = Duration::from_secs(2);
    let start = Instant::now();
    let mut before = tree(root)?;
    loop {
        std::thread::sleep(REST);
        let after = tree(root)?;
        let used = spent(&before, &after)?.all_ns;
        if u128::from(used) * 100 < REST.as_nanos() || start.elapsed() > DEADLINE {
            return Ok(after);
        }
        before = after;
    }
}

/// CPU time between two looks at one tree. An error when a process came or went: the figure would be wrong.
pub(crate) fn spent(before: &Tree, after: &Tree) -> Result<Spent> {
    if !before.processes.keys().eq(after.processes.keys()) {
        bail!("processes of the edge came or went: {} before, {} after", names(before), names(after));
    }
    let mut spent = Spent { all_ns: 0, descendants_ns: 0 };
    for ((pid, old), new) in before.processes.iter().zip(after.processes.values()) {
        let ns = new.cpu_ns.saturating_sub(old.cpu_ns);
        spent.all_ns += ns;
        if *pid != before.root {
            spent.descendants_ns += ns;
        }
    }
    Ok(spent)
}

impl Tree {
    /// Resident bytes of all processes.
    pub(crate) fn rss(&self) -> u64 {
        self.processes.values().map(|usage| usage.rss).sum()
    }

    /// Resident bytes of all but the one that was started.
    pub(crate) fn descendants_rss(&self) -> u64 {
        self.processes.iter().filter(|(pid, _)| **pid != self.root).map(|(_, usage)| usage.rss).sum()
    }
}

fn names(tree: &Tree) -> String {
    tree.processes.iter().map(|(pid, usage)| format!("{} ({pid})", usage.comm)).collect::<Vec<_>>().join(", ")
}

fn usage(pid: u32) -> Result<Usage> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm"))?.trim_end().to_owned();
    let mut cpu_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => text,
            // A thread that ended since the list was read.
            Err(error) if cpu_ns > 0 && error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context("this kernel has no schedstat"),
        };
        cpu_ns += text.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
    }
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split_whitespace().nth(1).context("statm is short")?.parse()?;
    Ok(Usage { comm, cpu_ns, rss: pages * rustix::param::page_size() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of processes 1 and `child`.
    fn tree(first_ns: u64, child: u32, child_ns: u64) -> Tree {
        let usage = |cpu_ns| Usage { comm: "edge".to_owned(), cpu_ns, rss: 10 };
        Tree { root: 1, processes: BTreeMap::from([(1, usage(first_ns)), (child, usage(child_ns))]) }
    }

    #[test]
    fn usage_is_summed_and_split() {
        let (before, after) = (tree(10, 2, 100), tree(15, 2, 300));
        assert_eq!(spent(&before, &after).unwrap(), Spent { all_ns: 205, descendants_ns: 200 });
        assert_eq!((after.rss(), after.descendants_rss()), (20, 10));
    }

    #[test]
    fn a_process_that_was_replaced_is_an_error() {
        let replaced = spent(&tree(10, 2, 100), &tree(15, 3, 1));
        assert!(replaced.unwrap_err().to_string().contains("came or went"));
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = usage(std::process::id()).unwrap();
        assert!(own.cpu_ns > 0 && own.rss > 0, "{own:?}");
    }
}
