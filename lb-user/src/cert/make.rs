//! Keys, certification requests and self-signed certificates, made; what `bailey cert new-key`, `request` and `self-sign`
//! write.

use super::blocks::to_pem;
use super::public;
use rcgen::string::{Ia5String, PrintableString};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, RsaKeySize, SanType,
};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Kinds of keys that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyType {
    /// For nearly everything: small, fast, understood by all clients of today
    #[value(name = "ecdsa-p256")]
    EcdsaP256,
    /// Where a rule asks for it
    #[value(name = "ecdsa-p384")]
    EcdsaP384,
    /// Not understood by browsers
    Ed25519,
    /// For clients that know nothing else
    #[value(name = "rsa-2048")]
    Rsa2048,
    /// The same, for longer
    #[value(name = "rsa-3072")]
    Rsa3072,
    /// The same; slow
    #[value(name = "rsa-4096")]
    Rsa4096,
}

/// Whom a request or certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// `CN=…,O=…`; none: the first of the names below.
    pub subject: Option<String>,
    /// DNS names, `*.` allowed in front.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ip: Vec<IpAddr>,
}

/// Why something could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// A part of the subject.
    #[error("subject {subject:?}: {why}")]
    Subject {
        /// As it was given.
        subject: String,
        /// What is wrong.
        why: String,
    },
    /// A name.
    #[error("{0:?} cannot be a name in a certificate")]
    Name(String),
    /// Validity past the year 9999.
    #[error("{0} days from now cannot be written into a certificate")]
    Days(u32),
    /// The key.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// rcgen refuses it.
    #[error("{0}")]
    Make(String),
}

impl MakeError {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            MakeError::Subject { .. } => {
                "write TYPE=VALUE with commas between, such as \"CN=www.example.com,O=Example,C=DE\"; types: CN, O, OU, C, ST, L; `\\` before a comma that belongs to a value"
            }
            MakeError::Name(_) => {
                "write letters, digits, `-` and dots; an international name in its ASCII form (xn--...)"
            }
            MakeError::Days(_) => "write fewer days",
            MakeError::Key(_) => "make one: bailey cert new-key -o FILE",
            MakeError::Make(_) => "check the values that were given",
        }
    }
}

/// A new private key, PKCS#8 in PEM.
pub fn new_key(kind: KeyType) -> Result<Zeroizing<String>, MakeError> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    let made = match kind {
        KeyType::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        KeyType::Rsa2048 => rsa(RsaKeySize::_2048),
        KeyType::Rsa3072 => rsa(RsaKeySize::_3072),
        KeyType::Rsa4096 => rsa(RsaKeySize::_4096),
    };
    let made = made.map_err(make)?;
    let key = public::to_pkcs8(&Zeroizing::new(made.serialize_der())).map_err(MakeError::Make)?;
    Ok(to_pem("PRIVATE KEY", &key))
}

/// A certification request (PKCS#10) for a private key in DER; PEM. `must_staple` asks for the extension of RFC 7633.
pub fn request(key: &[u8], names: &Names, must_staple: bool) -> Result<String, MakeError> {
    let key = public::pair(key).map_err(MakeError::Key)?;
    let mut params = params(names)?;
    if must_staple {
        params.custom_extensions.push(CustomExtension::from_oid_content(MUST_STAPLE, STATUS_REQUEST.to_vec()));
    }
    let made = params.serialize_request(&key).map_err(make)?;
    Ok(to_pem("CERTIFICATE REQUEST", made.der()).to_string())
}

/// A certificate that its own key signed, for `days` from `now`; PEM. `authority`: one that signs others, and serves
/// nobody.
pub fn self_sign(key: &[u8], names: &Names, days: u32, authority: bool, now: SystemTime) -> Result<String, MakeError> {
    let key = public::pair(key).map_err(MakeError::Key)?;
    let mut params = params(names)?;
    let date = |after: u64| {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let date =
            time::OffsetDateTime::from_unix_timestamp(since.saturating_add(after).try_into().unwrap_or(i64::MAX));
        // RFC 5280, 4.1.2.5: the last date that can be written.
        date.ok().filter(|date| date.year() <= 9999).ok_or(MakeError::Days(days))
    };
    params.not_before = date(0)?;
    params.not_after = date(u64::from(days) * 86_400)?;
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    } else {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    }
    let made = params.self_signed(&key).map_err(make)?;
    Ok(to_pem("CERTIFICATE", made.der()).to_string())
}

/// TLS features (RFC 7633, 3), and its value: a list of status_request alone.
const MUST_STAPLE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
const STATUS_REQUEST: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x05];

fn make(error: rcgen::Error) -> MakeError {
    MakeError::Make(error.to_string())
}

fn params(names: &Names) -> Result<CertificateParams, MakeError> {
    let mut params = CertificateParams::default();
    for name in &names.dns {
        let ia5 = Ia5String::try_from(name.as_str()).map_err(|_| MakeError::Name(name.clone()))?;
        params.subject_alt_names.push(SanType::DnsName(ia5));
    }
    params.subject_alt_names.extend(names.ip.iter().map(|ip| SanType::IpAddress(*ip)));
    params.distinguished_name = match &names.subject {
        Some(subject) => distinguished_name(subject)?,
        None => {
            let mut name = DistinguishedName::new();
            let first = names.dns.first().cloned().or_else(|| names.ip.first().map(ToString::to_string));
            if let Some(first) = first {
                name.push(DnType::CommonName, first);
            }
            name
        }
    };
    Ok(params)
}

