//! The origin behind every edge: one nginx worker that serves 1 KiB from memory and 1 MiB from a file.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use lb_tests::edge::free_port;
use lb_tests::process::Process;

use crate::process::{find, pinned, ready};

/// Path and length of the small and of the large answer.
pub(crate) const SMALL: (&str, u64) = ("/small", 1 << 10);
pub(crate) const LARGE: (&str, u64) = ("/large", 1 << 20);

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Origin {
    pub(crate) fn start(directory: &Path, cpu: usize) -> Result<Self> {
        let files = directory.join("origin");
        fs::create_dir_all(&files)?;
        fs::write(files.join("large"), "m".repeat(1 << 20))?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = directory.join("origin.conf");
        fs::write(&config, configuration(directory, &files, address))?;
        let nginx = find("nginx")?;
        let args = ["-c".as_ref(), config.as_os_str(), "-e".as_ref(), "stderr".as_ref()];
        let mut process = pinned("origin", cpu, directory, &nginx, args)?;
        ready(&mut process, &[address]).context("the origin")?;
        Ok(Self { address, _process: process })
    }
}

fn configuration(directory: &Path, files: &Path, address: SocketAddr) -> String {
    let small = "k".repeat(1 << 10);
    format!(
        "{user}
daemon off;
worker_processes 1;
pid {pid};
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    sendfile on;
    tcp_nopush on;
    default_type text/plain;
    client_body_temp_path {temp}; proxy_temp_path {temp}; fastcgi_temp_path {temp};
    uwsgi_temp_path {temp}; scgi_temp_path {temp};
    server {{
        listen {address} backlog=4096;
        root {files};
        location = /small {{ return 200 \"{small}\"; }}
        location / {{ }}
    }}
}}
",
        user = user_line(),
        pid = directory.join("origin.pid").display(),
        temp = directory.join("origin.temp").display(),
        files = files.display(),
    )
}

/// Started by root, nginx's workers would become a user that may not read the lab's directory.
pub(crate) fn user_line() -> &'static str {
    if rustix::process::geteuid().is_root() { "user root;" } else { "" }
}
