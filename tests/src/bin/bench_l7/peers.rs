//! The edges that are compared, each on one CPU with one worker, and the backend behind them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::edge::free_port;
use lb_tests::lab::folder as temporary;
use lb_tests::need::{binary, find};
use lb_tests::netns::finish;
use lb_tests::process::{Process, children};
use lb_tests::wait::{PATIENCE, wait_for};

const EDGE_CPU: &str = "0";

/// Whom to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Bailey,
}

/// Kind of the certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    P256,
    Rsa2048,
}

/// PEM files: chain, key, and both in one for HAProxy.
pub(crate) struct Identities {
    p256: Files,
    rsa: Files,
}

struct Files {
    chain: PathBuf,
    key: PathBuf,
    both: PathBuf,
}

/// A running edge with one port for each kind of key.
pub(crate) struct Peer {
    kind: Kind,
    process: Process,
    p256: u16,
    rsa: u16,
    _folder: tempfile::TempDir,
}

impl Peer {
    /// Start one and wait until it answers.
    pub(crate) fn start(kind: Kind, files: &Path, identities: &Identities, backend: u16) -> Result<Self> {
        let folder = temporary()?;
        let (p256, rsa) = (free_port()?, free_port()?);
        let ports = [(p256, &identities.p256), (rsa, &identities.rsa)];
        let mut command = Command::new("taskset");
        command.args(["-c", EDGE_CPU]);
        let text = match kind {
            Kind::Nginx => nginx(&ports, backend, folder.path()),
            Kind::Haproxy => haproxy(&ports, backend),
            Kind::Bailey => bailey(&ports, backend),
        };
        let config = folder.path().join("edge.conf");
        std::fs::write(&config, text)?;
        match kind {
            Kind::Nginx => command.arg(program("nginx")?).arg("-p").arg(folder.path()).arg("-c").arg(&config),
            Kind::Haproxy => command.arg(program("haproxy")?).arg("-db").arg("-f").arg(&config),
            Kind::Bailey => command.arg(binary("bailey")?).args(["run", "--config"]).arg(&config),
        };
        let process = Process::start(&format!("{kind:?}"), folder.path(), &mut command)?;
        let mut peer = Self { kind, process, p256, rsa, _folder: folder };
        for port in [p256, rsa] {
            answers(&format!("https://127.0.0.1:{port}/1k"), &mut peer.process)
                .with_context(|| format!("{kind:?} (files in {})", files.display()))?;
        }
        Ok(peer)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Bailey => "bailey",
        }
    }

    pub(crate) fn port(&self, key: Key) -> u16 {
        match key {
            Key::P256 => self.p256,
            Key::Rsa2048 => self.rsa,
        }
    }

    /// User and system time of all its processes so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let mut processes = vec![self.process.id()];
        let mut at = 0;
        while at < processes.len() {
            processes.extend(children(processes[at]).into_iter().map(|(id, _)| id));
            at += 1;
        }
        processes.into_iter().map(process_seconds).sum()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// proc(5): fields 14 and 15 of stat, all threads, also those that have ended, in clock ticks.
