//! Who the client of a request is, where proxies stand in front of the edge, and what backends are told of it:
//! `X-Forwarded-*`, `Forwarded` (RFC 7239), an address in a header of its own, the request's id.
//!
//! Of what trusted proxies say, what they vouch for is believed and passed on: the addresses from the last that none of
//! them is, to the nearest. What stands before it anybody may have written.

use super::exchange::Exchange;
use super::normalise::host_of;
use crate::api;
use crate::networks::Networks;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Longest id of a request that is taken from a proxy, bytes.
const MAX_ID: usize = 128;
/// Addresses that a chain of proxies may have; those farther away are not looked at.
const MAX_HOPS: usize = 32;

/// What a service says of it, ready.
#[derive(Debug)]
pub(crate) struct Forwarding {
    trusted: Networks,
    address_header: HeaderName,
    x_forwarded: bool,
    forwarded: bool,
    x_real_ip: bool,
    pub(crate) client_ip_header: Option<HeaderName>,
    request_id_header: Option<HeaderName>,
}

impl Forwarding {
    pub(crate) fn new(from: &api::Forwarding) -> Result<Self, String> {
        let name = |text: &String| HeaderName::try_from(text).map_err(|_| format!("{text:?} is no header name"));
        Ok(Forwarding {
            trusted: Networks::new(&from.trusted_proxies),
            address_header: name(&from.address_header)?,
            x_forwarded: from.x_forwarded,
            forwarded: from.forwarded,
            x_real_ip: from.x_real_ip,
            client_ip_header: from.client_ip_header.as_ref().map(name).transpose()?,
            request_id_header: from.request_id_header.as_ref().map(name).transpose()?,
        })
    }
}

/// What a trusted proxy said of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The client, and the proxies behind it, without the peer. Empty: the peer is the client.
    chain: Vec<IpAddr>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
    pub(super) id: Option<HeaderValue>,
}

impl Told {
    /// The client.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.chain.first().copied()
    }
}

/// Hear what a proxy says. None: the peer is not one that is trusted.
pub(super) fn hear(rules: &Forwarding, peer: IpAddr, headers: &HeaderMap) -> Option<Box<Told>> {
    if rules.trusted.is_empty() || !rules.trusted.contains(peer) {
        return None;
    }
    let mut hops = Vec::new();
    for field in headers.get_all(&rules.address_header) {
        hops.extend(self::hops(rules.address_header == header::FORWARDED, field.as_bytes()));
    }
    let mut chain = Vec::new();
    for hop in hops.into_iter().rev().take(MAX_HOPS) {
        // Who wrote this is trusted; whom it says is not known: the one who wrote it is the last that is.
        let Some(address) = hop else { break };
        chain.push(address);
        if !rules.trusted.contains(address) {
            break;
        }
    }
    chain.reverse();
    let only = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let proto = only(&X_FORWARDED_PROTO).filter(|value| matches!(value.as_bytes(), b"http" | b"https"));
    let port = only(&X_FORWARDED_PORT).filter(|value| value.to_str().is_ok_and(|text| text.parse::<u16>().is_ok()));
    let host = only(&X_FORWARDED_HOST).filter(|value| host_of(value).is_ok());
    let id = rules.request_id_header.as_ref().and_then(only);
    let id = id.filter(|id| (1..=MAX_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    Some(Box::new(Told { chain, proto: proto.cloned(), host: host.cloned(), port: port.cloned(), id: id.cloned() }))
}

/// The addresses that a field tells, the nearest last. None: an element that tells none.
pub fn hops(forwarded: bool, field: &[u8]) -> Vec<Option<IpAddr>> {
    let there = |element: &&[u8]| !element.is_empty();
    let plain = field.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(there);
    match forwarded {
        false => plain.map(node).collect(),
        true if is_open(field) => plain.map(for_of).collect(),
        true => split(field, b',').map(<[u8]>::trim_ascii).filter(there).map(for_of).collect(),
    }
}

/// Whether a quote is never closed: a client that began it would have it go over what proxies added.
fn is_open(field: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    field.iter().for_each(|byte| _ = quotes.within(*byte));
    quotes.quoted
}

/// The address of an element of `Forwarded` (RFC 7239, 4).
fn for_of(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in split(element, b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        if pair[..at].eq_ignore_ascii_case(b"for") && found.replace(&pair[at + 1..]).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix(b"\"") {
        // No address has a character that is escaped.
        Some(quoted) => node(quoted.strip_suffix(b"\"")?),
        None => node(value),
    }
}

/// An address, perhaps with a port, IPv6 perhaps in brackets.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(with_port).or_else(bare)?;
    Some(address.to_canonical())
}

/// Parts between separators that stand outside of quotes.
fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quotes = Quotes::default();
    bytes.split(move |byte| !quotes.within(*byte) && *byte == separator)
}

/// Where in quoted strings (RFC 9110, 5.6.4) a reader is.
#[derive(Default)]
struct Quotes {
    quoted: bool,
    escaped: bool,
}

impl Quotes {
    /// Whether this byte belongs to a quoted string, its quotes included.
    fn within(&mut self, byte: u8) -> bool {
        let before = self.quoted;
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.quoted,
            b'"' => self.quoted = !self.quoted,
            _ => {}
        }
        before || self.quoted
    }
}

