//! HAProxy: one thread, `http-reuse always`.

use std::path::Path;

use anyhow::Result;

use super::{Addresses, Tickets, write};
use crate::lab::Lab;
use crate::process::{self, Process};

pub(super) fn version() -> Result<String> {
    process::version(&process::find("haproxy")?, "-v")
}

pub(super) fn start(lab: &Lab, directory: &Path, addresses: &Addresses, tickets: Tickets) -> Result<Process> {
    let config = directory.join("haproxy.cfg");
    write(&config, &configuration(lab, addresses, tickets))?;
    let args = ["-db".as_ref(), "-f".as_ref(), config.as_os_str()];
    Process::spawn("haproxy", lab.edge_cpu, directory, &process::find("haproxy")?, args)
}

fn configuration(lab: &Lab, addresses: &Addresses, tickets: Tickets) -> String {
    let (cache, options) = match tickets {
        Tickets::On => ("", ""),
        Tickets::Off => ("    tune.ssl.cachesize 0\n", "no-tls-tickets"),
    };
    format!(
        "global
    nbthread 1
    maxconn 4096
{cache}    ssl-default-bind-options ssl-min-ver TLSv1.2 {options}
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
