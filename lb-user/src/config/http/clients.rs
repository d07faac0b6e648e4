//! What a service says of its clients: PROXY headers, proxies that are trusted, what backends are told, and limits.

use super::super::net;
use super::super::problem::{Problem, Problems};
use super::super::scalar::{Wrong, header_name};
use super::super::section::Section;
use super::super::tls::service::not_here;
use ipnet::IpNet;
use std::ops::RangeInclusive;
use std::time::Duration;
use tls_worker::api::tls::client_cert_header;
use tls_worker::api::{ClientCertField, ClientCertHeader, ClientLimits, Forwarding, Mode, ProxyHeader, Rate};

const HTTP: &[Mode] = &[Mode::Http, Mode::Https];
/// Keys that not every mode has.
const KEYS: [&str; 5] =
    ["trusted_proxies", "client_address_from", "forwarded_headers", "client_ip_header", "request_id_header"];
/// Keys of `limits` that count requests.
const REQUESTS: [&str; 4] = ["requests_per_second", "burst", "per_source_requests_per_second", "per_source_burst"];
/// More networks than anybody's proxies have.
const MAX_NETWORKS: usize = 4096;
const HEADER_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const RATE: RangeInclusive<u32> = 1..=10_000_000;
const CONNECTIONS: RangeInclusive<u32> = 1..=10_000_000;

/// What was read.
#[derive(Default)]
pub(in crate::config) struct Clients {
    pub(in crate::config) proxy_header: Option<ProxyHeader>,
    pub(in crate::config) forwarding: Forwarding,
    pub(in crate::config) limits: ClientLimits,
}

/// Read it. Without a mode every key is right.
pub(in crate::config) fn clients(section: &mut Section<'_>, p: &mut Problems, mode: Option<Mode>) -> Clients {
    let clients = Clients {
        proxy_header: section.section(p, "proxy_protocol").map(|inner| proxy_header(inner, p, mode)),
        forwarding: forwarding(section, p),
        limits: section.section(p, "limits").map(|inner| limits(inner, p, mode)).unwrap_or_default(),
    };
    if let Some(mode) = mode.filter(|mode| !HTTP.contains(mode)) {
        for key in KEYS.into_iter().filter(|key| section.has(key)) {
            p.push(not_here(section, key, HTTP, mode));
        }
    }
    clients
}

fn proxy_header(mut section: Section<'_>, p: &mut Problems, mode: Option<Mode>) -> ProxyHeader {
    let from = networks(&mut section, p, "from");
    if !section.has("from") {
        section.missing("from", "name the proxies in front: from = [\"10.0.0.0/8\"]");
    } else if section.is_empty_list("from") {
        p.push(
            Problem::error(section.span_of("from"), "nobody may send a PROXY header")
                .help("name the proxies in front, or remove `proxy_protocol`"),
        );
    }
    let required = section.boolean(p, "required").unwrap_or(true);
    if !required && mode == Some(Mode::Tcp) {
        p.push(
            Problem::error(section.span_of("required"), "an optional PROXY header does not go with mode \"tcp\"")
                .help("a client may wait for the server's first word, and would be waited for: remove `required`"),
        );
    }
    let timeout = section.duration(p, "timeout", HEADER_TIMEOUT).unwrap_or(Duration::from_secs(3));
    let max_size = section.size(p, "max_size", 256..=16_384).unwrap_or(4096);
    section.finish(p);
    ProxyHeader { from, required, timeout, max_size }
}

