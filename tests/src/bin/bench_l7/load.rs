//! What is asked of an edge: the workloads, and the tools that make them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::netns::finish;

use super::handshakes;
use super::peers::{Key, Peer};

/// One line of the table.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// wrk, HTTP/1.1 with kept connections: connections and path.
    Http1(&'static str, &'static str),
    /// h2load: connections, streams of each, path.
    Http2(&'static str, &'static str, &'static str),
    /// A connection, a full handshake and one request each.
    Handshakes(Key),
}

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload { name: "HTTPS/1.1 keep-alive, 1 KiB", kind: Kind::Http1("16", "1k") },
    Workload { name: "HTTPS/2, 8 conns x 10 streams, 1 KiB", kind: Kind::Http2("8", "10", "1k") },
    Workload { name: "1 MiB response", kind: Kind::Http1("8", "1m") },
    Workload { name: "full handshake + request, P-256", kind: Kind::Handshakes(Key::P256) },
    Workload { name: "full handshake + request, RSA-2048", kind: Kind::Handshakes(Key::Rsa2048) },
];

/// How much of it.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Of a round of wrk or h2load.
    pub(crate) seconds: u32,
    /// Of a round of handshakes.
    pub(crate) handshakes: usize,
}

impl Load {
    /// A short round before the ones that count.
    pub(crate) fn warm_up(self) -> Self {
        Self { seconds: 1, handshakes: self.handshakes.min(200) }
    }

    /// One round; how many requests were answered. An error when one was not answered well.
    pub(crate) fn run(self, workload: &Workload, edge: &Peer) -> Result<u64> {
        let url = |path: &str| format!("https://127.0.0.1:{}/{path}", edge.port(Key::P256));
        match workload.kind {
            Kind::Http1(connections, path) => {
                let time = format!("{}s", self.seconds);
                wrk(&finish(Command::new("wrk").args(["-t1", "-c", connections, "-d", &time, &url(path)]))?)
            }
            Kind::Http2(connections, streams, path) => {
                let time = self.seconds.to_string();
                let mut h2load = Command::new("h2load");
                h2load.args(["-t1", "-c", connections, "-m", streams, "-D", &time, &url(path)]);
                answered(&finish(&mut h2load)?)
            }
            Kind::Handshakes(key) => handshakes::run(edge.port(key), self.handshakes),
        }
    }
}

/// wrk's summary: `  51233 requests in 3.00s, 62.10MB read`.
fn wrk(text: &str) -> Result<u64> {
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk saw errors:\n{text}");
    let line = text.lines().find(|line| line.contains(" requests in ")).context("no summary from wrk")?;
    let count = line.split_whitespace().next().and_then(|word| word.parse().ok());
    count.filter(|count| *count > 0).with_context(|| format!("wrk: {line}"))
}

/// h2load's summary: `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`.
fn answered(text: &str) -> Result<u64> {
    let line = text.lines().find(|line| line.starts_with("requests: ")).context("no summary from h2load")?;
    let count = |word: &str| {
        let part = line.split([':', ',']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok());
        part.with_context(|| format!("h2load: {line}"))
    };
    // What is in flight when the time is over counts as neither.
    ensure!(count("failed")? == 0 && count("timeout")? == 0 && count("succeeded")? > 0, "h2load saw errors: {line}");
    count("succeeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_summaries_are_read() {
        assert_eq!(wrk("Running\n  51233 requests in 3.00s, 62.10MB read\nRequests/sec: 1\n").unwrap(), 51233);
        assert!(wrk("  5 requests in 3.00s\n  Non-2xx or 3xx responses: 5\n").is_err());
        let line = "requests: 90 total, 95 started, 90 done, 88 succeeded, 0 failed, 2 errored, 0 timeout\n";
        assert_eq!(answered(line).unwrap(), 88);
        assert!(answered(&line.replace("0 failed", "1 failed")).is_err());
    }
}
