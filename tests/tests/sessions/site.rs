//! nginx as three backends, curl as a client.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::need::find;
use lb_tests::process::{Process, signal_process};
use lb_tests::programs;
use lb_tests::wait::{PATIENCE, wait_for, wait_ok};

/// Three backends in one nginx. Each says its port and the cookies that it sees; `/login` gives a cookie `APPID`.
pub(crate) struct Backends {
    pub(crate) at: Vec<SocketAddr>,
    _nginx: Process,
}

impl Backends {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let at = (0..3).map(|_| free_address()).collect::<Result<Vec<_>>>()?;
        let server = |at: &SocketAddr| {
            format!(
                "server {{ listen {at}; location / {{ return 200 \"$server_port [$http_cookie]\"; }}\n\
                 location /login {{ add_header Set-Cookie \"APPID=$server_port-$request_id; Path=/\"; return 200 \"$server_port\"; }} }}\n"
            )
        };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; default_type text/plain;\n{temporary}{} }}\n",
            at.iter().map(server).collect::<String>()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text)?;
        let mut command = Command::new(find("nginx").context("no nginx")?);
        command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(&file);
        let nginx = Process::start("nginx", folder, &mut command)?;
        for one in &at {
            wait_ok("nginx", PATIENCE, || Ok(TcpStream::connect(one)?))?;
        }
        Ok(Self { at, _nginx: nginx })
    }

    /// A service `web` over HTTPS with all of them, and these keys of persistence.
    pub(crate) fn config(&self, here: &Here, at: SocketAddr, keys: &str) -> String {
        let list: Vec<String> = self.at.iter().map(|at| format!("\"{at}\"")).collect();
        format!(
            "{}[pool.app]\nbackends = [{}]\n[pool.app.persistence]\n{keys}\n\
             [service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"app\"\n",
            here.head(""),
            list.join(", ")
        )
    }
}

/// What curl says of `path` at an edge, with these words more.
pub(crate) fn curl(here: &Here, at: SocketAddr, path: &str, words: &[&str]) -> Result<String> {
    let url = format!("https://{HOST}:{}{path}", at.port());
    let said = programs::curl(at, &[HOST], &here.ca(), &[words, &[&url]].concat())?;
    ensure!(said.status(200), "{path}: {}", said.text);
    Ok(said.text)
}

/// The backend that answered: the body begins with its port.
pub(crate) fn port(said: &str) -> Result<u16> {
    let body = said.replace('\r', "").split_once("\n\n").context("no body")?.1.trim().to_owned();
    let digits: String = body.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no port in {body:?}"))
}

/// Kill the worker, and wait until another one serves.
pub(crate) fn kill_worker(edge: &Edge<'_>) -> Result<()> {
    let worker = wait_for("a worker", PATIENCE, || edge.worker())?;
    signal_process(worker, rustix::process::Signal::KILL)?;
    wait_for("another worker", PATIENCE, || edge.worker().filter(|new| *new != worker))?;
    Ok(())
}

/// Lookups of the pool with this result.
pub(crate) fn lookups(edge: &Edge<'_>, result: &str) -> Result<f64> {
    Ok(edge.metrics()?.sum("bailey_session_lookups_total", &[("pool", "app"), ("result", result)]))
}
