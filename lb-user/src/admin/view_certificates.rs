//! Certificates and TLS of the reconciler's picture, as they are shown. Pure but for the clock that it is given.

use super::api::*;
use crate::cert::rfc3339;
use crate::config::{Certificate, CertificateSource, Stale};
use crate::ocsp::staple::{Staple, fingerprint};
use crate::reconcile::{Refreshed, State};
use std::collections::BTreeMap;
use std::time::SystemTime;
use tls_worker::api::tls::{known_groups, known_suites};
use tls_worker::api::{ClientCertMode, OcspMode, OcspStatus, ServiceReport, SniPolicy, TlsVersion, UpstreamTls};

/// All certificates.
pub fn certificates(edge: &State, now: SystemTime) -> Vec<CertificateRow> {
    edge.config.certificates.iter().enumerate().map(|(index, one)| row(edge, index, one, now)).collect()
}

/// One certificate.
pub fn certificate(edge: &State, name: &str, now: SystemTime) -> Option<CertificateView> {
    let index = edge.config.certificates.iter().position(|one| one.name() == name)?;
    let one = &edge.config.certificates[index];
    let files = match &one.source {
        CertificateSource::Files { chain, key } => vec![chain, key],
        CertificateSource::Pkcs12 { file, password_file } => [file].into_iter().chain(password_file).collect(),
    };
    let facts = &one.facts;
    Some(CertificateView {
        row: row(edge, index, one, now),
        subject: facts.subject.clone(),
        serial: facts.serial.clone(),
        not_before: rfc3339(facts.not_before),
        not_after: rfc3339(facts.not_after),
        signature: facts.signature.clone(),
        fingerprint: facts.fingerprint.clone(),
        chain: one.certificate.chain.len(),
        must_staple: facts.must_staple,
        responder: one.responder.clone(),
        files: files.iter().map(|path| path.display().to_string()).collect(),
        problem: stale(edge, name).map(|stale| stale.problem.clone()),
    })
}

/// What came of reading the files again.
pub fn reloaded(refreshed: Refreshed) -> CertificatesReloaded {
    let view = |stale: &Stale| StaleView {
        kind: stale.kind.as_str().into(),
        name: stale.name.clone(),
        problem: stale.problem.clone(),
    };
    CertificatesReloaded {
        generation: refreshed.generation,
        changed: refreshed.changed,
        stale: refreshed.stale.iter().map(view).collect(),
        warnings: refreshed.warnings.to_vec(),
    }
}

/// Whether the files of a certificate cannot be used.
pub fn stale<'s>(edge: &'s State, name: &str) -> Option<&'s Stale> {
    edge.tls.stale.iter().find(|stale| stale.kind == crate::config::FileKind::Certificate && stale.name == name)
}

/// What is known of the staple of a certificate that wants one.
pub fn staple<'s>(edge: &'s State, one: &Certificate) -> Option<&'s Staple> {
    one.stapling.then(|| edge.tls.staples.get(&fingerprint(&one.certificate))).flatten()
}

/// What TLS of clients suffers from.
pub(super) fn troubles(edge: &State, now: SystemTime) -> Vec<String> {
    let mut troubles = Vec::new();
    for stale in edge.tls.stale.iter() {
        troubles.push(format!("{} {:?} is not current: {}", stale.kind.as_str(), stale.name, stale.problem));
    }
    if let Some(why) = &edge.tls.refused {
        troubles.push(format!("files of TLS were not taken: {why}"));
    }
    for (index, one) in edge.config.certificates.iter().enumerate() {
        let name = one.name();
        if one.facts.not_after <= now && !used_by(edge, index).is_empty() {
            troubles.push(format!("certificate {name:?} has expired; renew it: bailey cert show {name}"));
        }
        let known = staple(edge, one);
        let Some(staple) = known.filter(|staple| staple.at(now).is_none()) else { continue };
        if let Some(problem) = &staple.problem {
            troubles.push(format!("certificate {name:?} has no staple: {problem}"));
        }
    }
    troubles
}

fn row(edge: &State, index: usize, one: &Certificate, now: SystemTime) -> CertificateRow {
    CertificateRow {
        name: one.name().to_owned(),
        names: one.facts.names.clone(),
        issuer: one.facts.issuer.clone(),
        key: one.facts.key.to_string(),
        days_left: one.facts.days_left(now),
        used_by: used_by(edge, index),
        staple: staple_view(one.stapling, staple(edge, one), now),
        stale: stale(edge, one.name()).is_some(),
    }
}

