//! An edge with a state directory, one backend that answers, and clear-text requests to it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use rustix::process::Signal;

pub(crate) struct Site {
    pub(crate) here: Here,
    pub(crate) at: SocketAddr,
    pub(crate) backend: Backend,
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { here: Here::new()?, at: free_address()?, backend: Backend::start_here("one")? })
    }

    /// With these lines under `[edge]` and `[admin]`, and behind the pool.
    pub(crate) fn config_with(&self, edge: &str, admin: &str, pool: &str) -> String {
        let head = self.here.head(edge).replace("[admin]\n", &format!("[admin]\n{admin}"));
        format!(
            "{head}\n[service.web]\naddresses = [\"{}\"]\nmode = \"http\"\npool = \"app\"\n\n\
             [pool.app]   # the only one\nbackends = [\n  \"{}\", # rack 1\n]\n{pool}",
            self.at, self.backend.address
        )
    }

    pub(crate) fn config(&self) -> String {
        self.config_with("state = \"state\"\n", "", "")
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.here.file("state").join(name)
    }

    /// One request gets 200 and the backend's answer.
    pub(crate) fn serves(&self) -> Result<()> {
        let mut stream = TcpStream::connect(self.at)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
        Ok(())
    }
}

/// End it as a crash does. Its worker goes with it, or is taken over by the next one.
pub(crate) fn kill(mut edge: Edge<'_>) -> Result<()> {
    edge.process().signal(Signal::KILL)?;
    edge.process().wait(Duration::from_secs(10))?;
    Ok(())
}

/// Refused with exit code 1, and these words.
pub(crate) fn refused(edge: &Edge<'_>, arguments: &[&str], words: &[&str]) -> Result<()> {
    let outcome = edge.cli(arguments)?;
    let said = outcome.stderr.clone() + &outcome.stdout;
    ensure!(outcome.code == Some(1), "{arguments:?} is taken: {outcome:?}");
    for word in words {
        ensure!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
    }
    Ok(())
}
