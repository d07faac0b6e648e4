//! nginx and haproxy, in front of the edge and behind it.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::need::find;
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_ok};

/// nginx with these `server` blocks, as soon as it takes connections at `ready`.
pub(crate) fn nginx(folder: &Path, servers: &str, ready: SocketAddr) -> Result<Process> {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
    let text = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr; worker_rlimit_nofile 4096;\n\
         events {{ worker_connections 2048; }}\n\
         http {{ access_log off; default_type text/plain; keepalive_requests 1000000;\n{temporary}{servers}}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = Command::new(find("nginx").context("no nginx")?);
    command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(&file);
    started(Process::start("nginx", folder, &mut command)?, ready)
}

/// haproxy with these sections after `global` and `defaults` (mode tcp), as soon as it takes connections at `ready`.
pub(crate) fn haproxy(folder: &Path, sections: &str, ready: SocketAddr) -> Result<Process> {
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
