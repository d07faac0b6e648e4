//! What these tests have in common: a site on loopback, and how openssl's words are read.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use lb_tests::backend::{Backend, Seen};
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use lb_tests::metrics::Scrape;
use lb_tests::programs::Said;

/// A service `web`, its pool `app` with one backend, an edge.
pub(crate) struct Site {
    pub(crate) here: Here,
    pub(crate) at: SocketAddr,
    pub(crate) backend: Backend,
    pub(crate) edge: Edge<'static>,
    pub(crate) config: String,
}

impl Site {
    /// `service`: keys of `[service.web]`, with `certificates` unless it is `["lab"]`. `more` comes at the end of the
    /// config. `prepare` makes files before the edge starts.
    pub(crate) fn new(service: &str, more: &str, prepare: impl FnOnce(&Here) -> Result<()>) -> Result<Self> {
        Self::with_edge("", service, more, prepare)
    }

    /// The same; `head` goes under `[edge]`.
    pub(crate) fn with_edge(
        head: &str,
        service: &str,
        more: &str,
        prepare: impl FnOnce(&Here) -> Result<()>,
    ) -> Result<Self> {
        let (here, at, backend) = (Here::new()?, free_address()?, Backend::start_here("app")?);
        prepare(&here)?;
        let config = here.head(head) + &web(at, &backend, service) + more;
        let edge = here.start(&config)?;
        Ok(Self { here, at, backend, edge, config })
    }

    /// The last request that the backend saw.
    pub(crate) fn seen(&self) -> Result<Seen> {
        self.backend.seen().pop().context("the backend saw no request")
    }
}

/// A service `web` with these keys, and its pool.
pub(crate) fn web(at: SocketAddr, backend: &Backend, keys: &str) -> String {
    let certificates = if keys.contains("certificates = ") { "" } else { "certificates = [\"lab\"]\n" };
    format!(
        "[pool.app]\nbackends = [\"{}\"]\n\
         [service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\npool = \"app\"\nserved_by_header = \"x-served-by\"\n\
         {certificates}{keys}\n",
        backend.address
    )
}

/// Whether a certificate of this common name came: openssl writes `CN = x` or, newer, `CN=x`.
pub(crate) fn subject_is(said: &Said, name: &str) -> bool {
    let wanted = format!("subject=CN={name}");
    said.text.lines().any(|line| line.replace(' ', "") == wanted)
}

/// Handshakes that failed, by reason, for the message of a test.
pub(crate) fn failures(scrape: &Scrape) -> String {
    let lines = scrape.matching("bailey_tls_handshake_failures_total", &[]).filter(|sample| sample.value > 0.0);
    lines.map(|sample| format!("{:?} {}\n", sample.labels, sample.value)).collect()
}

/// Handshakes of service `web` that failed for this reason.
pub(crate) fn failed(edge: &Edge<'_>, reason: &str) -> Result<f64> {
    Ok(edge.metrics()?.sum("bailey_tls_handshake_failures_total", &[("service", "web"), ("reason", reason)]))
}
