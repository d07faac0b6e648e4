//! An edge with one clear-text service, and a client that sends bytes as they are.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use lb_tests::wait::{PATIENCE, wait_for};

/// What no answer takes.
const LONG: Duration = Duration::from_secs(15);

pub(crate) struct Site {
    pub(crate) at: SocketAddr,
    pub(crate) edge: Edge<'static>,
    // Its folder lives as long.
    _here: Here,
}

impl Site {
    /// `keys` belong to `[service.web]`, and come last.
    pub(crate) fn new(backend: SocketAddr, keys: &str) -> Result<Self> {
        let (here, at) = (Here::new()?, free_address()?);
        let config = here.head("")
            + &format!(
                "[pool.app]\nbackends = [\"{backend}\"]\n\
                 [service.web]\naddresses = [\"{at}\"]\nmode = \"http\"\npool = \"app\"\n{keys}\n"
            );
        let edge = here.start(&config)?;
        Ok(Site { at, edge, _here: here })
    }

    pub(crate) fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.at)?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Send these bytes; everything that comes back until the edge closes.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut stream = self.connect()?;
        // The edge may close before it has read everything; what it said arrives all the same.
        let _ = stream.write_all(bytes);
        let mut said = Vec::new();
        stream.read_to_end(&mut said).context("the edge does not close")?;
        let _ = stream.shutdown(Shutdown::Both);
        Ok(said)
    }

    /// Wait until a counter is this.
    pub(crate) fn counts(&self, name: &str, labels: &[(&str, &str)], expected: f64) -> Result<()> {
        let read = || self.edge.metrics().ok().map(|scrape| scrape.sum(name, labels));
        wait_for(&format!("{name} {labels:?} to be {expected}, not {:?}", read()), PATIENCE, || {
            read().filter(|value| *value == expected).map(drop)
        })
    }
}
