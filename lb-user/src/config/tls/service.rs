//! The TLS of `[service.NAME]`: what is offered to whom, by the name that clients ask for.

use super::super::problem::{Problem, Problems};
use super::super::section::{Section, string};
use super::super::service::Around;
use super::{client_cert, hsts, policy, sni, words};
use std::ops::Range;
use tls_worker::api::tls::server_tls;
use tls_worker::api::{Certificate, ClientCertRules, Mode, Protocol, ServerTls, SniPolicy, TlsVersion};

/// Most protocols that ALPN offers.
const MAX_ALPN: usize = 16;
const ENDS_TLS: &[Mode] = &[Mode::Https, Mode::Tls];
/// Keys that not every mode has.
const KEYS: [(&str, &[Mode]); 13] = [
    ("certificates", ENDS_TLS),
    ("tls_policy", ENDS_TLS),
    ("min_tls", ENDS_TLS),
    ("unknown_sni", ENDS_TLS),
    ("client_cert", ENDS_TLS),
    ("sni", ENDS_TLS),
    ("hsts", &[Mode::Https]),
    ("http2", &[Mode::Https]),
    ("client_cert_headers", &[Mode::Https]),
    ("alpn", &[Mode::Tls]),
    ("redirect_https", &[Mode::Http]),
    ("served_by_header", &[Mode::Http, Mode::Https]),
    ("routes", &[Mode::Http, Mode::Https, Mode::Tls, Mode::Passthrough]),
];

/// What a service says for all its names, and what it may say again for some.
pub(super) struct Words {
    pub(super) certificates: Option<Vec<usize>>,
    pub(super) policy: Option<Protocol>,
    pub(super) min: Option<TlsVersion>,
    pub(super) hsts: Option<Option<String>>,
    pub(super) client_cert: Option<Option<ClientCertRules>>,
    /// Whether everything could be read.
    pub(super) whole: bool,
    /// Where `min_tls` stands, else the table.
    min_at: Range<usize>,
}

impl Words {
    pub(super) fn read(section: &mut Section<'_>, p: &mut Problems, around: &mut Around<'_, '_>) -> Self {
        let certificates = section.list(p, "certificates").map(|list| {
            let names = list.iter().filter_map(|value| string(p, value, "certificates")).collect::<Vec<_>>();
            let mut found: Vec<usize> = Vec::new();
            for at in names {
                match around.certificates.resolve(&at, p) {
                    Some(index) if found.contains(&index) => p.push(
                        Problem::error(at.span, format!("certificate {:?} stands here twice", at.value))
                            .help("name it once"),
                    ),
                    index => found.extend(index),
                }
            }
            found
        });
        let policy = around.policies.named(section, p);
        let min = section.choice(p, "min_tls", &words::VERSIONS);
        let hsts = hsts::hsts(section, p);
        let rules = section.section(p, "client_cert");
        let asked = rules.is_some();
        let client_cert = rules.and_then(|rules| client_cert::rules(rules, p, around.files, around.host));
        let whole = (policy.is_some() || !section.has("tls_policy")) && (client_cert.is_some() || !asked);
        Words { certificates, policy, min, hsts, client_cert, whole, min_at: section.span_of("min_tls") }
    }

    /// Versions, suites and groups, over those that hold without a word.
    pub(super) fn protocol(&self, base: &Protocol, p: &mut Problems) -> Protocol {
        let policy = self.policy.as_ref().unwrap_or(base);
        let protocol = Protocol { min_version: self.min.unwrap_or(policy.min_version), ..policy.clone() };
        let above = protocol.min_version > protocol.max_version;
        let lacking = policy::versions_without_suite(&protocol);
        if above || (self.min.is_some() && !lacking.is_empty()) {
            let message = match above {
                true => "`min_tls` is above what the policy allows".into(),
                false => format!("the policy has no suite of TLS {}", lacking.join(" and ")),
            };
            p.push(
                Problem::error(self.min_at.clone(), message).help("leave `min_tls` out, or name another `tls_policy`"),
            );
        }
        protocol
    }
}

