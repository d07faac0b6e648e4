//! Configs of forwarded services, and transfers that show that one works.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use lb_tests::backend::{Backend, pattern_bytes, sha256};
use lb_tests::lab::{CLIENT4, CLIENT6, Lab, VIP4, VIP6};
use lb_tests::netns::Namespace;
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_ok};
use serde_json::Value;

/// Both service addresses.
pub(crate) const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
/// Bytes of a transfer.
const TRANSFER: usize = 10 << 20;

/// Service `web` on these ports (`"80"`, `"*"`) of both addresses, and pool `app`; `more` keys of the service.
pub(crate) fn service(forward: &str, ports: &str, backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    format!(
        "[service.web]\nmode = \"l4\"\nforward = \"{forward}\"\nprotocols = [\"tcp\", \"udp\"]\n\
         addresses = [\"{VIP4}:{ports}\", \"[{VIP6}]:{ports}\"]\npool = \"app\"\n{more}\n\
         [pool.app]\nbackends = [{}]\n",
        backends.join(", ")
    )
}

/// The client's address of the same family.
pub(crate) fn client(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { CLIENT4.into() } else { CLIENT6.into() }
}

/// Download and upload by curl, whole, at the link's MTU; `backend` sees the client itself.
pub(crate) fn transfers(lab: &Lab, to: SocketAddr, backend: &Backend) -> Result<()> {
    let path = |name: &str| lab.folder().join(name).display().to_string();
    let curl = |words: &[&str]| lab.client.output("curl", &[&["-sSfg", "--max-time", "20"], words].concat());
    let bytes = pattern_bytes(TRANSFER);
    let (down, up) = (path("down"), path("up"));
    curl(&["-o", &down, &format!("http://{to}/?size={TRANSFER}")])?;
    ensure!(std::fs::read(&down)? == bytes, "the download from {to} differs");
    std::fs::write(&up, &bytes)?;
    let told: Value = serde_json::from_str(&curl(&["-T", &up, &format!("http://{to}/up")])?)?;
    ensure!(told["body_sha256"] == sha256(&bytes).as_str(), "the upload to {to} differs: {told}");
    let seen = backend.seen();
    ensure!(seen.iter().rev().take(2).all(|seen| seen.peer.ip() == client(to.ip())), "{seen:?}");
    Ok(())
}

/// iperf3 for a second up and a second down; both carried something.
pub(crate) fn iperf3(client: &Namespace, to: SocketAddr) -> Result<()> {
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    for way in [&["-t", "1"][..], &["-t", "1", "-R"]] {
        let words = [&["-J", "-c", &address, "-p", &port, "--connect-timeout", "2000"], way].concat();
        let text = wait_ok("iperf3", PATIENCE, || client.output("timeout", &[&["15", "iperf3"], &words[..]].concat()))?;
        let report: Value = serde_json::from_str(&text)?;
        let bytes = report["end"]["sum_received"]["bytes"].as_u64().context("no sum in iperf3's report")?;
        ensure!(bytes > 1 << 20, "{bytes} bytes in a second, {way:?}: {text}");
    }
    Ok(())
}

/// An iperf3 server in a backend's namespace.
pub(crate) fn iperf3_server(lab: &Lab, i: usize, port: u16) -> Result<Process> {
    let mut command = lab.backends[i].command("iperf3");
    Process::start("iperf3", lab.folder(), command.args(["-s", "-p", &port.to_string()]))
}
