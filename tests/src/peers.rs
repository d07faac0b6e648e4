//! Other people's servers as backends: each in a folder, ready when its constructor returns.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::need::find;
use crate::process::Process;
use crate::wait::{PATIENCE, wait_ok};

/// nginx with these `server` blocks, as soon as it takes connections at `ready`.
pub fn nginx(folder: &Path, servers: &str, ready: SocketAddr) -> Result<Process> {
    nginx_with(folder, "", servers, ready)
}

/// The same with these words in `http`.
pub fn nginx_with(folder: &Path, http: &str, servers: &str, ready: SocketAddr) -> Result<Process> {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
    let text = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr; worker_rlimit_nofile 4096;\n\
         events {{ worker_connections 2048; }}\n\
         http {{ access_log off; default_type text/plain;\n{temporary}{http}\n{servers}}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = Command::new(find("nginx").context("no nginx")?);
    command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(&file);
    started(Process::start("nginx", folder, &mut command)?, ready)
}

/// haproxy that takes PROXY headers at `at` and sends what follows to `to`. It logs `client service name` of each
/// connection.
pub fn haproxy(folder: &Path, at: SocketAddr, to: SocketAddr) -> Result<Process> {
    let sections = format!(
        "frontend front\n bind {at} accept-proxy\n log global\n\
         \x20log-format \"%ci:%cp %fi:%fp %[fc_pp_authority]\"\n default_backend back\n\
         backend back\n server one {to}\n"
    );
    haproxy_with(folder, &sections, at)
}

/// haproxy with these sections after `global` and `defaults` (mode tcp), as soon as it takes connections at `ready`.
pub fn haproxy_with(folder: &Path, sections: &str, ready: SocketAddr) -> Result<Process> {
    let text = format!(
        "global\n log stdout format raw local0\n\
         defaults\n mode tcp\n timeout connect 10s\n timeout client 20s\n timeout server 20s\n{sections}"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let mut command = Command::new(find("haproxy").context("no haproxy")?);
    started(Process::start("haproxy", folder, command.args(["-db", "-f"]).arg(&file))?, ready)
}

fn started(mut process: Process, ready: SocketAddr) -> Result<Process> {
    wait_ok("a peer to listen", PATIENCE, || {
        if let Some(status) = process.ended() {
            return Ok(Err(anyhow::anyhow!("it ended ({status}):\n{}", process.log())));
        }
        TcpStream::connect(ready)?;
        Ok(Ok(()))
    })??;
    Ok(process)
}
