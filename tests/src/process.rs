//! A process of the lab: its output goes to a file, it is ended when dropped, and its log is kept for a test that fails.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 80;

thread_local! {
    static LOGS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Forget the logs of the test before.
pub(crate) fn forget_logs() {
    LOGS.with(|logs| logs.borrow_mut().clear());
}

/// Last lines of every process that this thread dropped.
pub(crate) fn take_logs() -> String {
    LOGS.with(|logs| std::mem::take(&mut *logs.borrow_mut()))
}

/// A child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Start `command`, standard output and error into `folder/NAME.log` (appended).
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).with_context(|| format!("open {log:?}"))?;
        // A group of its own: Ctrl-C at the terminal is for the lab, which then ends its processes in order.
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { name: name.into(), child, log })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_process(self.id(), signal)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Wait for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_for(&format!("{name} to end"), patience, || self.ended())
    }

    /// SIGTERM, and SIGKILL when that does not help in time. How it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        self.wait(GRACE).or_else(|error| {
            self.child.kill()?;
            self.child.wait()?;
            Err(error)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The test that cares how it ends has called stop.
        let _ = self.stop();
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        LOGS.with(|logs| {
            logs.borrow_mut().push_str(&format!("--- {} ---\n{}\n", self.name, tail.join("\n")));
        });
    }
}

/// Control planes that run this config: those that an upgrade started are no children of a test.
pub fn control_planes(config: &Path) -> Vec<u32> {
    let config = config.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let runs = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.iter().any(|word| word == "run") && words.contains(&config.as_str().into())
    };
    pids.filter(runs).collect()
}

/// Send a signal to a process by its id.
pub fn signal_process(id: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(id.try_into()?).context("no process has the id 0")?;
    kill_process(pid, signal).with_context(|| format!("signal {signal:?} to process {id}"))
}

/// Processes whose parent is `id` and that run a program, with the name they were called by.
pub fn children(id: u32) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent(*pid) == Some(id)).filter_map(|pid| Some((pid, called(pid)?))).collect()
}

/// The first word of a process's command line; none when it has ended, also when nobody has waited for it yet.
pub fn called(id: u32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let word = line.split(|byte| *byte == 0).next().filter(|word| !word.is_empty())?;
    Some(String::from_utf8_lossy(word).into_owned())
}

fn parent(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the parent is the second field after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_signalled_and_its_output_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo hello; sleep 100 & wait"]);
        let mut process = Process::start("greeter", folder.path(), &mut command).unwrap();
        wait_for("its greeting", GRACE, || process.log().contains("hello").then_some(())).unwrap();
        let child = wait_for("its child", GRACE, || children(process.id()).pop()).unwrap();
        process.stop().unwrap();
        signal_process(child.0, Signal::TERM).unwrap();
        drop(process);
        assert!(take_logs().contains("hello"));
    }
}
