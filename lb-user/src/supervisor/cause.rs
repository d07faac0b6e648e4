//! Why a worker ended, as far as it can be known from outside.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// The exit code of a panic that nobody caught.
const PANIC_CODE: i32 = 101;
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// Label of `bailey_worker_ends_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The kernel was out of memory.
    Oom,
    /// SIGKILL from somebody else.
    Killed,
    /// A thread panicked outside of a connection.
    Panic,
    /// Another signal.
    Signal,
    /// It gave up by itself.
    Exit,
    /// It did not answer in time, and was killed.
    Hung,
    /// It did not come up.
    Start,
    /// It was started by an earlier control plane, and its parent alone is told.
    Unknown,
}

impl Cause {
    /// All, in their order.
    pub const ALL: [Self; 8] =
        [Self::Oom, Self::Killed, Self::Panic, Self::Signal, Self::Exit, Self::Hung, Self::Start, Self::Unknown];

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oom => "oom",
            Self::Killed => "killed",
            Self::Panic => "panic",
            Self::Signal => "signal",
            Self::Exit => "exit",
            Self::Hung => "hung",
            Self::Start => "start",
            Self::Unknown => "unknown",
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    status: Option<ExitStatus>,
    /// Why.
    pub cause: Cause,
}

impl End {
    /// From the exit status, where there is one, and whether the kernel has killed for memory meanwhile.
    pub(super) fn of(status: Option<ExitStatus>, memory_ran_out: bool) -> Self {
        let cause = match status.map(|status| (status.signal(), status.code())) {
            Some((Some(SIGKILL), _)) if memory_ran_out => Cause::Oom,
            Some((Some(SIGKILL), _)) => Cause::Killed,
            Some((Some(SIGABRT), _) | (_, Some(PANIC_CODE))) => Cause::Panic,
            Some((Some(_), _)) => Cause::Signal,
            Some((None, _)) => Cause::Exit,
            None => Cause::Unknown,
        };
        Self { status, cause }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.cause) {
            (Some(status), Cause::Oom) => write!(f, "{status}, as the kernel was out of memory"),
            (Some(status), Cause::Panic) => write!(f, "{status}, a panic"),
            (Some(status), _) => write!(f, "{status}"),
            (None, _) => f.write_str("it closed its control socket"),
        }
    }
}

/// How often the kernel has killed for memory: in this process's cgroup, or on this host where there is none.
pub(super) fn memory_kills() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup").ok();
    let of_group = group.as_deref().and_then(group_path).and_then(|path| {
        let events = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.events")).ok()?;
        count(&events)
    });
    of_group.or_else(|| count(&std::fs::read_to_string("/proc/vmstat").ok()?))
}

/// Of cgroup v2, from /proc/PID/cgroup.
fn group_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// From `memory.events` or `vmstat`.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_says() {
        let of = |raw, memory| End::of(Some(ExitStatus::from_raw(raw)), memory);
        assert_eq!(of(9, false).cause, Cause::Killed);
        assert_eq!(of(9, true).cause, Cause::Oom);
        assert!(of(9, true).to_string().contains("out of memory"));
        assert_eq!((of(6, true).cause, of(101 << 8, false).cause), (Cause::Panic, Cause::Panic));
        assert_eq!((of(11, true).cause, of(1 << 8, true).cause), (Cause::Signal, Cause::Exit));
        assert_eq!(End::of(None, true).cause, Cause::Unknown);
        let words: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(words.len(), Cause::ALL.len());
    }

    #[test]
    fn where_the_kernel_counts() {
        assert_eq!(
            group_path("1:name=systemd:/x\n0::/system.slice/bailey.service\n"),
            Some("/system.slice/bailey.service")
        );
        assert_eq!(count("low 0\noom 2\noom_kill 3\noom_group_kill 0\n"), Some(3));
        assert_eq!(count("nr_free 3\n"), None);
    }
}
