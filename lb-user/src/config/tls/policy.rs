//! `[tls_policy.NAME]`: versions, suites and groups, by name.

use super::super::problem::{Problem, Problems, nearest};
use super::super::section::{At, Section, string};
use super::words::VERSIONS;
use std::collections::BTreeMap;
use tls_worker::api::tls::{known_groups, known_suites};
use tls_worker::api::{Protocol, TlsVersion};

/// What holds where no policy is named.
const DEFAULT: &str = INTERMEDIATE;
const MODERN: &str = "modern";
const INTERMEDIATE: &str = "intermediate";
/// Mozilla's "modern" (Server Side TLS 5.7): TLS 1.3 alone.
const MODERN_SUITES: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// What Mozilla's "intermediate" (5.7) has besides, without its finite-field Diffie-Hellman.
const INTERMEDIATE_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];
/// Mozilla's curves, and the post-quantum hybrid before them.
const GROUPS: &[&str] = &["X25519MLKEM768", "x25519", "secp256r1", "secp384r1"];

/// The policies of a text, by name.
pub(in crate::config) struct Policies {
    /// None: one with errors, which are told.
    by_name: BTreeMap<String, Option<Protocol>>,
    unused: BTreeMap<String, std::ops::Range<usize>>,
}

impl Policies {
    /// The built-in ones, and those of the text.
    pub(in crate::config) fn new(sections: Vec<(At<String>, Section<'_>)>, p: &mut Problems) -> Self {
        let built_in = [(MODERN, modern()), (INTERMEDIATE, intermediate())];
        let mut policies = Policies {
            by_name: built_in.into_iter().map(|(name, protocol)| (name.to_owned(), Some(protocol))).collect(),
            unused: BTreeMap::new(),
        };
        for (name, section) in sections {
            if [MODERN, INTERMEDIATE].contains(&name.value.as_str()) {
                p.push(
                    Problem::error(name.span.clone(), format!("the policy {:?} is built in", name.value))
                        .help(format!("give it another name, and base = {:?}", name.value)),
                );
            }
            let protocol = policy(section, p);
            policies.unused.insert(name.value.clone(), name.span);
            policies.by_name.entry(name.value).or_insert(protocol);
        }
        policies
    }

    /// What holds where none is named.
    pub(super) fn default(&self) -> Protocol {
        self.by_name.get(DEFAULT).cloned().flatten().unwrap_or_else(intermediate)
    }

    /// The policy that the key `tls_policy` names; none: there is no key, or none that can be used.
    pub(super) fn named(&mut self, section: &mut Section<'_>, p: &mut Problems) -> Option<Protocol> {
        let at = section.string(p, "tls_policy")?;
        self.unused.remove(at.value);
        if let Some(protocol) = self.by_name.get(at.value) {
            return protocol.clone();
        }
        let help = match nearest(at.value, self.by_name.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!(
                "add a table [tls_policy.{}], or use one of: {}",
                at.value,
                self.by_name.keys().take(20).cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        p.push(Problem::error(at.span, format!("there is no tls_policy {:?}", at.value)).help(help));
        None
    }

    /// Tell of those that nobody used.
    pub(in crate::config) fn finish(self, p: &mut Problems) {
        if p.has_errors() {
            return;
        }
        for (name, span) in self.unused {
            p.push(
                Problem::warning(span, format!("tls_policy {name:?} is used by no service"))
                    .help("remove it, or name it in a service"),
            );
        }
    }
}

fn modern() -> Protocol {
    Protocol { min_version: TlsVersion::V13, suites: owned(MODERN_SUITES), ..intermediate() }
}

fn intermediate() -> Protocol {
    Protocol {
        min_version: TlsVersion::V12,
        max_version: TlsVersion::V13,
        suites: owned(&[MODERN_SUITES, INTERMEDIATE_SUITES].concat()),
        groups: owned(GROUPS),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn policy(mut section: Section<'_>, p: &mut Problems) -> Option<Protocol> {
    let words = [(MODERN, Some(modern())), (INTERMEDIATE, Some(intermediate())), ("custom", None)];
    let indices: Vec<(&str, usize)> = words.iter().enumerate().map(|(i, (word, _))| (*word, i)).collect();
    let base = section.choice(p, "base", &indices);
    if !section.has("base") {
        section.missing("base", "write base = \"intermediate\", \"modern\" or \"custom\"");
    }
    let base = base.and_then(|index| words.get(index)).map(|(_, protocol)| protocol.clone());
    let min_version = section.choice(p, "min_tls", &VERSIONS);
    let max_version = section.choice(p, "max_tls", &VERSIONS);
    let known: Vec<String> = known_suites();
    let suites = names(&mut section, p, "suites", &known);
    let groups = names(&mut section, p, "groups", &owned(&known_groups()));
    if let Some(None) = base {
        let lacking: Vec<_> = ["suites", "groups"].into_iter().filter(|key| !section.has(key)).collect();
        for key in lacking {
            section.missing(key, "base = \"custom\" takes nothing from elsewhere: write a list, the most wanted first");
        }
    }
    let (min_at, max_at) = (section.span_of("min_tls"), section.span_of("max_tls"));
    let (title, title_at, suites_at) = (section.title.clone(), section.span.clone(), section.span_of("suites"));
    section.finish(p);
    let base = base?.unwrap_or_default();
    let protocol = Protocol {
        min_version: min_version.unwrap_or(base.min_version),
        max_version: max_version.unwrap_or(base.max_version),
        suites: suites?.unwrap_or(base.suites),
        groups: groups?.unwrap_or(base.groups),
    };
    if protocol.min_version > protocol.max_version {
        p.push(
            Problem::error(if max_version.is_some() { max_at } else { min_at }, "no version of TLS is left")
                .help("write a `min_tls` that is not above `max_tls`"),
        );
        return None;
    }
    let lacking = versions_without_suite(&protocol);
    if lacking.is_empty() {
        return Some(protocol);
    }
    let at = if suites_at == title_at { title_at } else { suites_at };
    p.push(
        Problem::error(at, format!("{title} has no suite of TLS {}", lacking.join(" and "))).help(format!(
            "write suites of that version, or another `min_tls` or `max_tls`; known: {}",
            known.join(", ")
        )),
    );
    None
}

/// Versions within the bounds that no suite serves.
pub(super) fn versions_without_suite(protocol: &Protocol) -> Vec<&'static str> {
    let within = |version: &TlsVersion| (protocol.min_version..=protocol.max_version).contains(version);
    let served = |version: TlsVersion| protocol.suites.iter().any(|suite| is_of(suite) == version);
    let lacking = VERSIONS.iter().filter(|(_, version)| within(version) && !served(*version));
    lacking.map(|(word, _)| *word).collect()
}

/// Suites of TLS 1.3 name no key exchange (RFC 8446, B.4).
pub(super) fn is_of(suite: &str) -> TlsVersion {
    if suite.contains("_WITH_") { TlsVersion::V12 } else { TlsVersion::V13 }
}

/// A list of known names. None: it has errors; some of none: it is not there.
fn names(
    section: &mut Section<'_>,
    p: &mut Problems,
    key: &'static str,
    known: &[String],
) -> Option<Option<Vec<String>>> {
    let Some(list) = section.list(p, key) else { return (!section.has(key)).then_some(None) };
    let what = if key == "suites" { "cipher suite" } else { "group" };
    let mut found: Vec<String> = Vec::new();
    let mut good = true;
    for value in list {
        let Some(at) = string(p, value, key) else {
            good = false;
            continue;
        };
        let is = |name: &&String| name.eq_ignore_ascii_case(at.value);
        let problem = match known.iter().find(is) {
            Some(name) if found.contains(name) => {
                Problem::error(at.span, format!("{what} {:?} stands here twice", at.value)).help("name it once")
            }
            Some(name) => {
                found.push(name.clone());
                continue;
            }
            None => {
                let list = known.join(", ");
                Problem::error(at.span, format!("no {what} {:?} can be served", at.value)).help(
                    match nearest(at.value, known.iter().map(String::as_str)) {
                        Some(meant) => format!("did you mean {meant:?}? Known: {list}"),
                        None => format!("known: {list}"),
                    },
                )
            }
        };
        p.push(problem);
        good = false;
    }
    if list.is_empty() {
        p.push(
            Problem::error(section.span_of(key), format!("no {what} is left"))
                .help(format!("name at least one, or leave `{key}` out")),
        );
        return None;
    }
    good.then_some(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_policies_are_what_can_be_served_in_the_order_of_mozilla() {
        assert_eq!(intermediate().suites, known_suites());
        assert_eq!(intermediate().groups, owned(&known_groups()));
        for protocol in [modern(), intermediate()] {
            assert_eq!(versions_without_suite(&protocol), [] as [&str; 0]);
        }
        assert!(modern().suites.iter().all(|suite| is_of(suite) == TlsVersion::V13));
    }
}
