//! Certificates and TLS as tables for people. Pure.

use super::say::Tone;
use super::table::{ago, section, table, toned};
use crate::admin::api::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Names of a list that a table has room for.
const NAMES: usize = 3;
/// Days left of a certificate that somebody should renew.
const SOON: i64 = 14;

pub(super) fn certificates(rows: &[CertificateRow]) -> String {
    let cells = rows.iter().map(|row| {
        let tone = match row.days_left {
            _ if row.stale => Tone::Bad,
            left if left < 0 => Tone::Bad,
            0..SOON => Tone::Warning,
            _ => Tone::Plain,
        };
        let cells = vec![
            row.name.clone(),
            some(&row.names),
            row.issuer.clone(),
            row.key.clone(),
            days(row.days_left) + if row.stale { ", STALE" } else { "" },
            some(&row.used_by),
            staple(&row.staple),
        ];
        (tone, cells)
    });
    toned(&["CERTIFICATE", "NAMES", "ISSUER", "KEY", "DAYS LEFT", "USED BY", "STAPLE"], cells)
}

pub(super) fn certificate(view: &CertificateView) -> String {
    let row = &view.row;
    let mut out = format!("certificate {} ({})\n", row.name, row.key);
    let list = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    for (word, value) in [
        ("names", list(&row.names)),
        ("subject", view.subject.clone()),
        ("issuer", row.issuer.clone()),
        ("serial", view.serial.clone()),
        ("valid", format!("{} to {}, {} days left", view.not_before, view.not_after, days(row.days_left))),
        ("signed by", view.signature.clone()),
        ("SHA-256", view.fingerprint.clone()),
        ("sent", format!("{} in the chain", view.chain)),
        ("used by", list(&row.used_by)),
        ("files", list(&view.files)),
        ("responder", view.responder.clone().unwrap_or_else(|| "none".into())),
        ("staple", staple(&row.staple)),
    ] {
        let _ = writeln!(out, "  {word:<10} {value}");
    }
    if view.must_staple {
        let _ = writeln!(out, "  it asks clients to insist on a staple");
    }
    if let Some(problem) = &view.problem {
        let _ = writeln!(out, "  STALE: what its files held before serves on\n{problem}");
    }
    out
}

pub(super) fn reloaded(view: &CertificatesReloaded) -> String {
    let mut out: String = view.warnings.iter().map(|warning| format!("{warning}\n")).collect();
    for stale in &view.stale {
        let _ =
            writeln!(out, "{} {}: not taken, what it held before serves on\n{}", stale.kind, stale.name, stale.problem);
    }
    for changed in &view.changed {
        let _ = writeln!(out, "{changed}: changed");
    }
    if view.changed.is_empty() {
        let _ = writeln!(out, "nothing changed");
    }
    let _ = writeln!(out, "generation {}", view.generation);
    out
}

/// What TLS of a service is by rule, and what came of it.
pub(super) fn service(view: &ServiceView) -> String {
    let mut out = String::new();
    if view.policies.is_empty() {
        return out;
    }
    let alpn = if view.alpn.is_empty() { "none".into() } else { view.alpn.join(", ") };
    let strict = if view.strict_sni { "refused" } else { "given the default" };
    let _ = writeln!(out, "ALPN {alpn}; clients that ask for an unknown name, or none, are {strict}");
    let cells = view.policies.iter().map(|policy| {
        let names = if policy.names.is_empty() { "*".into() } else { some(&policy.names) };
        let client = policy.client_cert.as_ref().map_or("off".into(), |rules| {
            let (depth, crls) = (rules.depth, rules.crls);
            format!("{}, {} CAs, depth {depth}, {crls} CRLs, OCSP {}", rules.mode, rules.authorities, rules.ocsp)
        });
        let hsts = policy.hsts.clone().unwrap_or_else(|| "off".into());
        vec![names, some(&policy.certificates), format!("{} to {}", policy.min_tls, policy.max_tls), client, hsts]
    });
    section(&mut out, table(&["SNI", "CERTIFICATES", "TLS", "CLIENT CERTIFICATES", "HSTS"], cells));
    // Policies that agree are told once.
    let mut told: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for policy in &view.policies {
        let name = policy.names.first().cloned().unwrap_or_else(|| "*".into());
        told.entry((policy.suites.join(" "), policy.groups.join(" "))).or_default().push(name);
    }
    for ((suites, groups), names) in &told {
        let _ = writeln!(out, "\n{}\n  groups {groups}\n  suites {suites}", some(names));
    }
    let counts = &view.handshake_counts;
    for (word, counted) in [
        ("versions", &counts.versions),
        ("sessions", &counts.sessions),
        ("groups", &counts.groups),
        ("failed", &counts.failures),
        ("refused", &counts.refused),
        ("client certificates", &counts.client_certs),
    ] {
        let words: Vec<_> = counted.iter().filter(|(_, n)| **n > 0).map(|(word, n)| format!("{word} {n}")).collect();
        if !words.is_empty() {
            let _ = writeln!(out, "handshakes, {word}: {}", words.join(", "));
        }
    }
    out
}

fn staple(view: &StapleView) -> String {
    let mut words = view.state.clone();
    if let (Some(left), Some(age)) = (view.valid_seconds, view.age_seconds) {
        words += &format!(" for {}, {} old", ago(left), ago(age));
    }
    if let Some(problem) = &view.problem {
        words += &format!(" ({problem})");
    }
    words
}

fn days(left: i64) -> String {
    if left < 0 { format!("EXPIRED {}", -left) } else { left.to_string() }
}

fn some(list: &[String]) -> String {
    match list.len() {
        0 => "-".into(),
        len if len <= NAMES => list.join(", "),
        len => format!("{} and {} more", list[..NAMES].join(", "), len - NAMES),
    }
}
