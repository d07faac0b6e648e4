//! How the lab's processes are started here: on one CPU, and ended when this program is gone.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tests::need;
use lb_tests::netns::finish;
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_for};

/// Starts `program` on one CPU; its output goes to `directory/name.log`. It gets TERM when this program dies.
pub(crate) fn pinned<A: AsRef<OsStr>>(
    name: &str,
    cpu: usize,
    directory: &Path,
    program: &Path,
    args: impl IntoIterator<Item = A>,
) -> Result<Process> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", &cpu.to_string()]).arg(program).args(args);
    Process::start(name, directory, &mut command)
}

/// Waits until each address takes connections.
pub(crate) fn ready(process: &mut Process, addresses: &[SocketAddr]) -> Result<()> {
    for address in addresses {
        let served = wait_for(&format!("a server on {address}"), PATIENCE, || {
            if process.ended().is_some() {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        });
        if !served.with_context(|| process.log())? {
            bail!("it ended before it served:\n{}", process.log());
        }
    }
    Ok(())
}

/// Runs a load generator to its end, on this program's own CPU; what it wrote.
pub(crate) fn generate(
    program: &str,
    environment: &[(&str, &Path)],
    args: &[String],
    deadline: Duration,
) -> Result<String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after", "1", &deadline.as_secs().to_string()]).arg(find(program)?).args(args);
    finish(command.envs(environment.iter().copied()))
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    need::find(program).with_context(|| format!("{program} is not installed; `cargo xtask setup` installs it"))
}

/// First line of what a program says about its version; nginx says it on standard error.
pub(crate) fn version(program: &Path, flag: &str) -> Result<String> {
    let said = finish(Command::new("sh").args(["-c", "exec \"$0\" \"$1\" 2>&1"]).arg(program).arg(flag))?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// A file for OPENSSL_CONF: commands for every TLS context of a program that has no options for them.
pub(crate) fn openssl_conf(commands: &str) -> String {
    format!("openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = every\n[every]\n{commands}\n")
}
