//! `bailey run` as a process, and its command line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::client::within;
use crate::lab::Lab;
use crate::metrics::Scrape;
use crate::need::binary;
use crate::netns::{Namespace, runtime};
use crate::process::{Process, children};
use crate::wait::{PATIENCE, wait_ok};

/// Where [`Lab::config`] puts metrics, inside the edge's namespace.
pub const METRICS: &str = "127.0.0.1:9100";

/// A running edge.
pub struct Edge<'a> {
    process: Process,
    space: Option<&'a Namespace>,
    config: PathBuf,
    socket: PathBuf,
    metrics: SocketAddr,
}

/// How a command of the command line ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code; none: killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl<'a> Edge<'a> {
    /// Start an edge in the lab and wait until it serves.
    pub fn start(lab: &'a Lab, config: &str) -> Result<Self> {
        let file = lab.folder().join("bailey.toml");
        write(&file, config)?;
        let command = lab.edge.host_command(binary("bailey")?);
        Self::launch(command, file, Some(&lab.edge), METRICS.parse()?)
    }

    /// Start an edge without a lab, in this namespace and with this user's rights, by a config in `folder` that
    /// says `socket = "admin.sock"` and this address of metrics.
    pub fn start_here(folder: &Path, mut command: Command, config: &str, metrics: SocketAddr) -> Result<Edge<'static>> {
        let file = folder.join("bailey.toml");
        write(&file, config)?;
        command.env_remove("BAILEY_SOCKET");
        Edge::launch(command, file, None, metrics)
    }

    fn launch(
        mut command: Command,
        config: PathBuf,
        space: Option<&'a Namespace>,
        metrics: SocketAddr,
    ) -> Result<Self> {
        let folder = config.parent().context("a config in a folder")?;
        command.args(["run", "--config"]).arg(&config);
        let socket = folder.join("admin.sock");
        let process = Process::start("bailey", folder, &mut command)?;
        let mut edge = Self { process, space, config, socket, metrics };
        let ready = wait_ok("the edge to serve", PATIENCE, || {
            if let Some(status) = edge.process.ended() {
                // Not worth waiting for any longer.
                return Ok(Err(status));
            }
            let outcome = edge.cli(&["status", "--json"])?;
            // Not by the exit code: an edge with an empty pool serves, and is unhealthy.
            let status: Option<Value> = serde_json::from_str(&outcome.stdout).ok();
            if !status.is_some_and(|status| status["worker"]["up"] == true) {
                bail!("bailey status: {outcome:?}");
            }
            Ok(Ok(()))
        });
        match ready {
            Ok(Ok(())) => Ok(edge),
            Ok(Err(status)) => bail!("the edge ended ({status}):\n{}", edge.process.log()),
            Err(error) => Err(error.context(edge.process.log())),
        }
    }

    /// `bailey VERB…` against this edge.
    pub fn cli(&self, arguments: &[&str]) -> Result<Outcome> {
        cli_command(Command::new(binary("bailey")?).arg("--socket").arg(&self.socket).args(arguments))
    }

    /// The same; an error when it exits with anything but 0. Standard output.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.cli(arguments)?;
        if outcome.code != Some(0) {
            bail!("bailey {}: {outcome:?}", arguments.join(" "));
        }
        Ok(outcome.stdout)
    }

    /// The same with `--json`, parsed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.done(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("bailey {}: {text:?}", arguments.join(" ")))
    }

    /// Put another config in the file's place; nothing is reloaded.
    pub fn rewrite(&self, config: &str) -> Result<()> {
        write(&self.config, config)
    }

    /// Read the metrics.
    pub fn metrics(&self) -> Result<Scrape> {
        Scrape::parse(&self.metrics_text()?)
    }

    /// Read the metrics as they come.
    pub fn metrics_text(&self) -> Result<String> {
        let address = self.metrics;
        let read = || runtime()?.block_on(scrape(address));
        match self.space {
            Some(space) => space.run(read),
            None => read(),
        }
    }

    /// Process id of the control plane.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Process id of the worker, when there is one now.
    pub fn worker(&self) -> Option<u32> {
        children(self.id()).into_iter().find(|(_, name)| name == "bailey-worker").map(|(id, _)| id)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// End it in order; how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop()
    }
}

/// Run a command of the command line to its end.
pub fn cli_command(command: &mut Command) -> Result<Outcome> {
    let out = command.output().with_context(|| format!("start {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Outcome { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) })
}

/// `bailey check` of a config that is written to `folder`.
pub fn check(folder: &Path, config: &str) -> Result<Outcome> {
    let file = folder.join("checked.toml");
    write(&file, config)?;
    cli_command(Command::new(binary("bailey")?).args(["check", "--config"]).arg(&file))
}

/// A free TCP port of loopback, by asking the kernel for one and letting it go. Never the same one again in this
/// process: the kernel does not know that somebody still means to use it.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}

async fn scrape(address: SocketAddr) -> Result<String> {
    use http_body_util::{BodyExt, Empty};
    within("metrics", async {
        let stream = tokio::net::TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut send, drive) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(async { drive.await.ok() });
        let request = http::Request::get("/metrics").header("host", address.to_string());
        let response = send.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
        if !response.status().is_success() {
            bail!("metrics answered {}", response.status());
        }
        Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().into())?)
    })
    .await
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
