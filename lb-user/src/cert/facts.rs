//! What a certificate says of itself, in words for people.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::oid_registry::{Oid, OidRegistry, asn1_rs::oid};
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Extension};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name};

/// What one certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Distinguished name, `CN=…, O=…`, most general part first or last as the certificate has it; printable.
    pub subject: String,
    /// The same of the issuer.
    pub issuer: String,
    /// Hexadecimal, upper case.
    pub serial: String,
    /// Begin of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Kind of its key.
    pub key: KeyKind,
    /// Name of the issuer's signature, `ecdsa-with-SHA256`.
    pub signature: String,
    /// DNS names, lower case, and IP addresses of subjectAltName.
    pub names: Vec<String>,
    /// SHA-256 of the DER, hexadecimal, lower case.
    pub fingerprint: String,
    /// First responder that can be asked by HTTP (authorityInfoAccess).
    pub ocsp: Option<String>,
    /// Where the issuer's certificate can be had (authorityInfoAccess).
    pub issuer_url: Option<String>,
    /// Clients that know of it want a staple (RFC 7633).
    pub must_staple: bool,
    /// basicConstraints say that it may sign others.
    pub authority: bool,
    /// keyUsage; empty: everything.
    pub key_usage: Vec<&'static str>,
    /// extKeyUsage; empty: everything.
    pub extended_key_usage: Vec<String>,
}

/// Kind and size of a public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum KeyKind {
    /// Bits of the modulus.
    Rsa(u32),
    /// secp256r1
    EcdsaP256,
    /// secp384r1
    EcdsaP384,
    /// RFC 8410
    Ed25519,
    /// Nothing that is served; its name or object identifier.
    Other(String),
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyKind::Rsa(bits) => write!(f, "RSA {bits}"),
            KeyKind::EcdsaP256 => f.write_str("ECDSA P-256"),
            KeyKind::EcdsaP384 => f.write_str("ECDSA P-384"),
            KeyKind::Ed25519 => f.write_str("Ed25519"),
            KeyKind::Other(name) => f.write_str(name),
        }
    }
}

impl From<KeyKind> for String {
    fn from(kind: KeyKind) -> Self {
        kind.to_string()
    }
}

impl Facts {
    /// Of a certificate in DER; what is wrong with it else.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(Self::from(&certificate)),
            Ok((rest, _)) => Err(format!("{} bytes follow the certificate", rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whole days from a moment to the end of validity; negative after it.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let left = unix(self.not_after) - unix(now);
        left.div_euclid(86_400)
    }
}

impl From<&X509Certificate<'_>> for Facts {
    fn from(certificate: &X509Certificate<'_>) -> Self {
        let extensions = certificate.extensions();
        let access = |method: &Oid<'_>| {
            parsed(extensions).find_map(|extension| match extension {
                ParsedExtension::AuthorityInfoAccess(access) => {
                    access.iter().find_map(|one| match &one.access_location {
                        GeneralName::URI(url) if one.access_method == *method && url.starts_with("http://") => {
                            Some(printable(url))
                        }
                        _ => None,
                    })
                }
                _ => None,
            })
        };
        Facts {
            subject: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            serial: hex(certificate.raw_serial(), true),
            not_before: system(certificate.validity().not_before),
            not_after: system(certificate.validity().not_after),
            key: key_kind(certificate.public_key()),
            signature: algorithm(&certificate.signature_algorithm),
            names: names(extensions),
            fingerprint: hex(digest(&SHA256, certificate.as_raw()).as_ref(), false),
            ocsp: access(&oid!(1.3.6.1.5.5.7.48.1)),
            issuer_url: access(&oid!(1.3.6.1.5.5.7.48.2)),
            must_staple: must_staple(extensions),
            authority: certificate.is_ca(),
            key_usage: key_usage(extensions),
            extended_key_usage: extended_key_usage(extensions),
        }
    }
}

/// `CN=…, O=…`.
pub(super) fn name(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() { "(no name)".into() } else { printable(&text) }
}

