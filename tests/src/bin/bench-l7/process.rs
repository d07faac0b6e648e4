//! Child processes: pinned, logged to a file, ended with everything they started.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cpu;

const READY_DEADLINE: Duration = Duration::from_secs(15);
const END_DEADLINE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// A process with its log. Dropping it ends it: TERM, then KILL for what is left of its tree.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` on one CPU; its output goes to `directory/name.log`. It gets TERM when this program dies.
    pub(crate) fn spawn<A: AsRef<OsStr>>(
        name: &str,
        cpu: usize,
        directory: &Path,
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", &cpu.to_string()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("cannot start setpriv (package util-linux)")?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    pub(crate) fn pid(&self) -> i32 {
        // Process ids of Linux are at most 2^22.
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Everything it wrote so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until each address takes connections.
    pub(crate) fn ready(&mut self, addresses: &[SocketAddr]) -> Result<()> {
        let start = Instant::now();
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                if let Some(status) = self.child.try_wait()? {
                    bail!("{} ended ({status}) before it served:\n{}", self.name, self.output());
                }
                if start.elapsed() > READY_DEADLINE {
                    bail!("{} does not serve {address} after {READY_DEADLINE:?}:\n{}", self.name, self.output());
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// Waits for its end by itself.
    pub(crate) fn finish(&mut self, deadline: Duration) -> Result<String> {
        let Some(status) = self.wait(deadline)? else {
            bail!("{} did not end within {deadline:?}", self.name);
        };
        let output = self.output();
        if !status.success() {
            bail!("{} failed ({status}):\n{output}", self.name);
        }
        Ok(output)
    }

    fn wait(&mut self, deadline: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if start.elapsed() > deadline {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let descendants: Vec<i32> = cpu::tree(self.pid()).map(|tree| tree.into_keys().collect()).unwrap_or_default();
        signal(self.pid(), Signal::TERM);
        if !matches!(self.wait(END_DEADLINE), Ok(Some(_))) {
            eprintln!("{} does not end on TERM: killed", self.name);
            descendants.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        }
        // Errors here have nobody to go to: the child is gone either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// An address of this host that nobody serves.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// Where a program is: on PATH, or where Debian puts servers.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is not installed; `cargo xtask setup` installs it"))
}

/// First line that a program says about its version.
pub(crate) fn version(program: &Path, flag: &str) -> Result<String> {
    let output =
        Command::new(program).arg(flag).output().with_context(|| format!("cannot run {}", program.display()))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(text.lines().next().unwrap_or("unknown").trim().to_owned())
}