/// The TLS of a service; none: its mode ends none, or it cannot be used.
pub(in crate::config) fn tls(
    section: &mut Section<'_>,
    p: &mut Problems,
    mode: Option<Mode>,
    name: &str,
    around: &mut Around<'_, '_>,
) -> Option<ServerTls> {
    let words = Words::read(section, p, around);
    let strict_sni = section.choice(p, "unknown_sni", &[("default", false), ("refuse", true)]).unwrap_or(false);
    let http2 = section.boolean(p, "http2").unwrap_or(true);
    let alpn = alpn(section, p);
    let tables = section.list(p, "sni").unwrap_or_default();
    let own = SniPolicy {
        names: Vec::new(),
        certificates: words.certificates.clone().unwrap_or_default(),
        protocol: words.protocol(&around.policies.default(), p),
        client_cert: words.client_cert.clone().flatten(),
        hsts: words.hsts.clone().flatten(),
    };
    let others = sni::policies(tables, &own, mode, p, around);
    // Without a mode every key is right.
    let mode = mode?;
    for (key, modes) in KEYS.iter().filter(|(key, modes)| !modes.contains(&mode) && section.has(key)) {
        p.push(not_here(section, key, modes, mode));
    }
    if !ENDS_TLS.contains(&mode) {
        return None;
    }
    if !section.has("certificates") || section.is_empty_list("certificates") {
        p.push(Problem::error(section.span_of("certificates"), format!("{} has no certificate", section.title)).help(
            "modes \"https\" and \"tls\" need one: write certificates = [\"NAME\"] and a table [certificate.NAME]",
        ));
    }
    let whole = words.whole && others.is_some();
    let policies: Vec<SniPolicy> = [own].into_iter().chain(others.unwrap_or_default()).collect();
    let alpn = match mode {
        Mode::Tls => alpn,
        _ if http2 => vec!["h2".into(), "http/1.1".into()],
        _ => vec!["http/1.1".into()],
    };
    let tls = ServerTls { policies, strict_sni, alpn };
    if whole {
        can_be_served(name, &tls, section, p, around);
    }
    Some(tls)
}

/// That a key is not one of this mode.
pub(in crate::config) fn not_here(section: &Section<'_>, key: &str, modes: &[Mode], mode: Mode) -> Problem {
    let words: Vec<String> = modes.iter().map(|mode| format!("\"{}\"", word(*mode))).collect();
    let plural = if words.len() > 1 { "modes" } else { "mode" };
    let belongs = format!("`{key}` belongs to {plural} {}", words.join(" and "));
    let why = match mode {
        Mode::Passthrough => "the backend ends the clients' TLS, the edge sees none of it: ",
        Mode::Tls => "what is inside the TLS is bytes here, not HTTP: ",
        Mode::Tcp => "bytes are not looked at here: ",
        _ => "",
    };
    let set = words.first().map_or(String::new(), |word| format!("set mode = {word}, or "));
    Problem::error(section.span_of(key), belongs).help(format!("{why}{set}remove `{key}`"))
}

/// Word of a mode.
pub(in crate::config) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Http => "http",
        Mode::Https => "https",
        Mode::Tls => "tls",
        Mode::Passthrough => "passthrough",
        Mode::Tcp => "tcp",
    }
}

fn alpn(section: &mut Section<'_>, p: &mut Problems) -> Vec<String> {
    let list = section.parsed_list(p, "alpn", words::alpn).unwrap_or_default();
    let mut found: Vec<String> = Vec::new();
    for at in list {
        if found.contains(&at.value) {
            p.push(Problem::error(at.span, format!("{:?} stands here twice", at.value)).help("name it once"));
        } else {
            found.push(at.value);
        }
    }
    if found.len() > MAX_ALPN {
        p.push(
            Problem::error(section.span_of("alpn"), format!("{} protocols are too many", found.len()))
                .help(format!("name at most {MAX_ALPN}")),
        );
    }
    found
}

/// Ask the code that serves, with the certificates of this service alone, and look for what will not work.
fn can_be_served(name: &str, tls: &ServerTls, section: &Section<'_>, p: &mut Problems, around: &Around<'_, '_>) {
    let mut own: Vec<usize> = tls.policies.iter().flat_map(|policy| policy.certificates.iter().copied()).collect();
    own.sort_unstable();
    own.dedup();
    let find = |index: &usize| around.parsed.get(*index).and_then(Option::as_ref);
    // One that could not be read is told already.
    let Some(found) = own.iter().map(find).collect::<Option<Vec<_>>>() else { return };
    if tls.policies.iter().any(|policy| policy.certificates.is_empty()) {
        return;
    }
    let certificates: Vec<Certificate> = found.iter().map(|one| one.certificate.clone()).collect();
    let mut placed = tls.clone();
    for index in placed.policies.iter_mut().flat_map(|policy| &mut policy.certificates) {
        *index = own.binary_search(index).unwrap_or_default();
    }
    if let Err(error) = server_tls(name, &placed, &certificates) {
        p.push(
            Problem::error(section.span.clone(), format!("the TLS of {} cannot be served: {error}", section.title))
                .help("look at its `certificates`, `tls_policy` and `sni`"),
        );
        return;
    }
    sni::look_at(tls, section, p, around);
}