fn used_by(edge: &State, index: usize) -> Vec<String> {
    let name = edge.config.certificates[index].name();
    let serves = |service: &&tls_worker::api::Service| {
        service.tls.iter().flat_map(|tls| &tls.policies).any(|policy| policy.certificates.contains(&index))
    };
    let shown = |tls: &UpstreamTls| tls.certificate.as_ref().is_some_and(|certificate| certificate.name == name);
    let services = edge.config.services.iter().filter(serves).map(|service| format!("service {}", service.name));
    let pools = edge.config.pools.iter().filter(|pool| pool.tls.as_ref().is_some_and(shown));
    services.chain(pools.map(|pool| format!("pool {}", pool.name))).collect()
}

fn staple_view(wanted: bool, staple: Option<&Staple>, now: SystemTime) -> StapleView {
    let sent = staple.filter(|staple| staple.at(now).is_some());
    let revoked = staple.is_some_and(|staple| staple.status == Some(OcspStatus::Revoked));
    let state = match (wanted, sent) {
        (false, _) => "off",
        (true, Some(_)) => "good",
        (true, None) if revoked => "revoked",
        (true, None) => "none",
    };
    let left = |until: SystemTime| until.duration_since(now).unwrap_or_default().as_secs();
    let age = |since: SystemTime| now.duration_since(since).unwrap_or_default().as_secs();
    StapleView {
        state: state.into(),
        valid_seconds: sent.and_then(|staple| staple.valid_until).map(left),
        age_seconds: sent.and_then(|staple| staple.this_update).map(age),
        problem: staple.and_then(|staple| staple.problem.clone()),
    }
}

/// What holds for certain names.
pub(super) fn policy(edge: &State, policy: &SniPolicy) -> PolicyView {
    let or = |list: &[String], all: Vec<String>| if list.is_empty() { all } else { list.to_vec() };
    let certificate = |index: &usize| edge.config.certificates.get(*index).map(|one| one.name().to_owned());
    let protocol = &policy.protocol;
    PolicyView {
        names: policy.names.clone(),
        certificates: policy.certificates.iter().filter_map(certificate).collect(),
        min_tls: version(protocol.min_version).into(),
        max_tls: version(protocol.max_version).into(),
        suites: or(&protocol.suites, known_suites()),
        groups: or(&protocol.groups, known_groups().into_iter().map(str::to_owned).collect()),
        client_cert: policy.client_cert.as_ref().map(|rules| ClientCertView {
            mode: match rules.mode {
                ClientCertMode::Optional => "optional",
                ClientCertMode::OptionalAny => "optional-any",
                ClientCertMode::Required => "required",
            }
            .into(),
            authorities: rules.roots.len(),
            depth: rules.depth,
            crls: rules.crls.len(),
            ocsp: match rules.ocsp {
                OcspMode::Off => "off",
                OcspMode::Optional => "optional",
                OcspMode::Required => "required",
            }
            .into(),
        }),
        hsts: policy.hsts.clone(),
    }
}

/// Counters of a service's handshakes.
pub(super) fn handshakes(report: Option<&ServiceReport>) -> HandshakesView {
    let Some(report) = report else { return HandshakesView::default() };
    let counted = |list: &[(String, u64)]| -> BTreeMap<String, u64> { list.iter().cloned().collect() };
    HandshakesView {
        versions: counted(&report.handshakes),
        sessions: counted(&report.sessions),
        groups: counted(&report.groups),
        failures: counted(&report.handshake_failures),
        refused: counted(&report.handshakes_refused),
        client_certs: counted(&report.client_certs),
    }
}

/// TLS towards a pool's backends, for people.
pub(super) fn upstream(tls: &UpstreamTls) -> String {
    let mut words = match (&tls.server_name, tls.verify) {
        (_, false) if tls.pins.is_empty() => {
            "NOT VERIFIED: whoever answers at a backend's address is taken for it".to_owned()
        }
        (_, false) => "chain and name NOT VERIFIED, the key by pin alone".into(),
        (Some(name), true) => format!("verified as {name}"),
        (None, true) => "verified by address".into(),
    };
    if let Some(sni) = &tls.sni {
        words += &format!(", SNI {sni}");
    }
    if !tls.pins.is_empty() {
        words += &format!(", pins {}", tls.pins.len());
    }
    if let Some(certificate) = &tls.certificate {
        words += &format!(", client certificate {}", certificate.name);
    }
    if !tls.alpn.is_empty() {
        words += &format!(", ALPN {}", tls.alpn.join(" "));
    }
    words + &format!(", TLS {} to {}", version(tls.protocol.min_version), version(tls.protocol.max_version))
}

/// `1.2` or `1.3`.
pub(super) fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V12 => "1.2",
        TlsVersion::V13 => "1.3",
    }
}