fn forwarding(section: &mut Section<'_>, p: &mut Problems) -> Forwarding {
    let default = Forwarding::default();
    let trusted_proxies = networks(section, p, "trusted_proxies");
    let address_header = section.parsed(p, "client_address_from", header_name).map(|at| at.value);
    if section.has("client_address_from") && trusted_proxies.is_empty() && !section.has("trusted_proxies") {
        p.push(
            Problem::error(section.span_of("client_address_from"), "no proxy is trusted to tell an address")
                .help("add trusted_proxies = [\"10.0.0.0/8\"], or remove `client_address_from`"),
        );
    }
    let client_ip_header = section.parsed(p, "client_ip_header", own_name).map(|at| at.value);
    let request_id_header = section.parsed(p, "request_id_header", own_name).map(|at| at.value);
    if client_ip_header.is_some() && client_ip_header == request_id_header {
        p.push(
            Problem::error(section.span_of("request_id_header"), "`client_ip_header` has this name already")
                .help("give one of them another name"),
        );
    }
    let inner = section.section(p, "forwarded_headers");
    let mut inner = inner.unwrap_or_else(|| Section::absent("forwarded_headers"));
    let forwarding = Forwarding {
        trusted_proxies,
        address_header: address_header.unwrap_or(default.address_header),
        x_forwarded: inner.boolean(p, "x_forwarded").unwrap_or(default.x_forwarded),
        forwarded: inner.boolean(p, "forwarded").unwrap_or(default.forwarded),
        x_real_ip: inner.boolean(p, "x_real_ip").unwrap_or(default.x_real_ip),
        client_ip_header,
        request_id_header,
    };
    inner.finish(p);
    forwarding
}

/// A header that the edge may write beside those that it writes anyway.
fn own_name(text: &str) -> Result<String, Wrong> {
    let name = header_name(text)?;
    // What the field is does not matter to what the worker says of the name.
    let asked = ClientCertHeader { name: name.clone(), value: ClientCertField::Verify };
    match client_cert_header(&asked) {
        Ok(_) => Ok(name),
        Err(error) => Err(Wrong::new(error.to_string(), "write a name of your own, such as \"client-ip\"")),
    }
}

fn limits(mut section: Section<'_>, p: &mut Problems, mode: Option<Mode>) -> ClientLimits {
    let default = ClientLimits::default();
    let limits = ClientLimits {
        connections: section.integer(p, "connections", CONNECTIONS),
        requests: rate(&mut section, p, "requests_per_second", "burst"),
        source_connections: section.integer(p, "per_source_connections", CONNECTIONS),
        source_requests: rate(&mut section, p, "per_source_requests_per_second", "per_source_burst"),
        source_prefix_v4: section.integer(p, "source_prefix_v4", 8..=32).unwrap_or(32) as u8,
        source_prefix_v6: section.integer(p, "source_prefix_v6", 16..=128).unwrap_or(64) as u8,
        max_sources: section.integer(p, "max_sources", 1..=10_000_000).unwrap_or(default.max_sources),
    };
    if let Some(mode) = mode.filter(|mode| !HTTP.contains(mode)) {
        for key in REQUESTS.into_iter().filter(|key| section.has(key)) {
            p.push(not_here(&section, key, HTTP, mode));
        }
    }
    section.finish(p);
    limits
}

fn rate(section: &mut Section<'_>, p: &mut Problems, key: &'static str, burst: &'static str) -> Option<Rate> {
    let per_second = section.integer(p, key, RATE);
    let at_once = section.integer(p, burst, RATE);
    if at_once.is_some() && !section.has(key) {
        p.push(
            Problem::error(section.span_of(burst), format!("`{burst}` is the burst of no rate"))
                .help(format!("add `{key}`, or remove `{burst}`")),
        );
    }
    per_second.map(|per_second| Rate { per_second, burst: at_once.unwrap_or(per_second) })
}

fn networks(section: &mut Section<'_>, p: &mut Problems, key: &'static str) -> Vec<IpNet> {
    let list = section.parsed_list(p, key, net::network).unwrap_or_default();
    if list.len() > MAX_NETWORKS {
        p.push(
            Problem::error(section.span_of(key), format!("{} networks are too many", list.len()))
                .help(format!("write at most {MAX_NETWORKS}; larger networks may take several together")),
        );
    }
    list.into_iter().map(|at| at.value).collect()
}