/// A text that a certificate brought, with what could steer a terminal written out.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// DNS names, lower case, and IP addresses.
pub(super) fn names(extensions: &[X509Extension<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for extension in parsed(extensions) {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension else { continue };
        for general in &alternative.general_names {
            let name = match general {
                GeneralName::DNSName(name) => printable(&name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(v4), _) => IpAddr::from(v4).to_string(),
                    (_, Ok(v6)) => IpAddr::from(v6).to_string(),
                    _ => continue,
                },
                _ => continue,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Kind of a public key.
pub(super) fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => KeyKind::Rsa(bits(rsa.modulus)),
        Ok(PublicKey::EC(_)) => match curve {
            Some(curve) if curve == oid!(1.2.840.10045.3.1.7) => KeyKind::EcdsaP256,
            Some(curve) if curve == oid!(1.3.132.0.34) => KeyKind::EcdsaP384,
            Some(curve) if curve == oid!(1.3.132.0.35) => KeyKind::Other("ECDSA P-521".into()),
            Some(curve) => KeyKind::Other(format!("ECDSA {curve}")),
            None => KeyKind::Other("ECDSA of an unnamed curve".into()),
        },
        _ if key.algorithm.algorithm == oid!(1.3.101.112) => KeyKind::Ed25519,
        _ => KeyKind::Other(algorithm(&key.algorithm)),
    }
}

fn bits(modulus: &[u8]) -> u32 {
    let digits = modulus.iter().skip_while(|byte| **byte == 0);
    let leading = digits.clone().next().map_or(0, |byte| byte.leading_zeros());
    (digits.count() as u32 * 8).saturating_sub(leading)
}

/// Name of an algorithm, else its object identifier.
pub(super) fn algorithm(identifier: &AlgorithmIdentifier<'_>) -> String {
    let registry = OidRegistry::default().with_all_crypto().with_x509();
    match registry.get(&identifier.algorithm) {
        Some(entry) => entry.sn().to_owned(),
        None => identifier.algorithm.to_string(),
    }
}

/// The extension `1.3.6.1.5.5.7.1.24` with status_request (5) in its list.
pub(super) fn must_staple(extensions: &[X509Extension<'_>]) -> bool {
    const STATUS_REQUEST: &[u8] = &[0x30, 0x03, 0x02, 0x01, 0x05];
    extensions.iter().any(|e| e.oid == oid!(1.3.6.1.5.5.7.1.24) && e.value == STATUS_REQUEST)
}

/// Words of keyUsage (RFC 5280, 4.2.1.3).
pub(super) fn key_usage(extensions: &[X509Extension<'_>]) -> Vec<&'static str> {
    let usage = parsed(extensions).find_map(|extension| match extension {
        ParsedExtension::KeyUsage(usage) => Some(*usage),
        _ => None,
    });
    let Some(usage) = usage else { return Vec::new() };
    let words = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    words.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect()
}

/// Words of extKeyUsage (RFC 5280, 4.2.1.12), object identifiers where there is no word.
pub(super) fn extended_key_usage(extensions: &[X509Extension<'_>]) -> Vec<String> {
    let Some(usage) = parsed(extensions).find_map(|extension| match extension {
        ParsedExtension::ExtendedKeyUsage(usage) => Some(usage),
        _ => None,
    }) else {
        return Vec::new();
    };
    let words = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = words.iter().filter(|(set, _)| *set).map(|(_, word)| (*word).to_owned());
    known.chain(usage.other.iter().map(ToString::to_string)).collect()
}

fn parsed<'e, 'a>(extensions: &'e [X509Extension<'a>]) -> impl Iterator<Item = &'e ParsedExtension<'a>> {
    extensions.iter().map(|extension| extension.parsed_extension())
}

/// `sha256/BASE64` of a SubjectPublicKeyInfo (RFC 7469, 2.4).
pub(super) fn pin(public: &[u8]) -> String {
    format!("sha256/{}", STANDARD.encode(digest(&SHA256, public)))
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = if upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") };
        out
    })
}

/// A time of a certificate. Years before 1970 become 1970.
pub(super) fn system(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.timestamp().try_into().unwrap_or(0))
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

/// `2026-01-31T00:00:00Z` (RFC 3339).
pub fn rfc3339(time: SystemTime) -> String {
    // What lies past the year 9999 cannot be written.
    let date = time::OffsetDateTime::from_unix_timestamp(unix(time)).ok();
    let text = date.and_then(|date| date.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}
