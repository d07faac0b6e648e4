//! What files of certificates hold, for people and for programs.

use super::blocks::{Block, Kind};
use super::facts::{self, Facts, KeyKind, rfc3339};
use super::{pair::PairError, pkcs12, public};
use serde::Serialize;
use std::time::SystemTime;
use x509_parser::prelude::{
    CertificateRevocationList, FromDer as _, ParsedCriAttribute, X509Certificate, X509CertificationRequest,
};

/// One object of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    /// File that it is in.
    pub file: String,
    /// Line of its begin, from 1; none: the file is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What it says.
    #[serde(flatten)]
    pub says: Says,
}

/// What an object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Says {
    /// A certificate.
    Certificate(Box<CertificateView>),
    /// A private key.
    Key(KeyView),
    /// A certification request.
    Request(RequestView),
    /// A revocation list.
    Crl(CrlView),
    /// Something that is not looked into.
    Other {
        /// PEM label, or what it is.
        what: String,
    },
    /// Something that cannot be read.
    Unreadable {
        /// What it should be.
        what: String,
        /// Why.
        why: String,
    },
}

/// A certificate. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateView {
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name.
    pub issuer: String,
    /// DNS names and IP addresses.
    pub names: Vec<String>,
    /// Hexadecimal.
    pub serial: String,
    /// Begin of validity.
    pub not_before: String,
    /// End of validity.
    pub not_after: String,
    /// Whole days until then; negative: it expired.
    pub days_left: i64,
    /// Kind of its key.
    pub key: KeyKind,
    /// Algorithm that it was signed by.
    pub signature: String,
    /// SHA-256, hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of its SubjectPublicKeyInfo, as `pins` of a pool has it.
    pub pin: String,
    /// Whether it may sign others.
    pub authority: bool,
    /// keyUsage.
    pub key_usage: Vec<&'static str>,
    /// extKeyUsage.
    pub extended_key_usage: Vec<String>,
    /// Responder.
    pub ocsp: Option<String>,
    /// Where the issuer's certificate is.
    pub issuer_url: Option<String>,
    /// RFC 7633.
    pub must_staple: bool,
}

/// A private key; nothing of its secret half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// Its kind; none: it cannot be used, or is encrypted.
    pub key: Option<KeyKind>,
    /// Whether it is under a passphrase.
    pub encrypted: bool,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub pin: Option<String>,
    /// Subjects of the certificates and requests in these files that have its public half.
    pub belongs_to: Vec<String>,
}

/// A certification request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestView {
    /// Distinguished name.
    pub subject: String,
    /// DNS names and IP addresses that are asked for.
    pub names: Vec<String>,
    /// Kind of its key.
    pub key: KeyKind,
    /// Algorithm that it was signed by.
    pub signature: String,
    /// RFC 7633.
    pub must_staple: bool,
}

/// A revocation list. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CrlView {
    /// Distinguished name.
    pub issuer: String,
    /// When it was made.
    pub this_update: String,
    /// When the next one is due.
    pub next_update: Option<String>,
    /// Whether that is past.
    pub overdue: bool,
    /// How many certificates it revokes.
    pub revoked: usize,
    /// Algorithm that it was signed by.
    pub signature: String,
}

/// The objects of a file, archives opened.
pub fn open(found: Vec<Block>, password: Option<&str>) -> Result<Vec<Block>, PairError> {
    let mut all = Vec::new();
    for block in found {
        if block.kind != Kind::Pkcs12 {
            all.push(block);
            continue;
        }
        let archive = pkcs12::read(&block.der, password)?;
        let inner = |kind: Kind, der| Block { kind, der, line: 0 };
        all.extend(archive.certificates.into_iter().map(|der| inner(Kind::Certificate, der.into())));
        all.extend(archive.key.map(|key| inner(Kind::Key, key)));
    }
    Ok(all)
}

/// What the objects of files say, each with the file's name; keys are told apart by what of them belongs together.
pub fn inspect(files: &[(String, Vec<Block>)], now: SystemTime) -> Vec<Object> {
    let all: Vec<(&String, &Block)> =
        files.iter().flat_map(|(file, list)| list.iter().map(move |b| (file, b))).collect();
    let owners: Vec<(Vec<u8>, String)> = all.iter().filter_map(|(_, block)| owner(block)).collect();
    let object = |(file, block): (&String, &Block)| Object {
        file: file.clone(),
        line: (block.line > 0).then_some(block.line),
        says: says(block, &owners, now),
    };
    all.into_iter().map(object).collect()
}

/// SubjectPublicKeyInfo and subject of what has a public key.
fn owner(block: &Block) -> Option<(Vec<u8>, String)> {
    match block.kind {
        Kind::Certificate => {
            let (_, one) = X509Certificate::from_der(&block.der).ok()?;
            Some((one.public_key().raw.to_vec(), facts::name(one.subject())))
        }
        Kind::Request => {
            let (_, one) = X509CertificationRequest::from_der(&block.der).ok()?;
            let info = &one.certification_request_info;
            Some((info.subject_pki.raw.to_vec(), format!("request of {}", facts::name(&info.subject))))
        }
        _ => None,
    }
}

