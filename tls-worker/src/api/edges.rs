//! Words for the two edges of a connection: who the client is when a proxy stands in front, what backends are told of it,
//! and how much of a service one client may have.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Versions of the PROXY protocol (HAProxy's proxy-protocol.txt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// A line of text: addresses and nothing else.
    V1,
    /// Binary, with what is known of the client's TLS.
    V2,
}

/// A PROXY header, of either version, ahead of everything that a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyHeader {
    /// Who may send one.
    pub from: Vec<IpNet>,
    /// Whether every connection has one; those of others are closed at accept.
    pub required: bool,
    /// From accept to its end.
    pub timeout: Duration,
    /// Longest header of version 2, bytes.
    pub max_size: u32,
}

/// Who is taken for the client of a request, and what backends are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// Proxies that are believed what they say of their clients.
    pub trusted_proxies: Vec<IpNet>,
    /// Header that they say it in: `forwarded` (RFC 7239), or one with a list of addresses.
    pub address_header: String,
    /// Write `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`.
    pub x_forwarded: bool,
    /// Write `Forwarded`.
    pub forwarded: bool,
    /// Write `X-Real-IP`.
    pub x_real_ip: bool,
    /// Header for the client's address alone.
    pub client_ip_header: Option<String>,
    /// Header for the request's id, which trusted proxies may have given it.
    pub request_id_header: Option<String>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Forwarding {
            trusted_proxies: Vec::new(),
            address_header: "x-forwarded-for".into(),
            x_forwarded: true,
            forwarded: false,
            x_real_ip: false,
            client_ip_header: None,
            request_id_header: None,
        }
    }
}

/// A rate with room for a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// So many in a second.
    pub per_second: u32,
    /// So many at once.
    pub burst: u32,
}

/// How much of a service there is for all and for one source. What is none is not bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLimits {
    /// Connections of all threads at once.
    pub connections: Option<u32>,
    /// Requests of all clients.
    pub requests: Option<Rate>,
    /// Connections of one source at once.
    pub source_connections: Option<u32>,
    /// Requests of one source.
    pub source_requests: Option<Rate>,
    /// Bits of an IPv4 address that make a source.
    pub source_prefix_v4: u8,
    /// Bits of an IPv6 address that make a source.
    pub source_prefix_v6: u8,
    /// Sources that are remembered at once; others are not bounded one by one.
    pub max_sources: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            connections: None,
            requests: None,
            source_connections: None,
            source_requests: None,
            source_prefix_v4: 32,
            source_prefix_v6: 64,
            max_sources: 100_000,
        }
    }
}
