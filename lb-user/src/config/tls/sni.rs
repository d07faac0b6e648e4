//! `[[service.NAME.sni]]`: other rules for some names; and what will not work with the certificates that are there.

use super::super::problem::{Problem, Problems};
use super::super::scalar;
use super::super::section::{At, Section};
use super::super::service::Around;
use super::policy;
use super::service::{Words, not_here};
use crate::cert::KeyKind;
use std::collections::BTreeMap;
use std::ops::Range;
use tls_worker::api::{Mode, Protocol, ServerTls, SniPolicy, TlsVersion};
use toml_span::Value;

/// Most tables of a service.
const MAX_TABLES: usize = 256;

/// The policies of the tables, over the service's own. None: something could not be read, which is told.
pub(super) fn policies(
    tables: &[Value<'_>],
    own: &SniPolicy,
    mode: Option<Mode>,
    p: &mut Problems,
    around: &mut Around<'_, '_>,
) -> Option<Vec<SniPolicy>> {
    if let (true, Some(value)) = (tables.len() > MAX_TABLES, tables.first()) {
        p.push(
            Problem::error(value.span.into(), format!("{} tables of names are too many", tables.len()))
                .help(format!("a service has at most {MAX_TABLES}; a table takes many names")),
        );
        return None;
    }
    let mut places: BTreeMap<String, Range<usize>> = BTreeMap::new();
    let read = tables.iter().enumerate().map(|(place, value)| {
        let mut section = Section::of(p, format!("sni {}", place + 1), value.span.into(), value)?;
        let names = names(&mut section, p, &mut places);
        let words = Words::read(&mut section, p, around);
        if mode == Some(Mode::Tls) && section.has("hsts") {
            p.push(not_here(&section, "hsts", &[Mode::Https], Mode::Tls));
        }
        let empty = section.is_empty_list("certificates");
        if empty {
            p.push(
                Problem::error(section.span_of("certificates"), format!("{} has no certificate", section.title))
                    .help("name one, or leave `certificates` out for those of the service"),
            );
        }
        section.finish(p);
        let policy = SniPolicy {
            names: names?,
            certificates: words.certificates.clone().unwrap_or_else(|| own.certificates.clone()),
            protocol: words.protocol(&own.protocol, p),
            client_cert: words.client_cert.clone().unwrap_or_else(|| own.client_cert.clone()),
            hsts: words.hsts.clone().unwrap_or_else(|| own.hsts.clone()),
        };
        (words.whole && !empty).then_some(policy)
    });
    // All of them, for all problems at once.
    read.collect::<Vec<_>>().into_iter().collect()
}

fn names(
    section: &mut Section<'_>,
    p: &mut Problems,
    places: &mut BTreeMap<String, Range<usize>>,
) -> Option<Vec<String>> {
    let list = section.parsed_list(p, "names", scalar::host_pattern);
    if !section.has("names") || section.is_empty_list("names") {
        section.missing("names", "write names = [\"www.example.com\", \"*.example.org\"]");
    }
    let mut good = Vec::new();
    for At { value, span } in list? {
        if let Some(first) = places.get(&value) {
            p.push(
                Problem::error(span, format!("{value:?} stands in two places"))
                    .label("again")
                    .also(first.clone(), "first here")
                    .help("a name has one set of rules"),
            );
            return None;
        }
        places.insert(value.clone(), span);
        good.push(value);
    }
    Some(good)
}

/// Warn of names that no certificate is for, and of suites that no certificate can be shown with.
pub(super) fn look_at(tls: &ServerTls, section: &Section<'_>, p: &mut Problems, around: &Around<'_, '_>) {
    for policy in &tls.policies {
        let certificates = policy.certificates.iter().filter_map(|i| around.parsed.get(*i)?.as_ref());
        let certificates: Vec<_> = certificates.collect();
        let has = |name: &str| certificates.iter().any(|one| covers(&one.certificate.names, name));
        for name in policy.names.iter().filter(|name| !has(name)) {
            let span = section.span_of("sni");
            p.push(
                Problem::warning(span, format!("no certificate of {} is for {name:?}", section.title))
                    .help("clients refuse what they get: name one that is"),
            );
        }
        let kinds: Vec<&KeyKind> = certificates.iter().map(|one| &one.facts.key).collect();
        if policy.protocol.min_version > TlsVersion::V12 || some_suite(&policy.protocol, &kinds) {
            continue;
        }
        let kinds = kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("no suite of TLS 1.2 of {} can be shown with a key of {kinds}", section.title);
        let help = "suites with RSA need an RSA key, those with ECDSA another: name such a certificate or suite, or set min_tls = \"1.3\"";
        let span = section.span_of("tls_policy");
        p.push(match policy.protocol.max_version {
            TlsVersion::V12 => Problem::error(span, message).help(help),
            TlsVersion::V13 => Problem::warning(span, message).help(help),
        });
    }
}

/// Whether a suite of TLS 1.2 goes with one of the keys.
fn some_suite(protocol: &Protocol, kinds: &[&KeyKind]) -> bool {
    let suites = protocol.suites.iter().filter(|suite| policy::is_of(suite) == TlsVersion::V12);
    suites.into_iter().any(|suite| kinds.iter().any(|kind| suite.contains("_RSA_") == matches!(kind, KeyKind::Rsa(_))))
}

/// Exact, or by a wildcard for the first label (RFC 9525, 6.3).
fn covers(names: &[String], name: &str) -> bool {
    let wild = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    names.iter().any(|have| have == name || Some(have) == wild.as_ref())
}
