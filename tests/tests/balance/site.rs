//! What these tests have in common: backends of nginx, one process each, and an edge in front.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use lb_tests::peers::nginx;
use lb_tests::process::Process;
use lb_tests::programs::{Said, run_for};

/// nginx, in one process, so that a signal to it is the end of all of it.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

impl Nginx {
    /// `listen`: words of its listener; `server`: what is in its server besides.
    pub(crate) fn start(here: &Here, name: &str, listen: &str, server: &str) -> Result<Self> {
        let (address, folder) = (free_address()?, here.file(name));
        std::fs::create_dir(&folder)?;
        let servers =
            format!("server {{ listen {address} {listen}; {server}\n location / {{ return 200 \"{name}\"; }} }}\n");
        let process = nginx(&folder, &servers, address)?;
        Ok(Self { address, process })
    }
}

/// A service `web` over TLS with HTTP/2, its pool `app` of these.
pub(crate) struct Site {
    pub(crate) at: SocketAddr,
    pub(crate) edge: Edge<'static>,
}

impl Site {
    /// `pool`: keys of `[pool.app]`, with `backends` for its tables.
    pub(crate) fn start(here: &Here, pool: &str) -> Result<Self> {
        let at = free_address()?;
        let config = here.head("")
            + &format!(
                "[service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n"
            )
            + &format!("[pool.app]\n{pool}\n");
        let edge = here.start(&config)?;
        Ok(Self { at, edge })
    }

    /// So many requests by h2load: all must be answered with 2xx.
    pub(crate) fn load(&self, requests: u32, more: &[&str]) -> Result<Said> {
        let (url, n) = (format!("https://{}/", self.at), requests.to_string());
        let words = [&["-n", &n, "-c", "8", "-m", "4"], more, &[&url]].concat();
        let said = run_for(60, "h2load", &words, "")?;
        let all = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
        ensure!(said.has(&all) && said.has(&format!("status codes: {requests} 2xx")), "{}", said.text);
        Ok(said)
    }

    /// Sum of a metric of the pool.
    pub(crate) fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self.edge.metrics()?.sum(metric, &[&[("pool", "app")], labels].concat()))
    }

    /// Requests that a backend answered.
    pub(crate) fn answered(&self, backend: &Nginx) -> Result<f64> {
        self.sum("bailey_http_requests_total", &[("backend", &backend.address.to_string())])
    }
}
