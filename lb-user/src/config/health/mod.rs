//! `[pool.NAME.health]`.

mod probes;
mod words;

use super::files::Files;
use super::host::Host;
use super::model::{HealthCheck, Probe};
use super::problem::{Problem, Problems};
use super::section::Section;
use super::tls::upstream::{self, Certificates};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::{ProxyVersion, UpstreamTls};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Tls,
    Http,
    Https,
    Text,
    Dns,
    Icmp,
    Ldap,
    Grpc,
    Script,
}

const KINDS: [(&str, Kind); 10] = [
    ("tcp", Kind::Tcp),
    ("tls", Kind::Tls),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("text", Kind::Text),
    ("dns", Kind::Dns),
    ("icmp", Kind::Icmp),
    ("ldap", Kind::Ldap),
    ("grpc", Kind::Grpc),
    ("script", Kind::Script),
];

const HTTP: &[Kind] = &[Kind::Http, Kind::Https];
const STREAMS: &[Kind] = &[Kind::Tls, Kind::Http, Kind::Https, Kind::Text, Kind::Ldap, Kind::Grpc];

/// Keys that not every type has.
const KEYS: [(&str, &[Kind]); 21] = [
    ("method", HTTP),
    ("path", HTTP),
    ("host", HTTP),
    ("headers", HTTP),
    ("codes", HTTP),
    ("body", HTTP),
    ("protocol", HTTP),
    ("transport", &[Kind::Text, Kind::Dns]),
    ("send", &[Kind::Text]),
    ("expect", &[Kind::Text, Kind::Dns]),
    ("query", &[Kind::Dns]),
    ("record", &[Kind::Dns]),
    ("bind_dn", &[Kind::Ldap]),
    ("password_file", &[Kind::Ldap]),
    ("service", &[Kind::Grpc]),
    ("command", &[Kind::Script]),
    ("user", &[Kind::Script]),
    ("tls", STREAMS),
    (
        "address",
        &[Kind::Tcp, Kind::Tls, Kind::Http, Kind::Https, Kind::Text, Kind::Dns, Kind::Icmp, Kind::Ldap, Kind::Grpc],
    ),
    (
        "port",
        &[Kind::Tcp, Kind::Tls, Kind::Http, Kind::Https, Kind::Text, Kind::Dns, Kind::Ldap, Kind::Grpc, Kind::Script],
    ),
    (
        "source",
        &[Kind::Tcp, Kind::Tls, Kind::Http, Kind::Https, Kind::Text, Kind::Dns, Kind::Icmp, Kind::Ldap, Kind::Grpc],
    ),
];

/// What a check takes from its pool where it says nothing itself.
pub(super) struct Of<'a> {
    pub(super) tls: Option<&'a UpstreamTls>,
    pub(super) h2c: bool,
    pub(super) proxy_version: Option<ProxyVersion>,
    pub(super) host: &'a Host,
}