/// `CN=www.example.com,O=Example\, Inc.`, in the order that it is written in.
fn distinguished_name(subject: &str) -> Result<DistinguishedName, MakeError> {
    let wrong = |why: String| MakeError::Subject { subject: subject.to_owned(), why };
    let mut name = DistinguishedName::new();
    for part in parts(subject).ok_or_else(|| wrong("it ends in a `\\`".into()))? {
        let (kind, value) = part.split_once('=').ok_or_else(|| wrong(format!("{part:?} has no `=`")))?;
        let (kind, value) = (kind.trim(), value.trim());
        let of = match kind.to_ascii_uppercase().as_str() {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "C" => DnType::CountryName,
            "ST" => DnType::StateOrProvinceName,
            "L" => DnType::LocalityName,
            _ => return Err(wrong(format!("{kind:?} is no type that is known"))),
        };
        // Upper bounds of RFC 5280, appendix A.1.
        let longest = match of {
            DnType::CountryName => 2,
            DnType::StateOrProvinceName | DnType::LocalityName => 128,
            _ => 64,
        };
        let length = value.chars().count();
        if length == 0 || length > longest || value.chars().any(char::is_control) {
            return Err(wrong(format!("{kind} has 1 to {longest} characters")));
        }
        if name.get(&of).is_some() {
            return Err(wrong(format!("{kind} stands there twice")));
        }
        let value = match of {
            DnType::CountryName if value.len() == 2 && value.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                let code = PrintableString::try_from(value.to_ascii_uppercase());
                DnValue::PrintableString(code.map_err(|_| wrong("C is a code of two letters".into()))?)
            }
            DnType::CountryName => return Err(wrong("C is a code of two letters".into())),
            _ => DnValue::Utf8String(value.to_owned()),
        };
        name.push(of, value);
    }
    Ok(name)
}

/// Split at commas that no `\` stands before (RFC 4514, 2.4). None: the last character is a `\`.
fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = parts.last_mut()?;
        match c {
            '\\' => last.push(chars.next()?),
            ',' => parts.push(String::new()),
            c => last.push(c),
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::{Facts, KeyKind, pair};
    use proptest::prelude::*;
    use std::time::Duration;

    fn names() -> Names {
        let subject = Some("CN=www.test, O=Example\\, Inc., c=de".into());
        Names { subject, dns: vec!["www.test".into(), "*.test".into()], ip: vec![[192, 0, 2, 1].into()] }
    }

    fn der(pem: &str) -> Vec<u8> {
        crate::cert::blocks::blocks(pem.as_bytes()).unwrap()[0].der.to_vec()
    }

    #[test]
    fn a_certificate_of_each_kind_of_key_can_be_served() {
        for (kind, want) in [
            (KeyType::EcdsaP256, KeyKind::EcdsaP256),
            (KeyType::EcdsaP384, KeyKind::EcdsaP384),
            (KeyType::Ed25519, KeyKind::Ed25519),
            (KeyType::Rsa2048, KeyKind::Rsa(2048)),
        ] {
            let key = new_key(kind).unwrap();
            let now = UNIX_EPOCH + Duration::from_secs(1_750_000_000);
            let made = self_sign(&der(&key), &names(), 30, false, now).unwrap();
            let facts = pair::from_files(made.as_bytes(), key.as_bytes()).unwrap().facts;
            assert_eq!(facts.key, want);
            assert_eq!(facts.subject, "CN=www.test, O=Example, Inc., C=DE");
            assert_eq!(facts.names, ["www.test", "*.test", "192.0.2.1"]);
            assert_eq!((facts.days_left(now), facts.authority), (30, false));
            assert_eq!(facts.extended_key_usage, ["serverAuth", "clientAuth"]);
        }
    }

    #[test]
    fn an_authority_signs_and_the_first_name_is_the_subject() {
        let key = der(&new_key(KeyType::EcdsaP256).unwrap());
        let made = self_sign(&key, &Names { subject: None, ..names() }, 1, true, SystemTime::now()).unwrap();
        let facts = Facts::of(&der(&made)).unwrap();
        assert_eq!((facts.subject.as_str(), facts.authority), ("CN=www.test", true));
        assert_eq!(facts.key_usage, ["keyCertSign", "cRLSign"]);
        let late = self_sign(&key, &names(), 3_000_000, true, SystemTime::now());
        assert_eq!(late.unwrap_err(), MakeError::Days(3_000_000));
    }

    #[test]
    fn a_bad_subject_says_why() {
        for (subject, why) in [
            ("www.test", "has no `=`"),
            ("", "has no `=`"),
            ("CN=", "1 to 64 characters"),
            ("X=1", "no type"),
            ("CN=a,CN=b", "twice"),
            ("C=DEU", "1 to 2"),
            ("C=1a", "two letters"),
            ("CN=a\\", "ends in a"),
        ] {
            let said = distinguished_name(subject).unwrap_err().to_string();
            assert!(said.contains(why), "{subject}: {said}");
        }
        assert!(matches!(request(b"no key", &names(), false), Err(MakeError::Key(_))));
        let names = Names { dns: vec!["ä".into()], ..Names::default() };
        let key = der(&new_key(KeyType::EcdsaP256).unwrap());
        assert_eq!(request(&key, &names, false), Err(MakeError::Name("ä".into())));
    }

    proptest! {
        #[test]
        fn no_subject_makes_it_panic(text in "\\PC{0,60}") {
            let _ = distinguished_name(&text);
        }
    }
}
