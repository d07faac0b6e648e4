//! HAProxy: one thread, `http-reuse always`.

use std::path::Path;

use anyhow::Result;
use lb_tests::process::Process;

use super::{Addresses, write};
use crate::lab::Lab;
use crate::process;

pub(super) fn version() -> Result<String> {
    process::version(&process::find("haproxy")?, "-v")
}

pub(super) fn start(lab: &Lab, directory: &Path, addresses: &Addresses, tickets: u64) -> Result<Process> {
    let config = directory.join("haproxy.cfg");
    write(&config, &configuration(lab, addresses))?;
    // It has no option for the number of tickets, but its OpenSSL reads it from a file.
    let openssl = directory.join("openssl.cnf");
    write(&openssl, &process::openssl_conf(&format!("NumTickets = {tickets}")))?;
    let args = [
        format!("OPENSSL_CONF={}", openssl.display()),
        process::find("haproxy")?.display().to_string(),
        "-db".to_owned(),
        "-f".to_owned(),
        config.display().to_string(),
    ];
    process::pinned("haproxy", lab.edge_cpu, directory, &process::find("env")?, args)
}

fn configuration(lab: &Lab, addresses: &Addresses) -> String {
    format!(
        "global
    nbthread 1
    maxconn 4096
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    timeout http-request 10s
    http-reuse always
frontend edge
    bind {p256} ssl crt {p256_file} alpn h2,http/1.1 backlog 4096
    bind {rsa} ssl crt {rsa_file} alpn h2,http/1.1 backlog 4096
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    default_backend origin
backend origin
    server one {origin}
",
        p256 = addresses.p256,
        p256_file = lab.pki.p256.both.display(),
        rsa = addresses.rsa,
        rsa_file = lab.pki.rsa.both.display(),
        origin = lab.origin.address,
    )
}
