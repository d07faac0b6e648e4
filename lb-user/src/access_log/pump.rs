//! From a worker thread's pipe to the logs, until the pipe is closed.

use super::AccessLogs;
use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use tls_worker::api::frames;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Blocks; has a thread of its own.
pub(super) fn run(pipe: OwnedFd, logs: &AccessLogs) {
    let mut pipe = std::fs::File::from(pipe);
    let mut bytes = Vec::new();
    let mut lines: HashMap<String, (Vec<u8>, u64)> = HashMap::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match pipe.read(&mut chunk) {
            // The worker is gone; what it did not write whole is no line.
            Ok(0) => return,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return tracing::error!(%error, "access log: the worker's pipe"),
        }
        match sort(&bytes, &mut lines) {
            Ok(used) => drop(bytes.drain(..used)),
            Err(error) => return tracing::error!(error, "access log: what the worker sends is not understood"),
        }
        for (log, (text, count)) in &mut lines {
            if *count > 0 {
                if let Some(sink) = logs.sink(log) {
                    sink.write(text, *count);
                }
                text.clear();
                *count = 0;
            }
        }
    }
}

/// Add whole frames to the lines of their logs; how many bytes those were.
fn sort(bytes: &[u8], lines: &mut HashMap<String, (Vec<u8>, u64)>) -> Result<usize, &'static str> {
    let mut rest = bytes;
    while let Some((log, line, after)) = frames::read(rest)? {
        if !lines.contains_key(log) {
            lines.insert(log.to_owned(), Default::default());
        }
        if let Some((text, count)) = lines.get_mut(log) {
            text.extend_from_slice(line);
            text.push(b'\n');
            *count += 1;
        }
        rest = after;
    }
    Ok(bytes.len() - rest.len())
}
