//! h2load: HTTP/2, several streams on several connections, a fixed number of requests.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::pki::NAME;
use crate::process::generate;

const DEADLINE: Duration = Duration::from_secs(60);

/// What h2load saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// All answered with 2xx.
    pub(crate) requests: u64,
    /// Version, cipher, key exchange, application protocol.
    pub(crate) negotiated: String,
}

pub(crate) fn run(to: SocketAddr, path: &str, shape: (u32, u32), requests: u64) -> Result<Seen> {
    let (connections, streams) = shape;
    let args = [
        format!("-c{connections}"),
        format!("-m{streams}"),
        format!("-n{requests}"),
        "--tls13-ciphers=TLS_AES_128_GCM_SHA256".to_owned(),
        "--groups=X25519".to_owned(),
        format!("--connect-to={to}"),
        format!("https://{NAME}:{}{path}", to.port()),
    ];
    parse(&generate("h2load", &[], &args, DEADLINE)?, requests)
}

fn parse(output: &str, requests: u64) -> Result<Seen> {
    let after = |key: &str| output.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let codes = after("status codes:").with_context(|| format!("h2load has no result:\n{output}"))?;
    let good: u64 = codes.split_once(" 2xx").and_then(|(count, _)| count.parse().ok()).unwrap_or(0);
    if good != requests {
        bail!("h2load: {good} of {requests} requests were answered with 2xx: {}", after("requests:").unwrap_or(codes));
    }
    let protocol = after("Application protocol:").unwrap_or("?");
    if protocol != "h2" {
        bail!("h2load: the edge speaks {protocol}, not HTTP/2");
    }
    let negotiated = format!(
        "{} {} {} {protocol}",
        after("TLS Protocol:").unwrap_or("?"),
        after("Cipher:").unwrap_or("?"),
        after("Server Temp Key:").unwrap_or("?"),
    );
    Ok(Seen { requests, negotiated })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "starting benchmark...
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2
progress: 100% done

finished in 12.96ms, 7715.46 req/s, 8.66MB/s
requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx
";

    #[test]
    fn requests_and_terms_are_read() {
        let seen = parse(OUTPUT, 100).unwrap();
        assert_eq!(seen.requests, 100);
        assert_eq!(seen.negotiated, "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519 253 bits h2");
    }

    #[test]
    fn a_request_that_was_not_answered_fails_the_round() {
        assert!(parse(OUTPUT, 101).is_err());
        assert!(parse(&OUTPUT.replace("100 2xx", "99 2xx"), 100).is_err());
        assert!(parse(&OUTPUT.replace("protocol: h2", "protocol: http/1.1"), 100).is_err());
        assert!(parse("", 100).is_err());
    }
}
