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

/// Processes of a tree by process id.
pub(crate) type Tree = BTreeMap<u32, Usage>;

/// Nanoseconds that passed on CPUs between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// In all processes.
    pub(crate) all_ns: u64,
    /// In processes with the name that was asked for.
    pub(crate) named_ns: u64,
}

/// The process `root` and all its descendants.
pub(crate) fn tree(root: u32) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        tree.insert(pid, usage(pid).with_context(|| format!("process {pid} of the edge is gone"))?);
        open.extend(children(pid).into_iter().map(|(child, _)| child));
    }
    Ok(tree)
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
        let used = spent(&before, &after, "")?.all_ns;
        if u128::from(used) * 100 < REST.as_nanos() || start.elapsed() > DEADLINE {
            return Ok(after);
        }
        before = after;
    }
}

/// CPU time between two looks at one tree. An error when a process came or went: the figure would be wrong.
pub(crate) fn spent(before: &Tree, after: &Tree, name: &str) -> Result<Spent> {
    if !before.keys().eq(after.keys()) {
        bail!("processes of the edge came or went: {} before, {} after", names(before), names(after));
    }
    let mut spent = Spent { all_ns: 0, named_ns: 0 };
    for (old, new) in before.values().zip(after.values()) {
        let ns = new.cpu_ns.saturating_sub(old.cpu_ns);
        spent.all_ns += ns;
        if new.comm == name {
            spent.named_ns += ns;
        }
    }
    Ok(spent)
}

/// Resident bytes of all processes.
pub(crate) fn rss(tree: &Tree) -> u64 {
    tree.values().map(|usage| usage.rss).sum()
}

fn names(tree: &Tree) -> String {
    tree.iter().map(|(pid, usage)| format!("{} ({pid})", usage.comm)).collect::<Vec<_>>().join(", ")
}

fn usage(pid: u32) -> Result<Usage> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm"))?.trim_end().to_owned();
    let mut cpu_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat")).context("this kernel has no schedstat")?;
        cpu_ns += text.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
    }
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split_whitespace().nth(1).context("statm is short")?.parse()?;
    Ok(Usage { comm, cpu_ns, rss: pages * rustix::param::page_size() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(pid: u32, comm: &str, cpu_ns: u64) -> (u32, Usage) {
        (pid, Usage { comm: comm.to_owned(), cpu_ns, rss: 0 })
    }

    #[test]
    fn time_is_summed_and_split_by_name() {
        let before = Tree::from([one(1, "bailey", 10), one(2, "bailey-worker", 100)]);
        let after = Tree::from([one(1, "bailey", 15), one(2, "bailey-worker", 300)]);
        assert_eq!(spent(&before, &after, "bailey-worker").unwrap(), Spent { all_ns: 205, named_ns: 200 });
    }

    #[test]
    fn a_process_that_was_replaced_is_an_error() {
        let before = Tree::from([one(1, "bailey", 10), one(2, "bailey-worker", 100)]);
        let after = Tree::from([one(1, "bailey", 15), one(3, "bailey-worker", 1)]);
        assert!(spent(&before, &after, "").unwrap_err().to_string().contains("came or went"));
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = usage(std::process::id()).unwrap();
        assert!(own.cpu_ns > 0 && own.rss > 0, "{own:?}");
    }
}
