//! A program of the operator's: as a user of its own, with a clean environment and no rights, and a deadline after which it
//! and what it started is killed.

use super::{Answer, Fault, Question, quote};
use crate::config::ScriptProbe;
use crate::privileges;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, waitid};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

/// Bytes of what it says that are kept; the rest is read and forgotten.
const MAX_SAID: usize = 4096;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn ask(question: Question<'_>, script: &ScriptProbe) -> Answer {
    let failed = |error: io::Error| Fault::Edge(format!("script: {error}"));
    // Away from everything else of the control plane: a start takes a millisecond or more.
    // The user is looked up there, too: a directory service may take its time.
    let (backend, to, script) = (question.backend, question.to, script.clone());
    let limit = question.prepared.check.timeout;
    let started = spawn_blocking(move || {
        let command = command(backend, to, limit, &script)?;
        privileges::spawn(command).map(Group).map_err(failed)
    });
    let mut group = started.await.map_err(|error| failed(io::Error::other(error)))??;
    let (out, err) = (group.0.stdout.take(), group.0.stderr.take());
    let (out, err, ended) = tokio::join!(said(out), said(err), group.ended());
    ended.map_err(failed)?;
    let status = group.0.wait().await.map_err(failed)?;
    let text = if out.is_empty() { err } else { out };
    let line = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty());
    let line = line.map(|line| format!(", {}", quote(line))).unwrap_or_default();
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => (code == 0, format!("script exit {code}{line}")),
        (None, signal) => (false, format!("script ended by signal {}{line}", signal.unwrap_or(0))),
    })
}

fn command(backend: SocketAddr, to: SocketAddr, limit: Duration, script: &ScriptProbe) -> Result<Command, Fault> {
    let mut command = std::process::Command::new(&script.program);
    command
        .args(&script.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("BAILEY_BACKEND", backend.to_string())
        .env("BAILEY_ADDRESS", to.ip().to_string())
        .env("BAILEY_PORT", to.port().to_string())
        .env("BAILEY_TIMEOUT_MS", limit.as_millis().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if geteuid().is_root() {
        let user = nix::unistd::User::from_name(&script.user).ok().flatten();
        let user = user.ok_or_else(|| Fault::Edge(format!("script: this host has no user {:?}", script.user)))?;
        // std clears the supplementary groups when it changes the user as root.
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    Ok(Command::from(command))
}

/// All that is said, the first of it kept.
async fn said(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    let Some(mut from) = from else { return kept };
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length.min(MAX_SAID - kept.len())]);
    }
    kept
}

/// A script and what it started: killed when this goes. While the script has not been waited for, its number is its own,
/// and its group's.
struct Group(Child);

impl Group {
    /// Wait for its end, and take what it left behind with it.
    async fn ended(&self) -> io::Result<()> {
        let Some(id) = self.id() else { return Ok(()) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let ended = spawn_blocking(move || waitid(WaitId::Pid(id), options)).await.map_err(io::Error::other)?;
        ended?;
        self.kill();
        Ok(())
    }

    fn kill(&self) {
        if let Some(id) = self.id() {
            // Nobody is left: that is what was wanted.
            let _ = privileges::signal_group(id, Signal::KILL);
        }
    }

    /// None once it was waited for.
    fn id(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.0.id()?).ok()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
