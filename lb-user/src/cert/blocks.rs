//! What a file of certificates and keys holds: PEM (RFC 7468), many blocks, or DER, one object.
//!
//! PEM is read here and not by a library, for the sake of two things: what is wrong is told with its line, and no copy of a
//! key is left behind unwiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate, X509CertificationRequest};
use zeroize::{Zeroize as _, Zeroizing};

/// More blocks are in no file that is meant to be read.
const MAX_BLOCKS: usize = 4096;

/// One object of a file. What it holds was not looked into, but for DER files, where that tells what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// DER; empty where OpenSSL's own encryption (`Proc-Type: 4,ENCRYPTED`) covers it.
    pub der: Zeroizing<Vec<u8>>,
    /// Line of its begin, from 1; 0: the file is DER.
    pub line: usize,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// X.509 certificate.
    Certificate,
    /// Private key: PKCS#8, PKCS#1 or SEC1.
    Key,
    /// Private key under a passphrase.
    EncryptedKey,
    /// Revocation list.
    Crl,
    /// PKCS#10 certification request.
    Request,
    /// PKCS#12 archive.
    Pkcs12,
    /// Something else; its PEM label.
    Other(String),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Certificate => "certificate",
            Kind::Key => "private key",
            Kind::EncryptedKey => "encrypted private key",
            Kind::Crl => "revocation list",
            Kind::Request => "certification request",
            Kind::Pkcs12 => "PKCS#12 archive",
            Kind::Other(label) => label,
        })
    }
}

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// No byte.
    #[error("it is empty")]
    Empty,
    /// Neither PEM nor DER of a known kind.
    #[error("it is neither PEM nor DER of a certificate, key, request, revocation list or PKCS#12")]
    Unknown,
    /// A DER object ends before the file does.
    #[error("{0} bytes follow the DER object")]
    Trailing(usize),
    /// `-----BEGIN X-----` without an end.
    #[error("line {line}: the block {label:?} has no END line")]
    NoEnd {
        /// Of the BEGIN line.
        line: usize,
        /// Its label.
        label: String,
    },
    /// What stands between is no base64.
    #[error("line {line}: what the block {label:?} holds is no base64")]
    Base64 {
        /// Of the BEGIN line.
        line: usize,
        /// Its label.
        label: String,
    },
    /// A file that was not made for this.
    #[error("more than {MAX_BLOCKS} blocks")]
    TooMany,
}

/// The objects of a file, in its order.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block>, BlockError> {
    if bytes.trim_ascii().is_empty() {
        return Err(BlockError::Empty);
    }
    let pem = bytes.split(|byte| *byte == b'\n').any(|line| begin(line).is_some());
    if pem { from_pem(bytes) } else { from_der(bytes).map(|block| vec![block]) }
}

fn begin(line: &[u8]) -> Option<String> {
    label(line, b"-----BEGIN ")
}

fn label(line: &[u8], mark: &[u8]) -> Option<String> {
    let label = line.trim_ascii().strip_prefix(mark)?.strip_suffix(b"-----")?;
    let plain = label.len() <= 64 && label.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    plain.then(|| String::from_utf8_lossy(label).into_owned())
}

fn from_pem(bytes: &[u8]) -> Result<Vec<Block>, BlockError> {
    let mut found = Vec::new();
    // Label, its line, whether it is encrypted by headers, and the base64 so far.
    let mut open: Option<(String, usize, bool, Zeroizing<Vec<u8>>)> = None;
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let Some((name, from, encrypted, base64)) = &mut open else {
            // No base64 is longer than the file: the buffer never moves, so no copy of a key is left behind.
            open = begin(text).map(|label| (label, line, false, Zeroizing::new(Vec::with_capacity(bytes.len()))));
            continue;
        };
        if label(text, b"-----END ").as_ref() == Some(name) {
            let mut der = Zeroizing::new(vec![0; base64.len() / 4 * 3 + 3]);
            let no_base64 = || BlockError::Base64 { line: *from, label: name.clone() };
            if *encrypted {
                der.clear();
            } else {
                let length = STANDARD.decode_slice(&base64[..], &mut der).map_err(|_| no_base64())?;
                der.truncate(length);
            }
            let kind = if *encrypted { Kind::EncryptedKey } else { kind(name) };
            found.push(Block { kind, der, line: *from });
            if found.len() > MAX_BLOCKS {
                return Err(BlockError::TooMany);
            }
            open = None;
        } else if begin(text).is_some() {
            break;
        } else if text.contains(&b':') {
            // RFC 1421, 4.6.1.1; RFC 7468 has no headers.
            *encrypted |= text.starts_with(b"Proc-Type:") && text.trim_ascii_end().ends_with(b"ENCRYPTED");
        } else {
            base64.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }
    match open {
        Some((label, line, ..)) => Err(BlockError::NoEnd { line, label }),
        None => Ok(found),
    }
}

fn kind(label: &str) -> Kind {
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" => Kind::Certificate,
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Kind::Key,
        "ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
        "X509 CRL" => Kind::Crl,
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Kind::Request,
        "PKCS12" => Kind::Pkcs12,
        other => Kind::Other(other.to_owned()),
    }
}

