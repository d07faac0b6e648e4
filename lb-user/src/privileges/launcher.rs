//! The one thread that may start processes of other users, and end them.
//!
//! Capabilities belong to threads. A process is started by a thread that lives as long as that takes: it gives up its
//! bounding set first, which nobody gets back, so that what it starts has none. All threads share their memory: this
//! keeps mistakes apart, and not somebody who runs code of their own in the control plane.

use super::{CapabilitySet, bound};
use rustix::process::{Pid, Signal};
use rustix::thread::{CapabilitySets, set_capabilities};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

type Work = Box<dyn FnOnce() + Send>;

/// Capabilities are the process's own affair, so there is one launcher; none where nothing was given up.
static LAUNCHER: OnceLock<Sender<Work>> = OnceLock::new();

/// What is left for starting a process as another user.
const CHANGE_USER: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// Start the thread, with these capabilities.
pub(super) fn start(kept: CapabilitySets) -> io::Result<()> {
    let (sender, work) = channel::<Work>();
    let (began, has_begun) = channel();
    std::thread::Builder::new().name("launcher".into()).spawn(move || serve(kept, &work, &began))?;
    has_begun.recv().map_err(io::Error::other)??;
    // A second one of the same process would have less: the first stays.
    let _ = LAUNCHER.set(sender);
    Ok(())
}

fn serve(kept: CapabilitySets, work: &Receiver<Work>, began: &Sender<io::Result<()>>) {
    let set = set_capabilities(None, kept).map_err(io::Error::from);
    let good = set.is_ok();
    let _ = began.send(set);
    while good && let Ok(work) = work.recv() {
        work();
    }
}

/// Start a process that has nothing of ours: a worker, a script. Whoever changes the user must be root, or be that user.
pub fn spawn(command: Command) -> io::Result<Child> {
    let handle = Handle::try_current().map_err(io::Error::other)?;
    at_launcher(move || std::thread::Builder::new().name("launch".into()).spawn(move || bare(&handle, command)))??
        .join()
        .map_err(|_| io::Error::other("the thread that started it panicked"))?
}

/// Start the next control plane: it keeps what this one has.
pub fn spawn_successor(mut command: Command) -> io::Result<Child> {
    let handle = Handle::try_current().map_err(io::Error::other)?;
    at_launcher(move || {
        let _runtime = handle.enter();
        spawn_here(&mut command)
    })?
}

/// Send a signal to a process that is ours and has not been waited for.
pub fn signal(process: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no process has this id"))?;
    at_launcher(move || send(pid, signal))?
}

/// Send a signal to a process that an earlier control plane started.
pub fn signal_by(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let process = process.try_clone()?;
    at_launcher(move || send_by(&process, signal))?
}

/// Send a signal to a group of processes whose first one is ours and has not been waited for.
pub fn signal_group(leader: Pid, signal: Signal) -> io::Result<()> {
    at_launcher(move || send_group(leader, signal))?
}

/// On a thread of its own.
fn bare(handle: &Handle, mut command: Command) -> io::Result<Child> {
    bound(CapabilitySet::empty())?;
    let had = rustix::thread::capabilities(None)?.permitted & CHANGE_USER;
    set_capabilities(None, CapabilitySets { effective: had, permitted: had, inheritable: CapabilitySet::empty() })?;
    let _runtime = handle.enter();
    spawn_here(&mut command)
}

#[expect(clippy::disallowed_methods, reason = "the one place that may")]
fn spawn_here(command: &mut Command) -> io::Result<Child> {
    command.spawn()
}

#[expect(clippy::disallowed_methods, reason = "the one place that may")]
fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(pid, signal)?)
}

#[expect(clippy::disallowed_methods, reason = "the one place that may")]
fn send_by(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(process, signal)?)
}

#[expect(clippy::disallowed_methods, reason = "the one place that may")]
fn send_group(leader: Pid, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process_group(leader, signal)?)
}

/// Where nothing was given up, here.
fn at_launcher<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let Some(launcher) = LAUNCHER.get() else { return Ok(work()) };
    let (sender, answer) = channel();
    let work = Box::new(move || drop(sender.send(work())));
    launcher.send(work).map_err(|_| io::Error::other("the thread that launches is gone"))?;
    answer.recv().map_err(io::Error::other)
}