/// Tell the backend. What clients wrote under these names is gone from `headers` by now.
pub(super) fn tell(exchange: &Exchange, rules: &Forwarding, headers: &mut HeaderMap) {
    let (client, told) = (&exchange.client, exchange.told.as_deref());
    let proto = told.and_then(|told| told.proto.as_ref()).unwrap_or(&client.proto);
    let host = told.and_then(|told| told.host.as_ref()).unwrap_or(&exchange.authority);
    let chain = told.map_or(&[][..], |told| &told.chain);
    let peer = client.peer_address.ip();
    if rules.x_forwarded {
        let port = told.and_then(|told| told.port.clone());
        headers.insert(X_FORWARDED_FOR, list(chain, peer).unwrap_or_else(|| client.address.clone()));
        headers.insert(X_FORWARDED_PROTO, proto.clone());
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(X_FORWARDED_PORT, port.unwrap_or_else(|| client.local_address.port().into()));
    }
    if rules.forwarded
        && let Some(value) = forwarded(chain, peer, host, proto)
    {
        headers.insert(header::FORWARDED, value);
    }
    let alone = rules.client_ip_header.iter().cloned().chain(rules.x_real_ip.then_some(X_REAL_IP));
    for name in alone {
        let address = chain.first().and_then(|first| HeaderValue::try_from(first.to_string()).ok());
        headers.insert(name, address.unwrap_or_else(|| client.address.clone()));
    }
    if let Some(name) = &rules.request_id_header
        && let Ok(id) = HeaderValue::from_bytes(exchange.id())
    {
        headers.insert(name, id);
    }
}

/// A chain as `X-Forwarded-For` has it; none: the peer alone.
fn list(chain: &[IpAddr], peer: IpAddr) -> Option<HeaderValue> {
    let mut text = String::new();
    for address in chain {
        // Writing to a string does not fail.
        let _ = write!(text, "{address}, ");
    }
    let _ = write!(text, "{peer}");
    (!chain.is_empty()).then(|| HeaderValue::try_from(text).ok()).flatten()
}

/// A chain as `Forwarded` has it: what the client asked for stands with the client.
fn forwarded(chain: &[IpAddr], peer: IpAddr, host: &HeaderValue, proto: &HeaderValue) -> Option<HeaderValue> {
    let node = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let mut all = chain.iter().chain([&peer]);
    let mut text = format!("for={};host=\"{}\";proto={}", node(all.next()?), host.to_str().ok()?, proto.to_str().ok()?);
    for address in all {
        let _ = write!(text, ", for={}", node(address));
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