fn from_der(bytes: &[u8]) -> Result<Block, BlockError> {
    let (rest, outer) = Any::from_der(bytes).map_err(|_| BlockError::Unknown)?;
    if outer.tag() != Tag::Sequence {
        return Err(BlockError::Unknown);
    }
    // Windows ends some files with a line break.
    if !rest.trim_ascii().is_empty() {
        return Err(BlockError::Trailing(rest.len()));
    }
    let der = &bytes[..bytes.len() - rest.len()];
    let kind = if X509Certificate::from_der(der).is_ok() {
        Kind::Certificate
    } else if X509CertificationRequest::from_der(der).is_ok() {
        Kind::Request
    } else if CertificateRevocationList::from_der(der).is_ok() {
        Kind::Crl
    } else if is_pkcs12(outer.data) {
        Kind::Pkcs12
    } else if is_encrypted_key(outer.data) {
        Kind::EncryptedKey
    } else if PrivateKeyDer::try_from(der).is_ok() {
        Kind::Key
    } else {
        return Err(BlockError::Unknown);
    };
    Ok(Block { kind, der: Zeroizing::new(der.to_vec()), line: 0 })
}

/// PFX (RFC 7292, 4): version 3, then a ContentInfo, which begins with an object identifier.
fn is_pkcs12(content: &[u8]) -> bool {
    let Some((first, rest)) = Any::from_der(content).ok().map(|(rest, first)| (first, rest)) else { return false };
    first.tag() == Tag::Integer && first.data == [3] && begins_with_identifier(rest)
}

/// EncryptedPrivateKeyInfo (RFC 5208, 6): an algorithm, then an octet string.
fn is_encrypted_key(content: &[u8]) -> bool {
    let second = Any::from_der(content).ok().and_then(|(rest, _)| Any::from_der(rest).ok());
    begins_with_identifier(content) && second.is_some_and(|(_, second)| second.tag() == Tag::OctetString)
}

fn begins_with_identifier(bytes: &[u8]) -> bool {
    let Ok((_, sequence)) = Any::from_der(bytes) else { return false };
    sequence.tag() == Tag::Sequence && Any::from_der(sequence.data).is_ok_and(|(_, first)| first.tag() == Tag::Oid)
}

/// PEM of some DER, lines of 64 (RFC 7468, 2); wiped when it goes.
pub fn to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut base64 = STANDARD.encode(der);
    let mut pem = Zeroizing::new(String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in base64.as_bytes().chunks(64) {
        // Base64 is ASCII.
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    base64.zeroize();
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made() -> (Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".into()]).unwrap();
        (made.cert.der().to_vec(), made.signing_key.serialize_der())
    }

    #[test]
    fn pem_and_der_are_told_apart_and_read() {
        let (certificate, key) = made();
        let text = format!(
            "Bag Attributes: x\r\n{}\n# between\n{}",
            to_pem("CERTIFICATE", &certificate).replace('\n', "\r\n"),
            *to_pem("PRIVATE KEY", &key)
        );
        let found = blocks(text.as_bytes()).unwrap();
        assert_eq!(found.iter().map(|b| b.kind.clone()).collect::<Vec<_>>(), [Kind::Certificate, Kind::Key]);
        assert_eq!((&*found[0].der, &*found[1].der, found[0].line), (&certificate, &key, 2));
        for (der, kind) in [(&certificate, Kind::Certificate), (&key, Kind::Key)] {
            let found = blocks(der).unwrap();
            assert_eq!((found[0].kind.clone(), found[0].line), (kind, 0));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let (certificate, _) = made();
        let pem = to_pem("CERTIFICATE", &certificate);
        let said = |text: &str| blocks(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(said(" \n"), "it is empty");
        assert_eq!(said("hello"), BlockError::Unknown.to_string());
        assert!(said(&format!("\n{}", pem.replace("-----END", "-----AND"))).starts_with("line 2: the block"));
        assert!(said(&format!("{}{}", pem.replace("-----END CERTIFICATE-----", ""), *pem)).contains("no END line"));
        assert!(said(&pem.replacen("MII", "M*I", 1)).contains("no base64"));
        let twice = [certificate.clone(), certificate].concat();
        assert!(matches!(blocks(&twice), Err(BlockError::Trailing(n)) if n * 2 == twice.len()));
    }

    #[test]
    fn an_encrypted_key_is_known_as_one() {
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let new = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for text in [old, new, &old.replace('\n', "\r\n")] {
            assert_eq!(blocks(text.as_bytes()).unwrap()[0].kind, Kind::EncryptedKey);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "(-----BEGIN A-----\n)?[A-Za-z0-9+/=:\n-]{0,80}") {
            let _ = (blocks(&bytes), blocks(text.as_bytes()));
        }

        #[test]
        fn what_is_written_is_read(der in prop::collection::vec(any::<u8>(), 0..300)) {
            let found = blocks(to_pem("CERTIFICATE", &der).as_bytes()).unwrap();
            prop_assert_eq!(&*found[0].der, &der);
        }
    }
}
