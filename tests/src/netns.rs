//! Network namespaces by iproute2: made, joined by veth cables, worked in, and taken away again.
//!
//! Names carry the maker's process id, so that what a killed run left behind can be told and swept.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use rustix::thread::LinkNameSpaceType;

use crate::need;
use crate::process::{children, signal_process};
use crate::wait::wait_for;

const PREFIX: &str = "blylab";

/// A name that no other lab on this machine has: prefix, process, number. Also good for an edge's instance.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A network namespace; gone, with every process still in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Make one named `LAB-ROLE`, its loopback up.
    pub fn new(lab: &str, role: &str) -> Result<Self> {
        let name = format!("{lab}-{role}");
        ip(&["netns", "add", &name])?;
        let handle = File::open(format!("/run/netns/{name}")).with_context(|| format!("open namespace {name}"));
        let space = match handle {
            Ok(handle) => Self { name, handle },
            Err(error) => {
                remove(&name);
                return Err(error);
            }
        };
        space.ip("link set lo up")?;
        Ok(space)
    }

    /// Its name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Run `ip` inside; `arguments` are split at blanks.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let words: Vec<&str> = ["-n", &self.name].into_iter().chain(arguments.split_whitespace()).collect();
        ip(&words)
    }

    /// A command that runs inside. Not by `ip netns exec`: that remounts /sys and hides what is pinned there.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// A command that runs inside as on a host of its own: /sys shows this namespace's interfaces, as it does after
    /// `ip netns exec`, but the BPF file system is the one that everybody sees.
    pub fn host_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        const SYS: &str = "mount --bind /sys/fs/bpf /mnt && mount -t sysfs sysfs /sys && \
                           mount --bind /mnt /sys/fs/bpf && umount /mnt && exec \"$@\"";
        let mut command = self.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SYS, "sh"]).arg(program);
        command
    }

    /// Run a command inside to its end; its standard output, or an error with everything it said.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        finish(self.command(program).args(arguments))
    }

    /// Do some work on a thread inside; sockets that it opens belong to the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&self.handle)?;
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The same with asynchronous work, on a runtime of that thread's own.
    pub fn run_async<T: Send, F: Future<Output = Result<T>>>(&self, work: impl FnOnce() -> F + Send) -> Result<T> {
        self.run(|| runtime()?.block_on(work()))
    }

    /// A thread inside that outlives this call.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<std::thread::JoinHandle<Result<T>>> {
        let handle = self.handle.try_clone()?;
        Ok(std::thread::spawn(move || {
            enter(&handle)?;
            work()
        }))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Lay a cable between two namespaces: `a.0` is the interface's name in namespace `a.1`. Two queues, and checksums
/// that are computed when sent: a frame that XDP touches must be whole.
pub fn cable(a: (&str, &Namespace), b: (&str, &Namespace)) -> Result<()> {
    let queues = ["numtxqueues", "2", "numrxqueues", "2"];
    let mut words = vec!["link", "add", "name", a.0, "netns", &a.1.name];
    words.extend(queues);
    words.extend(["type", "veth", "peer", "name", b.0, "netns", &b.1.name]);
    words.extend(queues);
    ip(&words)?;
    for (name, space) in [a, b] {
        finish(space.command("ethtool").args(["-K", name, "tx", "off"]))?;
        space.ip(&format!("link set {name} up"))?;
    }
    Ok(())
}

/// A current-thread runtime.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("a tokio runtime")
}

/// Pin the calling thread, so that what it sends enters the peer's stack on this CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("pin to CPU {cpu}"))
}

/// Can a namespace be made and entered?
pub fn try_namespaces() -> Result<()> {
    Namespace::new(&unique_name(), "try")?.run(|| Ok(()))
}

/// Take away what runs that are no more have left: namespaces with their processes, pins of their edges, folders.
pub fn sweep() {
    take_away(is_stale);
}

fn take_away(ours: impl Fn(&str) -> bool) {
    for name in names("/run/netns").into_iter().filter(|name| ours(name)) {
        remove(&name);
    }
    let pins = names("/sys/fs/bpf").into_iter().filter(|name| name.strip_prefix("bailey-").is_some_and(&ours));
    let pins: Vec<_> = pins.map(|name| Path::new("/sys/fs/bpf").join(name)).collect();
    let temporary = std::env::temp_dir();
    let folders = names(&temporary).into_iter().filter(|name| ours(name)).map(|name| temporary.join(name));
    for folder in pins.into_iter().chain(folders) {
        // Best effort: the next run tries again.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Take away everything of this process at once, as its owners would have on their way out. For an interrupt.
pub fn abandon() {
    for (child, _) in children(std::process::id()) {
        let _ = signal_process(child, Signal::TERM);
    }
    let gone = || children(std::process::id()).is_empty().then_some(());
    // What does not end in time ends with its namespace.
    let _ = wait_for("our processes to end", Duration::from_secs(5), gone);
    let own = format!("{PREFIX}-{}-", std::process::id());
    take_away(|name| name.starts_with(&own));
}

fn is_stale(name: &str) -> bool {
    let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)?.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}

fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Only ever called with a name that carries our prefix.
fn remove(name: &str) {
    if let Ok(pids) = finish(Command::new("ip").args(["netns", "pids", name])) {
        for pid in pids.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
            // A thread of our own that works inside is listed under our own id.
            if pid != rustix::process::getpid() {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
    let _ = ip(&["netns", "del", name]);
}

fn enter(handle: &File) -> Result<()> {
    rustix::thread::move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
        .context("enter the network namespace")
}

fn ip(words: &[&str]) -> Result<()> {
    finish(Command::new(need::find("ip").unwrap_or_else(|| "ip".into())).args(words)).map(drop)
}

/// Run to the end; standard output, or an error with the command and everything that it said.
pub fn finish(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("start {command:?}"))?;
    if !out.status.success() {
        let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_string()).join("\n");
        bail!("{command:?}: {}: {}", out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_stale() {
        assert!(!is_stale(&format!("{PREFIX}-{}-0-edge", std::process::id())));
        assert!(is_stale(&format!("{PREFIX}-4194305-0-edge")));
        assert!(!is_stale("somebody-4194305-0"));
    }
}
