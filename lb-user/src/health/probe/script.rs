//! A program of the operator's: as a user of its own, with a clean environment, no way to more rights, and a deadline after
//! which it and what it started is killed.

use super::{Answer, Fault, Question, quote};
use crate::config::ScriptProbe;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, kill_process_group, waitid};
use rustix::thread::set_no_new_privs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

/// Bytes of what it says that are kept; the rest is read and forgotten.
const MAX_SAID: usize = 4096;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn ask(question: Question<'_>, script: &ScriptProbe) -> Answer {
    let command = command(question, script)?;
    let failed = |error: io::Error| Fault::Edge(format!("script: {error}"));
    // When this goes, at the deadline, the script goes.
    let group = Group::default();
    let (out, err, ended) = start(command, &group).await.map_err(failed)?;
    let (out, err, status) = tokio::join!(said(out), said(err), ended);
    let status = status.map_err(|_| Fault::Edge("script: not waited for".into()))?.map_err(failed)?;
    let text = if out.is_empty() { err } else { out };
    let line = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty());
    let line = line.map(|line| format!(", {}", quote(line))).unwrap_or_default();
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => (code == 0, format!("script exit {code}{line}")),
        (None, signal) => (false, format!("script ended by signal {}{line}", signal.unwrap_or(0))),
    })
}

fn command(question: Question<'_>, script: &ScriptProbe) -> Result<Command, Fault> {
    let mut command = Command::new(&script.program);
    let to = question.to;
    command
        .args(&script.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("BAILEY_BACKEND", question.backend.to_string())
        .env("BAILEY_ADDRESS", to.ip().to_string())
        .env("BAILEY_PORT", to.port().to_string())
        .env("BAILEY_TIMEOUT_MS", question.prepared.check.timeout.as_millis().to_string())
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
    Ok(command)
}

/// The pipes of a script that runs, and its end.
type Started = (Receiver, Receiver, oneshot::Receiver<io::Result<ExitStatus>>);

/// Start it on a thread of its own: it can gain no rights any more, which its children inherit; and it waits for them.
async fn start(mut command: Command, group: &Group) -> io::Result<Started> {
    let (started, running) = oneshot::channel();
    let (ending, ended) = oneshot::channel();
    let leader = Arc::clone(&group.0);
    let work = move || {
        let spawned = set_no_new_privs(true).map_err(io::Error::from).and_then(|()| command.spawn());
        match spawned {
            Ok(mut child) => {
                let pid = Pid::from_child(&child);
                *leader.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
                let pipes = (child.stdout.take(), child.stderr.take());
                if started.send(Ok(pipes)).is_err() {
                    // Its deadline came before it began.
                    kill(&leader);
                }
                let _ = ending.send(wait(child, pid, &leader));
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    };
    std::thread::Builder::new().name("script".into()).spawn(work)?;
    let (out, err) = running.await.map_err(io::Error::other)??;
    let pipe = |end: Option<OwnedFd>| Receiver::from_owned_fd(end.ok_or(io::ErrorKind::BrokenPipe)?);
    Ok((pipe(out.map(OwnedFd::from))?, pipe(err.map(OwnedFd::from))?, ended))
}

/// Wait for its end, and take what it left behind with it. While it has not been waited for, its number is its own.
fn wait(mut child: Child, pid: Pid, leader: &Leader) -> io::Result<ExitStatus> {
    let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    kill(leader);
    *leader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    ended?;
    child.wait()
}

fn kill(leader: &Leader) {
    if let Some(pid) = *leader.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// The first process of a script's group; none: it has not begun, or was waited for.
type Leader = Mutex<Option<Pid>>;

/// A script and what it started: killed when this goes.
#[derive(Default)]
struct Group(Arc<Leader>);

impl Drop for Group {
    fn drop(&mut self) {
        kill(&self.0);
    }
}

/// All that is said, the first of it kept.
async fn said(mut from: Receiver) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length.min(MAX_SAID - kept.len())]);
    }
    kept
}