pub(super) fn health(
    mut section: Section<'_>,
    pool: &Of<'_>,
    p: &mut Problems,
    files: &mut Files<'_>,
    certificates: &mut Certificates<'_>,
) -> Option<Arc<HealthCheck>> {
    let kind = section.choice(p, "type", &KINDS);
    if !section.has("type") {
        section.missing("type", "write type = \"tcp\", type = \"http\", or what else the backends speak");
    }
    let http = probes::http(&mut section, pool, p);
    let (text, dns) = probes::exchange(&mut section, kind, p);
    let ldap = probes::ldap(&mut section, p, files);
    let service = section.parsed(p, "service", words::grpc_service).map(|at| at.value).unwrap_or_default();
    let script = probes::script(&mut section, kind, pool.host, p);
    let around = (text.udp, kind);
    let tls = tls(&mut section, around, pool, p, files, certificates);
    let default = HealthCheck::new(Probe::Tcp);
    let check = HealthCheck {
        address: section.parsed(p, "address", words::address).map(|at| at.value),
        port: section.integer(p, "port", 1..=65_535).map(|port| port as u16),
        source: section.parsed(p, "source", words::address).map(|at| at.value),
        interval: section.duration(p, "interval", INTERVAL).unwrap_or(default.interval),
        down_interval: section.duration(p, "down_interval", INTERVAL),
        jitter: section.integer(p, "jitter", 0..=50).map_or(default.jitter, |percent| percent as u8),
        timeout: section.duration(p, "timeout", TIMEOUT).unwrap_or(default.timeout),
        rise: section.integer(p, "rise", 1..=100).unwrap_or(default.rise),
        fall: section.integer(p, "fall", 1..=100).unwrap_or(default.fall),
        reverse: section.boolean(p, "reverse").unwrap_or(default.reverse),
        ..default
    };
    if let Some(kind) = kind {
        tell_of_others(kind, &section, p);
    }
    if let (Some(from), Some(to)) = (check.source, check.address)
        && from.is_ipv4() != to.is_ipv4()
    {
        p.push(
            Problem::error(section.span_of("source"), format!("{from} and {to} are of two families"))
                .help("write a `source` of the family of `address`"),
        );
    }
    section.finish(p);
    let probe = match kind? {
        Kind::Tcp => Probe::Tcp,
        Kind::Tls => Probe::Tls,
        Kind::Http | Kind::Https => Probe::Http(http),
        Kind::Text => Probe::Text(text),
        Kind::Dns => Probe::Dns(dns?),
        Kind::Icmp => Probe::Icmp,
        Kind::Ldap => Probe::Ldap(ldap),
        Kind::Grpc => Probe::Grpc { service },
        Kind::Script => Probe::Script(script?),
    };
    // A connection that only opens says nothing, and what is no stream of the pool's protocol has no header ahead.
    let headed = STREAMS.contains(&kind?) && !matches!(&probe, Probe::Text(text) if text.udp);
    Some(Arc::new(HealthCheck { probe, tls, proxy_version: pool.proxy_version.filter(|_| headed), ..check }))
}

/// `tls`: true, false, or a table as the pool's.
fn tls(
    section: &mut Section<'_>,
    (udp, kind): (bool, Option<Kind>),
    pool: &Of<'_>,
    p: &mut Problems,
    files: &mut Files<'_>,
    certificates: &mut Certificates<'_>,
) -> Option<UpstreamTls> {
    let span = section.span_of("tls");
    let needs = matches!(kind, Some(Kind::Tls | Kind::Https));
    let possible = kind.is_some_and(|kind| STREAMS.contains(&kind)) && !udp;
    if section.is_table("tls") {
        let own = section.section(p, "tls").map(|section| upstream::tls(section, p, files, certificates));
        return own.filter(|_| possible);
    }
    let wanted = section.boolean(p, "tls");
    if wanted == Some(false) && needs {
        p.push(
            Problem::error(span.clone(), "without TLS this is another check")
                .help("remove `tls`, or write type = \"http\" or type = \"tcp\""),
        );
    }
    if udp && wanted == Some(true) {
        p.push(Problem::error(span.clone(), "there is no TLS over UDP").help("remove `tls` or `transport`"));
    }
    match (possible && wanted != Some(false), pool.tls) {
        (true, Some(tls)) => Some(tls.clone()),
        // As the pool's table is where nothing stands in it: verified by the system's roots.
        (true, None) if needs || wanted == Some(true) => {
            Some(upstream::tls(Section::absent("tls").at(span), p, files, certificates))
        }
        _ => None,
    }
}

fn tell_of_others(kind: Kind, section: &Section<'_>, p: &mut Problems) {
    let word = |kind: Kind| KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word);
    for (key, kinds) in KEYS.iter().filter(|(key, kinds)| !kinds.contains(&kind) && section.has(key)) {
        let whose: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", word(*kind))).collect();
        p.push(
            Problem::error(
                section.span_of(key),
                format!("`{key}` does not belong to checks of type \"{}\"", word(kind)),
            )
            .help(format!("it is for {}; remove it", whose.join(", "))),
        );
    }
}