fn process_seconds(id: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).with_context(|| format!("process {id} is gone"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Self-signed certificates; nobody verifies them here.
pub(crate) fn identities(folder: &Path) -> Result<Identities> {
    let make = |name: &str, key: &[&str]| {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        let files = Files { chain: file("pem"), key: file("key"), both: file("both") };
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=bench"]).args(key);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:bench"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        finish(openssl.arg("-keyout").arg(&files.key).arg("-out").arg(&files.chain))?;
        let both = [std::fs::read(&files.chain)?, std::fs::read(&files.key)?].concat();
        std::fs::write(&files.both, both)?;
        anyhow::Ok(files)
    };
    Ok(Identities {
        p256: make("p256", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])?,
        rsa: make("rsa", &["-newkey", "rsa:2048"])?,
    })
}

/// nginx with a file of 1 KiB and one of 1 MiB, on the load's CPU.
pub(crate) fn backend(folder: &Path) -> Result<(Process, u16)> {
    let root = folder.join("files");
    std::fs::create_dir_all(&root)?;
    for (name, size) in [("1k", 1 << 10), ("1m", 1 << 20)] {
        std::fs::write(root.join(name), vec![b'x'; size])?;
    }
    let port = free_port()?;
    let config = folder.join("backend.conf");
    let http = format!("server {{ listen 127.0.0.1:{port}; root {}; sendfile on; tcp_nopush on; }}", root.display());
    std::fs::write(&config, nginx_frame(&http, folder))?;
    let mut command = Command::new(program("nginx")?);
    let mut process = Process::start("backend", folder, command.arg("-p").arg(folder).arg("-c").arg(&config))?;
    answers(&format!("http://127.0.0.1:{port}/1k"), &mut process).context("backend")?;
    Ok((process, port))
}

fn nginx(ports: &[(u16, &Files); 2], backend: u16, folder: &Path) -> String {
    let mut http =
        format!("upstream pool {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 1000000000; }}\n");
    for (port, files) in ports {
        http += &format!(
            "server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_protocols TLSv1.2 TLSv1.3;\n\
             location / {{ proxy_pass http://pool; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
             proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;\n\
             proxy_max_temp_file_size 0; }} }}\n",
            files.chain.display(),
            files.key.display()
        );
    }
    nginx_frame(&http, folder)
}

/// What both of our nginxes have in common: one worker, no log of requests, connections that are kept.
fn nginx_frame(http: &str, folder: &Path) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
        .collect();
    format!(
        "{user} worker_processes 1; daemon off; pid {0}/nginx-{1}.pid; error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;\n{temp}{http} }}\n",
        folder.display(),
        http.len(),
    )
}

fn haproxy(ports: &[(u16, &Files); 2], backend: u16) -> String {
    let mut text = "global\n nbthread 1\n maxconn 4096\n\
                    defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n"
        .to_string();
    for (port, files) in ports {
        text += &format!(
            "frontend f{port}\n bind 127.0.0.1:{port} ssl crt {} alpn h2,http/1.1\n\
             \x20http-request set-header X-Forwarded-For %[src]\n http-request set-header X-Forwarded-Proto https\n\
             \x20http-request set-header X-Forwarded-Host %[req.hdr(host)]\n default_backend pool\n",
            files.both.display()
        );
    }
    text + &format!("backend pool\n http-reuse always\n server s 127.0.0.1:{backend}\n")
}

fn bailey(ports: &[(u16, &Files); 2], backend: u16) -> String {
    let mut text = "[edge]\nname = \"bench\"\ndatapath = \"sockets\"\ncpus = [0]\nuser = \"nobody\"\nlog = \"warn\"\n\
                    [admin]\nsocket = \"admin.sock\"\n"
        .to_string();
    for (port, files) in ports {
        text += &format!(
            "[certificate.c{port}]\nchain = \"{}\"\nkey = \"{}\"\n\
             [service.s{port}]\naddresses = [\"127.0.0.1:{port}\"]\nmode = \"https\"\n\
             certificates = [\"c{port}\"]\npool = \"pool\"\n",
            files.chain.display(),
            files.key.display()
        );
    }
    text + &format!("[pool.pool]\nbackends = [\"127.0.0.1:{backend}\"]\nmax_idle = 128\n")
}

fn answers(url: &str, process: &mut Process) -> Result<()> {
    let ask = || finish(Command::new("curl").args(["-sSkf", "--max-time", "2", url])).ok().filter(|b| b.len() == 1024);
    let outcome = wait_for(&format!("1024 bytes from {url}"), PATIENCE, || {
        // Over when it ended: nothing will answer then.
        process.ended().map(Err).or_else(|| ask().map(Ok))
    });
    match outcome.with_context(|| process.log())? {
        Ok(_) => Ok(()),
        Err(status) => anyhow::bail!("ended ({status}):\n{}", process.log()),
    }
}

fn program(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("the program `{name}` is missing; cargo xtask setup installs it"))
}
