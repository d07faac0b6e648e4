//! `[certificate.NAME]`: the files are read and looked at here, so that the worker opens none.

use super::host::Host;
use super::model::{Certificate, CertificateSource};
use super::problem::{Problem, Problems};
use super::section::{At, Section};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;
use tls_worker::api::tls::{TlsError, certified_key};
use tls_worker::api::{self, Der, Secret};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A PEM file is at most so long, bytes: a bundle of all public roots has a quarter of it.
const MAX_PEM: u64 = 1 << 20;

pub(super) fn certificate(
    name: &At<String>,
    mut section: Section<'_>,
    problems: &mut Problems,
    host: &Host,
    dir: &Path,
) -> Option<Certificate> {
    let p = problems;
    let chain_at = section.string(p, "chain");
    let key_at = section.string(p, "key");
    for (key, at) in [("chain", &chain_at), ("key", &key_at)] {
        if at.is_none() && !section.has(key) {
            section.missing(key, &format!("write {key} = \"path/to/{key}.pem\""));
        }
    }
    let chain = chain_at.as_ref().and_then(|at| chain(at, p, dir));
    let key = key_at.as_ref().and_then(|at| key(at, p, dir));
    section.finish(p);
    let (chain_at, key_at, chain, key) = (chain_at?, key_at?, chain?, key?);

    let mut certificate = api::Certificate {
        name: name.value.clone(),
        names: Vec::new(),
        chain: chain.iter().map(|der| Der(der.to_vec())).collect(),
        key: Secret::new(key.secret_der().to_vec()),
        staple: None,
    };
    match certified_key(&certificate) {
        Ok(_) => {}
        Err(TlsError::Rustls(rustls::Error::InconsistentKeys(_))) => {
            p.push(
                Problem::error(
                    key_at.span,
                    format!("key {:?} does not belong to the first certificate of {:?}", key_at.value, chain_at.value),
                )
                .label("another key")
                .also(chain_at.span, "this certificate")
                .help("the chain begins with the certificate of this key; check that both files are of one renewal"),
            );
            return None;
        }
        Err(TlsError::Key(e)) => {
            p.push(unusable_key(&key_at, e));
            return None;
        }
        // rustls says in a text of its own that ring takes no such key.
        Err(TlsError::Rustls(rustls::Error::General(e))) => {
            p.push(unusable_key(&key_at, &e));
            return None;
        }
        Err(e) => {
            p.push(
                Problem::error(chain_at.span, format!("{:?} begins with no usable certificate: {e}", chain_at.value))
                    .help("the first certificate is the server's own (X.509 version 3)"),
            );
            return None;
        }
    }
    certificate.names = look_at(&chain[0], &chain_at, p, host)?;
    let facts = crate::cert::Facts::of(&chain[0]).ok()?;
    let source = CertificateSource::Files { chain: dir.join(chain_at.value), key: dir.join(key_at.value) };
    let issuer = certificate.chain.get(1).cloned();
    Some(Certificate { certificate, source, responder: facts.ocsp.clone(), facts, stapling: false, issuer })
}

fn unusable_key(at: &At<&str>, why: &str) -> Problem {
    Problem::error(at.span.clone(), format!("{:?} holds a key that cannot be used: {why}", at.value))
        .help("RSA of at least 2048 bits, ECDSA P-256 and P-384, and Ed25519 can be used")
}

/// The certificates of a PEM bundle.
pub(super) fn chain(at: &At<&str>, p: &mut Problems, dir: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let pem = read(at, p, dir)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(list) if !list.is_empty() => Some(list),
        Ok(_) => {
            p.push(
                Problem::error(at.span.clone(), format!("{:?} holds no certificate", at.value))
                    .help("a PEM file with -----BEGIN CERTIFICATE----- is wanted"),
            );
            None
        }
        Err(e) => {
            p.push(
                Problem::error(at.span.clone(), format!("{:?} is no PEM file: {e}", at.value))
                    .help("a PEM file with -----BEGIN CERTIFICATE----- is wanted"),
            );
            None
        }
    }
}

