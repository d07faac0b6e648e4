//! A thread's way to the control plane: frames of lines that wait in memory, and a pipe. Nobody waits for it: over the
//! bound, lines are dropped.

use crate::api::frames;
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// So long lines wait for others to go along.
const GATHER: Duration = Duration::from_millis(50);
/// So many bytes do not wait.
const ENOUGH: usize = 32 << 10;
/// At the end of the thread, how long the last lines may take.
const LAST: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(crate) struct Way {
    waiting: RefCell<Vec<u8>>,
    /// Bytes that the pipe did not take yet.
    leaving: Cell<usize>,
    some: Notify,
    enough: Notify,
    empty: Notify,
    /// Whether there is a pipe.
    open: Cell<bool>,
    carrier: RefCell<Option<AbortHandle>>,
}

impl Way {
    /// Whether there was room, with so many bytes as the bound.
    pub(crate) fn put(&self, log: &str, line: &[u8], bound: usize) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() + self.leaving.get() + line.len() > bound {
            return false;
        }
        let before = waiting.len();
        frames::write(&mut waiting, log, line);
        if before == 0 {
            self.some.notify_one();
        }
        if before < ENOUGH && waiting.len() >= ENOUGH {
            self.enough.notify_one();
        }
        true
    }

    /// Lines go here from now on. A pipe from before is one of a control plane that is dead.
    pub(crate) fn open(self: &Rc<Self>, fd: OwnedFd) {
        match pipe::Sender::from_owned_fd(fd) {
            Ok(pipe) => {
                self.open.set(true);
                self.leaving.set(0);
                let carrier = tokio::task::spawn_local(self.clone().carry(pipe)).abort_handle();
                if let Some(before) = self.carrier.replace(Some(carrier)) {
                    before.abort();
                }
            }
            Err(error) => tracing::error!(%error, "the pipe of access logs cannot be used"),
        }
    }

    async fn carry(self: Rc<Self>, mut pipe: pipe::Sender) {
        let mut leaving = Vec::new();
        loop {
            if self.waiting.borrow().is_empty() {
                self.empty.notify_waiters();
                self.some.notified().await;
                let _ = timeout(GATHER, self.enough.notified()).await;
            }
            std::mem::swap(&mut leaving, &mut *self.waiting.borrow_mut());
            self.leaving.set(leaving.len());
            let written = pipe.write_all(&leaving).await;
            leaving.clear();
            leaving.shrink_to(4 * ENOUGH);
            self.leaving.set(0);
            if let Err(error) = written {
                tracing::warn!(%error, "the control plane takes no lines of access logs");
                return;
            }
        }
    }

    /// Wait until the last lines are gone, but not for long.
    pub(crate) async fn finish(&self) {
        let gone = async {
            while !self.waiting.borrow().is_empty() || self.leaving.get() > 0 {
                self.enough.notify_one();
                self.empty.notified().await;
            }
        };
        if self.open.get() {
            let _ = timeout(LAST, gone).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn lines_go_through_the_pipe_and_over_the_bound_are_dropped() {
        let local = tokio::task::LocalSet::new();
        let way = Rc::new(Way::default());
        let line = [b'x'; 1000];
        let taken = (0..200).filter(|_| way.put("main", &line, 64 << 10)).count();
        assert!((60..66).contains(&taken), "{taken}");
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut file = std::fs::File::from(read);
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; taken * 1_009];
            file.read_exact(&mut all).map(|()| all)
        });
        local
            .run_until(async {
                way.open(write);
                way.finish().await;
            })
            .await;
        let all = reader.join().unwrap().unwrap();
        let (mut rest, mut count) = (&all[..], 0);
        while let Some((name, line, after)) = frames::read(rest).unwrap() {
            assert_eq!((name, line.len()), ("main", 1_000));
            (rest, count) = (after, count + 1);
        }
        assert!(rest.is_empty() && count == taken);
        assert!(way.put("main", &line, 64 << 10), "there is room again");
    }
}
