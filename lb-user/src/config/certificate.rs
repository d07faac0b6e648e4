//! `[certificate.NAME]`: the files are read and looked at here, so that the worker opens none.

use super::files::{Bad, Files, MAX_PEM};
use super::host::Host;
use super::model::{Certificate, CertificateSource};
use super::problem::{Problem, Problems, Severity};
use super::section::{At, Section};
use super::tls::words;
use crate::cert::pair::{self, File, Pair, PairError};
use crate::cert::{Facts, KeyKind, rfc3339};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tls_worker::api::{self, Der};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Where a certificate's words stand.
struct Places<'v> {
    /// `chain` or `file`.
    chain: At<&'v str>,
    /// `key`; with an archive the same as `chain`.
    key: At<&'v str>,
    source: CertificateSource,
}

pub(super) fn certificate(
    name: &At<String>,
    section: Section<'_>,
    p: &mut Problems,
    host: &Host,
    files: &mut Files<'_>,
) -> Option<Certificate> {
    // Problems of their own: what this certificate was before may stand in for it.
    let mut own = p.fresh();
    let read = self::read(name, section, &mut own, host, files);
    let wrong = own.iter().find(|problem| problem.severity == Severity::Error);
    if let Some(before) = wrong.and_then(|problem| files.fall_back(&name.value, problem)) {
        return Some(before);
    }
    let good = wrong.is_none();
    p.append(own);
    read.filter(|_| good)
}

fn read(
    name: &At<String>,
    mut section: Section<'_>,
    p: &mut Problems,
    host: &Host,
    files: &mut Files<'_>,
) -> Option<Certificate> {
    let places = places(&mut section, p, files);
    let password_at = section.string(p, "password_file");
    let stapling = section.boolean(p, "stapling").unwrap_or(false);
    let responder = section.parsed(p, "ocsp_responder", words::http_url).map(|at| at.value);
    let stapling_at = section.span_of("stapling");
    section.finish(p);
    let places = places?;
    let pair = match read_pair(&places, password_at.as_ref(), p, files)? {
        Ok(pair) => pair,
        Err(error) => {
            p.push(problem(&error, &places, password_at.as_ref()));
            return None;
        }
    };
    look_at(&pair, &places, p, host, files);
    let responder = responder.or_else(|| pair.facts.ocsp.clone());
    let issuer = pair.chain.issuer().map(|der| Der(der.to_vec()));
    if stapling {
        can_be_stapled(&pair, &places, responder.is_some(), issuer.is_some(), stapling_at, p);
    } else if pair.facts.must_staple {
        p.push(
            Problem::warning(
                places.chain.span.clone(),
                format!("clients want a staple with {:?} (OCSP Must-Staple)", places.chain.value),
            )
            .help("write stapling = true"),
        );
    }
    Some(Certificate {
        certificate: api::Certificate {
            name: name.value.clone(),
            names: served_names(&pair.facts),
            chain: pair.chain.certificates.into_iter().map(Der).collect(),
            key: pair.key,
            staple: None,
        },
        source: places.source,
        facts: pair.facts,
        stapling,
        responder,
        issuer,
    })
}

fn places<'v>(section: &mut Section<'v>, p: &mut Problems, files: &Files<'_>) -> Option<Places<'v>> {
    let chain = section.string(p, "chain");
    let key = section.string(p, "key");
    let file = section.string(p, "file");
    if section.has("file") {
        for other in ["chain", "key"].into_iter().filter(|other| section.has(other)) {
            p.push(
                Problem::error(section.span_of(other), format!("{} has `file` and `{other}`", section.title))
                    .help("a certificate is either one PKCS#12 `file`, or `chain` and `key`"),
            );
        }
        let file = file?;
        let password_file = section.has("password_file").then(|| section.text_of("password_file")).flatten();
        let source = CertificateSource::Pkcs12 {
            file: files.path(file.value),
            password_file: password_file.map(|text| files.path(text)),
        };
        return Some(Places { chain: file.clone(), key: file, source });
    }
    for key in ["chain", "key"] {
        if !section.has(key) {
            section.missing(key, &format!("write {key} = \"path/to/{key}.pem\"; or file = \"path/to/archive.p12\""));
        }
    }
    if section.has("password_file") {
        p.push(
            Problem::error(section.span_of("password_file"), "`password_file` belongs to `file`")
                .help("keys in PEM and DER have no password: remove it"),
        );
    }
    let (chain, key) = (chain?, key?);
    let source = CertificateSource::Files { chain: files.path(chain.value), key: files.path(key.value) };
    Some(Places { chain, key, source })
}

