//! nginx: one worker, kept-alive upstream connections, buffers as large as its TLS records so that 1 MiB needs few turns.

use std::path::Path;

use anyhow::Result;
use lb_tests::process::Process;

use super::{Addresses, write};
use crate::lab::Lab;
use crate::origin::user_line;
use crate::pki::Leaf;
use crate::process;

pub(super) fn version() -> Result<String> {
    process::version(&process::find("nginx")?, "-v")
}

pub(super) fn start(lab: &Lab, directory: &Path, addresses: &Addresses, tickets: u64) -> Result<Process> {
    let config = directory.join("nginx.conf");
    write(&config, &configuration(lab, directory, addresses, tickets))?;
    let args = ["-c".as_ref(), config.as_os_str(), "-e".as_ref(), "stderr".as_ref()];
    process::pinned("nginx", lab.edge_cpu, directory, &process::find("nginx")?, args)
}

fn configuration(lab: &Lab, directory: &Path, addresses: &Addresses, tickets: u64) -> String {
    let server = |address, leaf: &Leaf| {
        format!(
            "
    server {{
        listen {address} ssl http2 backlog=4096;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{ proxy_pass http://origin; }}
    }}",
            chain = leaf.chain.display(),
            key = leaf.key.display(),
        )
    };
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
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_conf_command NumTickets {tickets};
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_buffer_size 16k;
    proxy_buffers 16 16k;
    proxy_busy_buffers_size 64k;
    proxy_max_temp_file_size 0;
    client_body_temp_path {temp}; proxy_temp_path {temp}; fastcgi_temp_path {temp};
    uwsgi_temp_path {temp}; scgi_temp_path {temp};
    upstream origin {{
        server {origin};
        keepalive 128;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}{p256}{rsa}
}}
",
        user = user_line(),
        pid = directory.join("nginx.pid").display(),
        temp = directory.join("temp").display(),
        origin = lab.origin.address,
        p256 = server(addresses.p256, &lab.pki.p256),
        rsa = server(addresses.rsa, &lab.pki.rsa),
    )
}