fn key(at: &At<&str>, p: &mut Problems, dir: &Path) -> Option<PrivateKeyDer<'static>> {
    let pem = read(at, p, dir)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => {
            tell_of_open_mode(at, p, dir);
            Some(key)
        }
        Err(_) => {
            let encrypted = String::from_utf8_lossy(&pem).contains("ENCRYPTED");
            let help = if encrypted {
                "it is encrypted: write it without a passphrase (openssl pkey -in KEY -out NEW)"
            } else {
                "a PEM file with -----BEGIN PRIVATE KEY----- (PKCS#8), RSA PRIVATE KEY or EC PRIVATE KEY is wanted"
            };
            p.push(
                Problem::error(at.span.clone(), format!("{:?} holds no private key that can be read", at.value))
                    .help(help),
            );
            None
        }
    }
}

fn tell_of_open_mode(at: &At<&str>, p: &mut Problems, dir: &Path) {
    let mode = std::fs::metadata(dir.join(at.value)).map(|m| m.permissions().mode()).unwrap_or(0);
    if mode & 0o004 != 0 {
        p.push(
            Problem::warning(at.span.clone(), format!("key {:?} can be read by every user of this host", at.value))
                .help(format!("chmod o-rwx {}", dir.join(at.value).display())),
        );
    }
}

/// The DNS names of a certificate; tells of what it is too late or too early for.
fn look_at(leaf: &CertificateDer<'_>, at: &At<&str>, p: &mut Problems, host: &Host) -> Option<Vec<String>> {
    let certificate = match X509Certificate::from_der(leaf) {
        Ok((_, certificate)) => certificate,
        Err(e) => {
            p.push(
                Problem::error(at.span.clone(), format!("the first certificate of {:?} cannot be read: {e}", at.value))
                    .help("check it with: openssl x509 -noout -text -in FILE"),
            );
            return None;
        }
    };
    let now = host.now.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() as i64);
    let validity = certificate.validity();
    if validity.not_after.timestamp() < now {
        p.push(
            Problem::warning(at.span.clone(), format!("certificate {:?} expired: {}", at.value, validity.not_after))
                .help("renew it; clients refuse it"),
        );
    } else if validity.not_before.timestamp() > now {
        p.push(
            Problem::warning(
                at.span.clone(),
                format!("certificate {:?} is not valid before {}", at.value, validity.not_before),
            )
            .help("check this host's clock"),
        );
    }
    let mut names = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
        if names.is_empty() && extension.value.general_names.is_empty() {
            p.push(no_names(at));
        }
    } else {
        p.push(no_names(at));
    }
    names.dedup();
    Some(names)
}

fn no_names(at: &At<&str>) -> Problem {
    Problem::warning(at.span.clone(), format!("certificate {:?} names no host (subjectAltName)", at.value))
        .help("it is served only as a service's default, and clients will refuse it")
}

fn read(at: &At<&str>, p: &mut Problems, dir: &Path) -> Option<Vec<u8>> {
    let path = dir.join(at.value);
    let result = std::fs::metadata(&path).and_then(|meta| {
        if meta.len() > MAX_PEM || !meta.is_file() {
            return Err(std::io::Error::other(format!("not a file of at most {MAX_PEM} bytes")));
        }
        std::fs::read(&path)
    });
    match result {
        Ok(bytes) => Some(bytes),
        Err(e) => {
            let help = match e.kind() {
                std::io::ErrorKind::NotFound => {
                    format!("there is no {}; a relative path begins at the config's directory", path.display())
                }
                std::io::ErrorKind::PermissionDenied => format!("let this user read {}", path.display()),
                _ => format!("look at {}", path.display()),
            };
            p.push(Problem::error(at.span.clone(), format!("cannot read {:?}: {e}", at.value)).help(help));
            None
        }
    }
}
