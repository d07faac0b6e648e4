//! What these tests have in common: an edge with a clear and an encrypted service, nginx behind it, and an echo for
//! WebSockets. Whatever it leaves is ended.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use lb_tests::peers::nginx;
use lb_tests::process::{Process, called, control_planes, signal_process};
use lb_tests::wait::{PATIENCE, wait_for, wait_ok};
use rustix::process::Signal;

/// Programs that the load is made with.
pub(crate) const PROGRAMS: &[&str] = &["nginx", "h2load", "wrk"];

pub(crate) struct Site {
    pub(crate) here: Here,
    /// `http`, for wrk.
    pub(crate) clear: SocketAddr,
    /// `https`, for h2load and WebSockets.
    pub(crate) secure: SocketAddr,
    pub(crate) app: SocketAddr,
    /// A port that nobody has.
    pub(crate) spare: u16,
    /// Another one.
    pub(crate) kept: u16,
    echo: Backend,
    _nginx: Process,
    edge_keys: String,
}

impl Site {
    /// `edge`: keys of `[edge]`.
    pub(crate) fn new(edge: &str) -> Result<Self> {
        let here = Here::new()?;
        let app = free_address()?;
        let folder = here.file("app");
        std::fs::create_dir(&folder)?;
        // It ends no connection by itself, so that each new one is the edge's doing.
        let servers = format!(
            "server {{ listen {app}; keepalive_requests 100000000; keepalive_timeout 600s;\n location / {{ return 200 \"app\"; }} }}\n"
        );
        let nginx = nginx(&folder, &servers, app)?;
        let echo = Backend::start_here("echo")?;
        let (clear, secure) = (free_address()?, free_address()?);
        let (spare, kept) = (free_address()?.port(), free_address()?.port());
        Ok(Self { here, clear, secure, app, spare, kept, echo, _nginx: nginx, edge_keys: edge.to_owned() })
    }

    /// The config; `more`: services and pools besides.
    pub(crate) fn config(&self, more: &str) -> String {
        format!(
            "{}[service.clear]\naddresses = [\"{}\"]\nmode = \"http\"\npool = \"app\"\n\
             [service.secure]\naddresses = [\"{}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n\
             [[service.secure.routes]]\nname = \"ws\"\npath = \"/ws\"\npool = \"echo\"\n\
             [pool.app]\nbackends = [\"{}\"]\nmax_idle = 64\nhealth = {{ type = \"tcp\", interval = \"500ms\" }}\n\
             [pool.echo]\nbackends = [\"{}\"]\n{more}",
            self.here.head(&self.edge_keys),
            self.clear,
            self.secure,
            self.app,
            self.echo.address
        )
    }

    pub(crate) fn start(&self) -> Result<Edge<'static>> {
        self.here.start(&self.config(""))
    }

    /// Processes of the workers that have a place to be met at: those that serve.
    pub(crate) fn workers(&self) -> Vec<u32> {
        workers(self.here.folder(), &self.here.name)
    }

    /// Kill a control plane as the kernel would, and wait until it is gone.
    pub(crate) fn kill(&self, edge: &mut Edge<'_>) -> Result<()> {
        edge.process().signal(Signal::KILL)?;
        edge.process().wait(PATIENCE).map(drop)
    }
}

fn workers(folder: &Path, edge: &str) -> Vec<u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let of = format!("worker-{edge}-");
    let pids = names.filter_map(|name| name.strip_prefix(&of)?.strip_suffix(".sock")?.parse().ok());
    pids.filter(|pid| called(*pid).is_some_and(|name| name == "bailey-worker")).collect()
}

impl Drop for Site {
    fn drop(&mut self) {
        // Control planes that an upgrade started are nobody's children here.
        let config = self.here.file("bailey.toml");
        for pid in control_planes(&config) {
            let _ = signal_process(pid, Signal::TERM);
            let ended = wait_for("a control plane to end", PATIENCE, || called(pid).is_none().then_some(()));
            if ended.is_err() {
                let _ = signal_process(pid, Signal::KILL);
            }
        }
        for pid in self.workers() {
            let _ = signal_process(pid, Signal::KILL);
        }
    }
}

/// The worker that the edge says it has.
pub(crate) fn worker(edge: &Edge<'_>) -> Result<u32> {
    wait_ok("a worker", PATIENCE, || {
        // Not by the exit code: an edge that is unhealthy says so by it.
        let status: serde_json::Value = serde_json::from_str(&edge.cli(&["status", "--json"])?.stdout)?;
        let pid = status["worker"]["pid"].as_u64().context("no worker lives")?;
        Ok(u32::try_from(pid)?)
    })
}

/// A worker other than this one.
pub(crate) fn another(edge: &Edge<'_>, than: u32) -> Result<u32> {
    wait_ok("another worker", PATIENCE, || {
        let now = worker(edge)?;
        ensure!(now != than, "still {now}");
        Ok(now)
    })
}