/// None: a file could not be read, which is told.
fn read_pair(
    places: &Places<'_>,
    password_at: Option<&At<&str>>,
    p: &mut Problems,
    files: &mut Files<'_>,
) -> Option<Result<Pair, PairError>> {
    let mut bytes = |at: &At<&str>| files.read(at, MAX_PEM).map_err(|problem| p.push(*problem)).ok();
    if let CertificateSource::Files { .. } = places.source {
        let (chain, key) = (bytes(&places.chain), bytes(&places.key));
        let pair = pair::from_files(&chain?, &key?);
        if pair.is_ok() {
            files.tell_of_open_mode("key", &places.key, p);
        }
        return Some(pair);
    }
    let archive = bytes(&places.chain);
    let password = password_at.map(&mut bytes);
    let (archive, password) = (archive?, password.map_or(Some(None), |password| password.map(Some))?);
    let password = match (password.map(|bytes| pair::password(&bytes)), password_at) {
        (Some(None), Some(at)) => {
            p.push(
                Problem::error(at.span.clone(), format!("{:?}: the password is no UTF-8", at.value))
                    .help("write the password as UTF-8 in the first line"),
            );
            return None;
        }
        (password, _) => password.flatten(),
    };
    let pair = pair::from_pkcs12(&archive, password.as_ref().map(|password| password.as_str()));
    match password_at {
        Some(at) => files.tell_of_open_mode("password", at, p),
        // Who has the file has the key.
        None => files.tell_of_open_mode("archive", &places.chain, p),
    }
    Some(pair)
}

fn problem(error: &PairError, places: &Places<'_>, password_at: Option<&At<&str>>) -> Problem {
    let (at, other) = match error.file() {
        File::Chain => (&places.chain, &places.key),
        File::Key => (&places.key, &places.chain),
    };
    match error {
        PairError::Mismatch { subjects } if at.span != other.span => Problem::error(
            at.span.clone(),
            format!(
                "key {:?} does not belong to a certificate of {:?}: {}",
                at.value,
                other.value,
                subjects.join("; ")
            ),
        )
        .label("another key")
        .also(other.span.clone(), "these certificates"),
        PairError::Pkcs12(_) if password_at.is_some() => {
            let problem = Problem::error(at.span.clone(), format!("{:?}: {error}", at.value));
            password_at.into_iter().fold(problem, |problem, at| problem.also(at.span.clone(), "with this password"))
        }
        _ => Problem::error(at.span.clone(), format!("{:?}: {error}", at.value)),
    }
    .help(error.remedy())
}

/// DNS names, which alone are asked for by SNI.
fn served_names(facts: &Facts) -> Vec<String> {
    facts.names.iter().filter(|name| name.parse::<std::net::IpAddr>().is_err()).cloned().collect()
}

/// What somebody should look at.
fn look_at(pair: &Pair, places: &Places<'_>, p: &mut Problems, host: &Host, files: &mut Files<'_>) {
    let at = &places.chain;
    let mut warn = |message: String, help: String| p.push(Problem::warning(at.span.clone(), message).help(help));
    let facts = &pair.facts;
    if facts.not_after < host.now {
        warn(
            format!("certificate {:?} expired: {} on {}", at.value, facts.subject, rfc3339(facts.not_after)),
            "renew it; clients refuse it".into(),
        );
    } else if facts.not_before > host.now {
        warn(
            format!("certificate {:?} is not valid before {}", at.value, rfc3339(facts.not_before)),
            "check this host's clock".into(),
        );
    }
    if facts.names.is_empty() {
        warn(
            format!("certificate {:?} names no host (subjectAltName)", at.value),
            "it is served only as a service's default, and clients will refuse it".into(),
        );
    }
    for stranger in &pair.chain.strangers {
        warn(
            format!("{:?} holds a certificate that belongs to nothing in it: {stranger}", at.value),
            "it is not sent; remove it".into(),
        );
    }
    for (place, der) in pair.chain.certificates.iter().enumerate() {
        let Ok(one) = Facts::of(der) else { continue };
        if weak_signature(&one.signature) && one.subject != one.issuer {
            warn(
                format!("{:?}: {} is signed with {}", at.value, one.subject, one.signature),
                "clients refuse such signatures: have it issued anew".into(),
            );
        }
        if place == 0 {
            continue;
        }
        if one.not_after < host.now {
            warn(
                format!("{:?}: the intermediate {} expired on {}", at.value, one.subject, rfc3339(one.not_after)),
                "replace it with its authority's current one; clients refuse the chain".into(),
            );
        }
        match one.key {
            KeyKind::Rsa(bits) if bits < 2048 => warn(
                format!("{:?}: the key of the intermediate {} is weak: RSA of {bits} bits", at.value, one.subject),
                "replace it with its authority's current one; clients refuse the chain".into(),
            ),
            _ => {}
        }
    }
    tell_of_gap(pair, at, p, files);
}

