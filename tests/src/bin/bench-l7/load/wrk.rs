//! wrk: HTTP/1.1 over kept-alive connections, as fast as the edge answers, for some seconds.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::pki::NAME;
use crate::process::{generate, openssl_conf};

/// Requests that were answered with 2xx or 3xx. An error when one was not.
pub(crate) fn run(lab: &Lab, to: SocketAddr, path: &str, connections: u32, seconds: u32) -> Result<u64> {
    let config = lab.directory.path().join("openssl.cnf");
    // wrk has no option for them, but its OpenSSL reads them from a file: the same offer as the other clients make.
    fs::write(&config, openssl_conf("Ciphersuites = TLS_AES_128_GCM_SHA256\nGroups = X25519"))?;
    let args = [
        "-t1".to_owned(),
        format!("-c{connections}"),
        format!("-d{seconds}s"),
        format!("https://{NAME}:{}{path}", to.port()),
    ];
    let deadline = Duration::from_secs(u64::from(seconds) + 20);
    parse(&generate("wrk", &[("OPENSSL_CONF", &config)], &args, deadline)?)
}

fn parse(output: &str) -> Result<u64> {
    for bad in ["Socket errors:", "Non-2xx or 3xx responses:", "unable to connect"] {
        if let Some(line) = output.lines().find(|line| line.contains(bad)) {
            bail!("wrk: {}", line.trim());
        }
    }
    output
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
        .filter(|requests| *requests > 0)
        .with_context(|| format!("wrk counted no requests:\n{output}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted() {
        assert_eq!(parse("  2 threads\n  73234 requests in 2.00s, 90.1MB read\nRequests/sec: 3\n").unwrap(), 73234);
    }

    #[test]
    fn an_error_of_the_edge_fails_the_round() {
        let bad = "  10 requests in 2.00s, 1MB read\n  Non-2xx or 3xx responses: 3\n";
        assert_eq!(parse(bad).unwrap_err().to_string(), "wrk: Non-2xx or 3xx responses: 3");
        let cut = "  10 requests in 2.00s, 1MB read\n  Socket errors: connect 0, read 7, write 0, timeout 0\n";
        assert!(parse(cut).is_err());
        assert!(parse("  0 requests in 2.00s, 0B read\n").is_err());
        assert!(parse("").is_err());
    }
}
