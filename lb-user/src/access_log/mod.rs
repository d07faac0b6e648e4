//! Access logs: lines come out of a pipe of each worker thread (`pump`) and go to files, standard output or syslog
//! (`sink`). Nothing here is on the way of a request: what cannot be written waits in the pipe, and then at the worker,
//! which drops what is over its bound.

mod pump;
mod sink;

use crate::config::AccessLog;
use sink::Sink;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AccessLogs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sinks: Mutex<HashMap<String, Arc<Sink>>>,
    /// Files that were opened before this was raised are opened again.
    epoch: Arc<AtomicU64>,
}

impl AccessLogs {
    fn sinks(&self) -> MutexGuard<'_, HashMap<String, Arc<Sink>>> {
        self.0.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The config says so from now on. A log that stays as it was keeps its file.
    pub fn adopt(&self, logs: &[AccessLog]) {
        let mut sinks = self.sinks();
        let mut before = std::mem::take(&mut *sinks);
        for log in logs {
            let name = &log.log.name;
            let same = before.remove(name).filter(|sink| sink.target == log.target);
            let new = || Arc::new(Sink::new(name, log.target.clone(), Arc::clone(&self.0.epoch)));
            sinks.insert(name.clone(), same.unwrap_or_else(new));
        }
    }

    /// Open every file again before its next line: whoever rotates them has moved them away.
    pub fn reopen(&self) {
        self.0.epoch.fetch_add(1, Relaxed);
    }

    /// Pipes for so many worker threads; what is written into them goes to the logs until they are closed.
    pub(crate) fn pipes(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let pipe = |_| {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let logs = self.clone();
            std::thread::Builder::new().name("access-log".into()).spawn(move || pump::run(read, &logs))?;
            Ok(write)
        };
        (0..count).map(pipe).collect()
    }

    fn sink(&self, log: &str) -> Option<Arc<Sink>> {
        self.sinks().get(log).cloned()
    }

    /// Lines that could not be written, by log.
    pub fn lost(&self) -> Vec<(String, u64)> {
        let mut lost: Vec<_> = self.sinks().iter().map(|(name, sink)| (name.clone(), sink.lost())).collect();
        lost.sort();
        lost
    }
}

#[cfg(test)]
mod tests;