fn says(block: &Block, owners: &[(Vec<u8>, String)], now: SystemTime) -> Says {
    let read = match &block.kind {
        Kind::Certificate => certificate(&block.der, now),
        Kind::Key => Ok(Says::Key(key(&block.der, owners))),
        Kind::EncryptedKey => Ok(Says::Key(KeyView { key: None, encrypted: true, pin: None, belongs_to: Vec::new() })),
        Kind::Request => request(&block.der),
        Kind::Crl => crl(&block.der, now),
        other => Ok(Says::Other { what: facts::printable(&other.to_string()) }),
    };
    read.unwrap_or_else(|why| Says::Unreadable { what: block.kind.to_string(), why })
}

fn certificate(der: &[u8], now: SystemTime) -> Result<Says, String> {
    let facts = Facts::of(der)?;
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(Says::Certificate(Box::new(CertificateView {
        days_left: facts.days_left(now),
        pin: facts::pin(parsed.public_key().raw),
        not_before: rfc3339(facts.not_before),
        not_after: rfc3339(facts.not_after),
        subject: facts.subject,
        issuer: facts.issuer,
        names: facts.names,
        serial: facts.serial,
        key: facts.key,
        signature: facts.signature,
        fingerprint: facts.fingerprint,
        authority: facts.authority,
        key_usage: facts.key_usage,
        extended_key_usage: facts.extended_key_usage,
        ocsp: facts.ocsp,
        issuer_url: facts.issuer_url,
        must_staple: facts.must_staple,
    })))
}

fn key(der: &[u8], owners: &[(Vec<u8>, String)]) -> KeyView {
    let Ok(public) = public::public_key(der) else {
        return KeyView { key: None, encrypted: false, pin: None, belongs_to: Vec::new() };
    };
    let mut belongs_to: Vec<String> =
        owners.iter().filter(|(of, _)| *of == public).map(|(_, subject)| subject.clone()).collect();
    belongs_to.dedup();
    KeyView { key: public::kind(&public), encrypted: false, pin: Some(facts::pin(&public)), belongs_to }
}

fn request(der: &[u8]) -> Result<Says, String> {
    let (_, one) = X509CertificationRequest::from_der(der).map_err(|error| error.to_string())?;
    let info = &one.certification_request_info;
    let extensions = info.iter_attributes().find_map(|attribute| match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(asked) => Some(asked.extensions.as_slice()),
        _ => None,
    });
    let extensions = extensions.unwrap_or_default();
    Ok(Says::Request(RequestView {
        subject: facts::name(&info.subject),
        names: facts::names(extensions),
        key: facts::key_kind(&info.subject_pki),
        signature: facts::algorithm(&one.signature_algorithm),
        must_staple: facts::must_staple(extensions),
    }))
}

fn crl(der: &[u8], now: SystemTime) -> Result<Says, String> {
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
    let next = list.next_update().map(facts::system);
    Ok(Says::Crl(CrlView {
        issuer: facts::name(list.issuer()),
        this_update: rfc3339(facts::system(list.last_update())),
        next_update: next.map(rfc3339),
        overdue: next.is_some_and(|next| next < now),
        revoked: list.iter_revoked_certificates().count(),
        signature: facts::algorithm(&list.signature_algorithm),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::blocks::{blocks, to_pem};
    use super::super::testing::{Authority, der};
    use super::*;

    #[test]
    fn a_key_is_told_with_what_belongs_to_it() {
        let root = Authority::root("Root");
        let (leaf, key) = root.leaf(&["www.test"]);
        let chain = to_pem("CERTIFICATE", &der(&leaf)).to_string() + &to_pem("CERTIFICATE", &der(&root.certificate));
        let files = [
            ("chain.pem".to_string(), blocks(chain.as_bytes()).unwrap()),
            ("key.der".to_string(), blocks(&key.serialize_der()).unwrap()),
            ("other".to_string(), blocks(to_pem("X9.42 DH PARAMETERS", b"\x30\x00").as_bytes()).unwrap()),
            ("bad".to_string(), blocks(to_pem("CERTIFICATE", b"\x30\x00").as_bytes()).unwrap()),
        ];
        let objects = inspect(&files, SystemTime::now());
        let Says::Certificate(first) = &objects[0].says else { panic!("{objects:?}") };
        let Says::Key(key) = &objects[2].says else { panic!("{objects:?}") };
        assert_eq!((first.subject.as_str(), first.issuer.as_str()), ("CN=www.test", "CN=Root"));
        assert_eq!((key.belongs_to.as_slice(), key.pin.as_ref()), (&["CN=www.test".to_string()][..], Some(&first.pin)));
        assert_eq!(
            (objects[1].line, objects[2].line),
            (Some(chain.lines().position(|l| l.contains("END")).unwrap() + 2), None)
        );
        assert!(matches!(&objects[3].says, Says::Other { what } if what == "X9.42 DH PARAMETERS"));
        assert!(matches!(&objects[4].says, Says::Unreadable { .. }));
        let json = serde_json::to_value(&objects[0]).unwrap();
        assert_eq!((json["kind"].as_str(), json["key"].as_str()), (Some("certificate"), Some("ECDSA P-256")));
    }

    #[test]
    fn an_archive_is_opened() {
        let root = Authority::root("Root");
        let (leaf, key) = root.leaf(&["www.test"]);
        let archive = pkcs12::write(&key.serialize_der(), &[der(&leaf)], "www", "s").unwrap();
        let opened = open(blocks(&archive).unwrap(), Some("s")).unwrap();
        assert_eq!(opened.iter().map(|b| b.kind.clone()).collect::<Vec<_>>(), [Kind::Certificate, Kind::Key]);
        assert!(open(blocks(&archive).unwrap(), None).is_err());
    }
}