/// Whether an intermediate is missing. A chain may end below a root, so there must be a sign of it: the leaf stands
/// alone, or something of another chain is there instead.
fn tell_of_gap(pair: &Pair, at: &At<&str>, p: &mut Problems, files: &mut Files<'_>) {
    let Some(lacks) = &pair.chain.lacks else { return };
    let alone = pair.chain.certificates.len() == 1;
    if !alone && pair.chain.strangers.is_empty() {
        return;
    }
    let roots = files.system_roots(super::certificate::system_roots);
    if roots.iter().any(|root| is_named(root, &lacks.raw)) {
        return;
    }
    let from = match &pair.facts.issuer_url {
        Some(url) if alone => format!(" (it is at {url})"),
        _ => String::new(),
    };
    p.push(
        Problem::warning(
            at.span.clone(),
            format!("{:?} lacks the certificate of {}, which issued {}", at.value, lacks.name, lacks.of),
        )
        .help(format!("append it{from}: clients that do not have it refuse the chain; a root at the end is not sent")),
    );
}

fn is_named(root: &Der, name: &[u8]) -> bool {
    X509Certificate::from_der(&root.0).is_ok_and(|(_, root)| root.subject().as_raw() == name)
}

fn weak_signature(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["sha1", "sha-1", "md5", "md2"].iter().any(|weak| name.contains(weak))
}

fn can_be_stapled(
    pair: &Pair,
    places: &Places<'_>,
    responder: bool,
    issuer: bool,
    span: std::ops::Range<usize>,
    p: &mut Problems,
) {
    let file = places.chain.value;
    if !responder {
        p.push(
            Problem::error(span.clone(), format!("{:?} names no OCSP responder to ask", pair.facts.subject))
                .help("write ocsp_responder = \"http://...\", or remove `stapling`"),
        );
    }
    if !issuer {
        p.push(
            Problem::error(span, format!("{file:?} lacks the certificate of {}", pair.facts.issuer))
                .help("its responder's answers are checked against it: append it, also where it is a root"),
        );
    }
}

/// The certificates of authorities in a file.
pub(super) fn authorities(bytes: &[u8]) -> Result<Vec<Der>, Bad> {
    let bad = |error: PairError| Bad { message: error.to_string(), help: error.remedy().into() };
    let list = pair::certificates(bytes).map_err(bad)?;
    for (place, der) in (1..).zip(&list) {
        let unreadable = |why: String| bad(PairError::Certificate { place, why });
        Facts::of(der).map_err(unreadable)?;
        let anchor = RootCertStore::empty().add(CertificateDer::from(der.as_slice()));
        anchor.map_err(|error| unreadable(error.to_string()))?;
    }
    Ok(list.into_iter().map(Der).collect())
}

/// The host's own roots. A system's bundle may hold an old root that is not taken; that is nothing the operator can mend.
pub(super) fn system_roots() -> Vec<Der> {
    let usable = |der: &CertificateDer<'static>| RootCertStore::empty().add(der.clone()).is_ok();
    let found = rustls_native_certs::load_native_certs().certs.into_iter();
    found.filter(usable).map(|der| Der(der.to_vec())).collect()
}
