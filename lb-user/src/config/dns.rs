//! `[dns]`: how names of backends are looked up.

use super::problem::{Problem, Problems};
use super::scalar::{self, Wrong};
use super::section::Section;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Most servers.
const MAX_SERVERS: usize = 8;
const PORT: u16 = 53;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(30);
const TTL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
const HOLD: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked; empty: whom the host asks.
    pub servers: Vec<SocketAddr>,
    /// Which addresses are wanted.
    pub families: Families,
    /// An answer holds no shorter than this,
    pub min_ttl: Duration,
    /// and no longer than that, whatever it says.
    pub max_ttl: Duration,
    /// After a failure it is tried again so soon.
    pub retry: Duration,
    /// For so long the addresses of a name are kept that, as DNS says, has none any more.
    pub hold: Duration,
    /// Deadline of one question.
    pub timeout: Duration,
    /// How often it is put.
    pub tries: u32,
}

/// Which addresses of a name are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Default for Dns {
    fn default() -> Self {
        Dns {
            servers: Vec::new(),
            families: Families::Both,
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            retry: Duration::from_secs(5),
            hold: Duration::from_secs(30),
            timeout: Duration::from_secs(2),
            tries: 2,
        }
    }
}

impl Dns {
    /// A lookup takes no longer.
    pub fn deadline(&self) -> Duration {
        self.timeout.saturating_mul(self.tries)
    }
}

pub(super) fn dns(mut section: Section<'_>, p: &mut Problems) -> Dns {
    let default = Dns::default();
    let servers = section.parsed_list(p, "servers", server).unwrap_or_default();
    if section.is_empty_list("servers") || servers.len() > MAX_SERVERS {
        p.push(Problem::error(section.span_of("servers"), format!("{} servers cannot be asked", servers.len())).help(
            format!("name 1 to {MAX_SERVERS}, or leave `servers` out: those of /etc/resolv.conf are asked then"),
        ));
    }
    let words = [("both", Families::Both), ("ipv4", Families::V4), ("ipv6", Families::V6)];
    let families = section.choice(p, "families", &words).unwrap_or(default.families);
    let min_ttl = section.duration(p, "min_ttl", TTL).unwrap_or(default.min_ttl);
    let max_ttl = section.duration(p, "max_ttl", TTL).unwrap_or(default.max_ttl.max(min_ttl));
    if min_ttl > max_ttl {
        p.push(
            Problem::error(section.span_of("min_ttl"), "`min_ttl` is above `max_ttl`")
                .help("write a `min_ttl` that is not above `max_ttl`"),
        );
    }
    let retry = section.duration(p, "retry", TTL).unwrap_or(default.retry);
    let hold = section.duration(p, "hold", HOLD).unwrap_or(default.hold);
    let timeout = section.duration(p, "timeout", TIMEOUT).unwrap_or(default.timeout);
    let tries = section.integer(p, "tries", 1..=10).unwrap_or(default.tries);
    section.finish(p);
    let servers = servers.into_iter().map(|at| at.value).collect();
    Dns { servers, families, min_ttl, max_ttl, retry, hold, timeout, tries }
}

/// `192.0.2.53`, or with a port.
fn server(text: &str) -> Result<SocketAddr, Wrong> {
    match text.parse::<IpAddr>() {
        Ok(ip) => scalar::backend(&SocketAddr::new(ip, PORT).to_string()),
        Err(_) => scalar::backend(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_perhaps_with_a_port() {
        for (text, expected) in
            [("192.0.2.53", "192.0.2.53:53"), ("2001:db8::1", "[2001:db8::1]:53"), ("[::1]:5353", "[::1]:5353")]
        {
            assert_eq!(server(text).unwrap().to_string(), expected);
        }
        for bad in ["", "dns.example", "0.0.0.0", "192.0.2.1:0", "224.0.0.1"] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }
}
