//! The process at the other end of a control socket: a child, or one that an earlier control plane started.

use crate::privileges;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Child;
use tokio::time::sleep;

/// Between two looks at a process that is no child; nobody waits for its end on the way of a request.
const LOOK: Duration = Duration::from_millis(20);

/// Killed when dropped, unless it is let go.
pub(super) struct Life {
    process: Kind,
    let_go: bool,
}

enum Kind {
    Child(Child),
    /// Its pidfd: the number may be another process's by now.
    Stranger(OwnedFd),
}

impl Life {
    pub(super) fn of_child(child: Child) -> Self {
        Self { process: Kind::Child(child), let_go: false }
    }

    /// Of a process that is no child.
    pub(super) fn of_stranger(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        // Nothing is done to it until it is taken.
        Ok(Self { process: Kind::Stranger(fd), let_go: true })
    }

    /// From here on it is ours.
    pub(super) fn take(&mut self) {
        self.let_go = false;
    }

    /// It may live on.
    pub(super) fn let_go(&mut self) {
        self.let_go = true;
    }

    /// Wait for the end. None: its parent alone is told how.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        match &mut self.process {
            Kind::Child(child) => child.wait().await.ok(),
            Kind::Stranger(fd) => {
                while !has_ended(fd) {
                    sleep(LOOK).await;
                }
                None
            }
        }
    }

    pub(super) fn kill(&mut self) {
        let _ = match &mut self.process {
            // None: it has ended, and was waited for.
            Kind::Child(child) => child.id().map_or(Ok(()), |pid| privileges::signal(pid, Signal::KILL)),
            Kind::Stranger(fd) => privileges::signal_by(fd, Signal::KILL),
        };
    }
}

/// A pidfd can be read when its process has ended.
fn has_ended(fd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

impl Drop for Life {
    fn drop(&mut self) {
        if !self.let_go {
            self.kill();
        }
    }
}

/// A control plane that panics is one that dies: workers serve on, and the next one adopts them. Unwinding would take
/// them down in its wake.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
