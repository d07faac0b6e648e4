//! The kernel half's sampled log, brought to ours.

use aya::Ebpf;
use aya_log::EbpfLogger;
use lb_common::Verdict;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::error::failed;
use crate::datapath::DatapathError;

/// Read the log of a loaded object from now on, until the task is aborted.
pub(super) fn forward(ebpf: &mut Ebpf) -> Result<JoinHandle<()>, DatapathError> {
    let what = "read the kernel half's log";
    let logger = EbpfLogger::init_with_logger(ebpf, Lines).map_err(|e| failed(what, &e))?;
    #[expect(deprecated, reason = "the new name is unsafe code, and the logger owns its descriptor all its life")]
    let mut logger = AsyncFd::with_interest(logger, Interest::READABLE).map_err(|e| failed(what, &e))?;
    Ok(tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }))
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        // The kernel half writes IPv4 addresses in their mapped form.
        let line = line.replace("::ffff:", "");
        let (verdict, rest) = named(&line);
        tracing::info!(target: "bailey::packet", verdict, "{rest}");
    }

    fn flush(&self) {}
}

/// A line begins with the verdict's number; people read its name.
fn named(line: &str) -> (&'static str, &str) {
    let (number, rest) = line.split_once(' ').unwrap_or((line, ""));
    let verdict = number.parse().ok().and_then(|number: usize| Verdict::ALL.get(number));
    verdict.map_or(("unknown", line), |verdict| (verdict.name(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_becomes_the_name() {
        assert_eq!(named("1 service 0 bytes 60"), ("not_vip", "service 0 bytes 60"));
        assert_eq!(named("999 x"), ("unknown", "999 x"));
        assert_eq!(named(""), ("unknown", ""));
    }
}
