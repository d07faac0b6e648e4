//! `[service.NAME.client_cert]`: whether clients are asked for a certificate, and what makes it a good one.

use super::super::certificate::authorities;
use super::super::files::{Bad, Files};
use super::super::host::Host;
use super::super::problem::{Problem, Problems};
use super::super::section::{At, Section};
use super::words;
use crate::cert::blocks::{Kind, blocks};
use crate::cert::rfc3339;
use std::time::{Duration, UNIX_EPOCH};
use tls_worker::api::tls::client_cert_rules;
use tls_worker::api::{ClientCertMode, ClientCertRules, Der, ExpiredCrl, OcspMode};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

/// Certificates between a client's and a root.
const DEPTH: u32 = 4;
const MAX_DEPTH: u32 = 8;

/// None: it cannot be used, which is told. Some of none: clients are not asked.
pub(super) fn rules(
    mut section: Section<'_>,
    p: &mut Problems,
    files: &mut Files<'_>,
    host: &Host,
) -> Option<Option<ClientCertRules>> {
    let modes = [
        ("off", None),
        ("optional", Some(ClientCertMode::Optional)),
        ("optional-any", Some(ClientCertMode::OptionalAny)),
        ("required", Some(ClientCertMode::Required)),
    ];
    let mode = section.choice(p, "mode", &modes);
    if !section.has("mode") {
        section.missing("mode", "write mode = \"required\", \"optional\", \"optional-any\" or \"off\"");
    }
    let ca = section.one_or_many(p, "ca");
    let depth = section.integer(p, "depth", 0..=MAX_DEPTH).unwrap_or(DEPTH) as u8;
    let crls = section.one_or_many(p, "crls").unwrap_or_default();
    let words = [("deny", ExpiredCrl::Deny), ("allow", ExpiredCrl::Allow)];
    let expired_crl = section.choice(p, "expired_crl", &words).unwrap_or(ExpiredCrl::Deny);
    let words = [("off", OcspMode::Off), ("optional", OcspMode::Optional), ("required", OcspMode::Required)];
    let ocsp = section.choice(p, "ocsp", &words).unwrap_or(OcspMode::Off);
    let ocsp_responder = section.parsed(p, "ocsp_responder", words::http_url).map(|at| at.value);
    let asks = mode.flatten();
    if mode == Some(None) {
        let keys = ["ca", "depth", "crls", "expired_crl", "ocsp", "ocsp_responder"];
        for key in keys.into_iter().filter(|key| section.has(key)) {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` says nothing with mode = \"off\""))
                    .help("no certificate is asked for: remove it, or set another mode"),
            );
        }
    }
    if asks == Some(ClientCertMode::OptionalAny) {
        p.push(Problem::warning(section.span_of("mode"), "any client certificate is taken, whoever issued it").help(
            "the backend must look at the header of the field \"verify\" itself; \"optional\" counts a bad one as none",
        ));
    }
    let needs_ca = matches!(asks, Some(ClientCertMode::Optional | ClientCertMode::Required));
    if needs_ca && (!section.has("ca") || section.is_empty_list("ca")) {
        section.missing("ca", "write ca = \"clients-ca.pem\": whom clients' certificates must come from");
    }
    if section.has("ocsp_responder") && ocsp == OcspMode::Off {
        p.push(
            Problem::error(section.span_of("ocsp_responder"), "no responder is asked with ocsp = \"off\"")
                .help("set ocsp = \"optional\" or \"required\", or remove `ocsp_responder`"),
        );
    }
    let title = section.title.clone();
    let place = section.span_of("ca");
    section.finish(p);
    let mut roots: Vec<Der> = Vec::new();
    let mut whole = true;
    for at in ca.iter().flatten() {
        match files.authorities(at, p, authorities) {
            Some(list) => roots.extend(list.iter().cloned()),
            None => whole = false,
        }
    }
    let mut lists: Vec<Der> = Vec::new();
    for at in &crls {
        match files.crls(at, p, revocation_lists) {
            Some(list) => {
                tell_of_age(at, &list, expired_crl, p, host);
                lists.extend(list.iter().cloned());
            }
            None => whole = false,
        }
    }
    roots.sort();
    roots.dedup();
    let Some(mode) = mode? else { return Some(None) };
    // Without a root where one is needed, the problem is told already.
    whole &= !needs_ca || !roots.is_empty();
    let rules = ClientCertRules { mode, roots, depth, crls: lists, expired_crl, ocsp, ocsp_responder };
    if whole && let Err(error) = client_cert_rules(&rules) {
        p.push(
            Problem::error(place, format!("{title} cannot be kept: {error}"))
                .help("`ca` names authorities' certificates, `crls` whole revocation lists of theirs"),
        );
        whole = false;
    }
    whole.then_some(Some(rules))
}

/// The revocation lists of a file, PEM or DER.
fn revocation_lists(bytes: &[u8]) -> Result<Vec<Der>, Bad> {
    const HELP: &str =
        "a PEM file with -----BEGIN X509 CRL-----, or DER, is wanted; check it with: openssl crl -noout -text -in FILE";
    let bad = |message: String| Bad { message, help: HELP.into() };
    let found = blocks(bytes).map_err(|error| bad(error.to_string()))?;
    let lists: Vec<Der> = found.iter().filter(|b| b.kind == Kind::Crl).map(|b| Der(b.der.to_vec())).collect();
    if lists.is_empty() {
        let other = found.first().map_or(String::new(), |block| format!(", but a {}", block.kind));
        return Err(bad(format!("it holds no revocation list{other}")));
    }
    for (place, list) in (1..).zip(&lists) {
        // By the same parser as in the worker: lists of parts and for others (RFC 5280, 5.2.5) are none of its.
        webpki::BorrowedCertRevocationList::from_der(&list.0)
            .map_err(|error| bad(format!("revocation list {place} cannot be used: {error}")))?;
    }
    Ok(lists)
}

fn tell_of_age(at: &At<&str>, lists: &[Der], expired: ExpiredCrl, p: &mut Problems, host: &Host) {
    for list in lists {
        let Ok((_, list)) = CertificateRevocationList::from_der(&list.0) else { continue };
        let Some(next) = list.next_update() else { continue };
        let end = UNIX_EPOCH + Duration::from_secs(next.timestamp().try_into().unwrap_or(0));
        if end >= host.now {
            continue;
        }
        let effect = match expired {
            ExpiredCrl::Deny => "every certificate of that issuer is refused",
            ExpiredCrl::Allow => "it still counts, as expired_crl = \"allow\" says",
        };
        let issuer = crate::cert::printable(&list.issuer().to_string());
        p.push(
            Problem::warning(
                at.span.clone(),
                format!("{:?}: the revocation list of {issuer} was due for renewal on {}", at.value, rfc3339(end)),
            )
            .help(format!("fetch the current one; {effect}")),
        );
    }
}
