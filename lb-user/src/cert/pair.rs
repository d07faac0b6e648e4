//! A certificate with its key: from the bytes of files to what can be served.

use super::blocks::{Block, BlockError, Kind, blocks};
use super::chain::{self, Chain};
use super::pkcs12::{self, Pkcs12Error};
use super::{Facts, KeyKind};
use tls_worker::api::tls::{TlsError, certified_key};
use tls_worker::api::{self, Der, Secret};
use zeroize::Zeroizing;

/// A chain in order, and the key of its leaf.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Leaf first.
    pub chain: Chain,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: Secret,
    /// What the leaf says.
    pub facts: Facts,
}

/// Which of two files something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// That of the certificates.
    Chain,
    /// That of the key.
    Key,
}

/// Why files make no pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// A file could not be read as what it should be.
    #[error("{error}")]
    File {
        /// Which.
        file: File,
        /// Why.
        error: BlockError,
    },
    /// No certificate in it.
    #[error("it holds no certificate{}", but(.found))]
    NoCertificate {
        /// What it holds instead.
        found: Vec<Kind>,
    },
    /// No key in it.
    #[error("it holds no private key{}", but(.found))]
    NoKey {
        /// What it holds instead.
        found: Vec<Kind>,
    },
    /// More than one.
    #[error("it holds {0} private keys")]
    Keys(usize),
    /// Under a passphrase.
    #[error("its private key is encrypted")]
    Encrypted,
    /// A certificate that is none.
    #[error("certificate {place} cannot be read: {why}")]
    Certificate {
        /// From 1.
        place: usize,
        /// Why.
        why: String,
    },
    /// No certificate for this key.
    #[error("the key belongs to none of its certificates: {}", .subjects.join("; "))]
    Mismatch {
        /// Of the certificates, with the kinds of their keys.
        subjects: Vec<String>,
    },
    /// Nothing that is served.
    #[error("the key cannot be used: {0}")]
    UnusableKey(String),
    /// RSA of fewer than 2048 bits.
    #[error("the key of {subject} is weak: RSA of {bits} bits")]
    WeakKey {
        /// Subject of its certificate.
        subject: String,
        /// Of the modulus.
        bits: u32,
    },
    /// The archive.
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
}

fn but(found: &[Kind]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut words: Vec<String> = Vec::new();
    for kind in found {
        let word = format!("a {kind}");
        if !words.contains(&word) {
            words.push(word);
        }
    }
    format!(", but {}", words.join(" and "))
}

impl PairError {
    /// Which file it is about.
    pub fn file(&self) -> File {
        match self {
            PairError::File { file, .. } => *file,
            PairError::NoKey { .. }
            | PairError::Keys(_)
            | PairError::Encrypted
            | PairError::Mismatch { .. }
            | PairError::UnusableKey(_) => File::Key,
            PairError::NoCertificate { .. }
            | PairError::Certificate { .. }
            | PairError::WeakKey { .. }
            | PairError::Pkcs12(_) => File::Chain,
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            PairError::File { file: File::Chain, .. } | PairError::NoCertificate { .. } => {
                "a PEM file with -----BEGIN CERTIFICATE-----, or DER, is wanted"
            }
            PairError::File { file: File::Key, .. } | PairError::NoKey { .. } => {
                "a PEM file with -----BEGIN PRIVATE KEY----- (PKCS#8), RSA PRIVATE KEY or EC PRIVATE KEY, or DER, is wanted"
            }
            PairError::Keys(_) => "write each key into a file of its own",
            PairError::Encrypted => "write it without a passphrase: openssl pkey -in KEY -out NEW",
            PairError::Certificate { .. } => "check it with: openssl x509 -noout -text -in FILE",
            PairError::Mismatch { .. } => "check that both files are of one renewal",
            PairError::UnusableKey(_) => "RSA of at least 2048 bits, ECDSA P-256 and P-384, and Ed25519 can be used",
            PairError::WeakKey { .. } => "have a certificate made for a key of at least 2048 bits, or ECDSA",
            PairError::Pkcs12(error) => error.remedy(),
        }
    }
}

/// The pair of a file of certificates and a file of a key, both PEM or DER.
pub fn from_files(chain: &[u8], key: &[u8]) -> Result<Pair, PairError> {
    let certificates = certificates(chain)?;
    pair(certificates, self::key(key)?)
}

/// The pair of a PKCS#12 archive.
pub fn from_pkcs12(bytes: &[u8], password: Option<&str>) -> Result<Pair, PairError> {
    let archive = pkcs12::read(bytes, password)?;
    if archive.certificates.is_empty() {
        return Err(PairError::NoCertificate { found: Vec::new() });
    }
    pair(archive.certificates, archive.key.ok_or(PairError::NoKey { found: vec![Kind::Certificate] })?)
}

/// The first line of a password file; no line break belongs to it. None: it is no UTF-8.
pub fn password(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    std::str::from_utf8(line).ok().map(|line| Zeroizing::new(line.to_owned()))
}

/// The certificates of a file; at least one.
pub fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PairError> {
    let found = blocks(bytes).map_err(|error| PairError::File { file: File::Chain, error })?;
    let list: Vec<_> = found.iter().filter(|b| b.kind == Kind::Certificate).map(|b| b.der.to_vec()).collect();
    if list.is_empty() {
        return Err(PairError::NoCertificate { found: found.into_iter().map(|block| block.kind).collect() });
    }
    Ok(list)
}

/// The key of a file.
pub fn key(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, PairError> {
    let found = blocks(bytes).map_err(|error| PairError::File { file: File::Key, error })?;
    let is = |kind: Kind| move |block: &&Block| block.kind == kind;
    match found.iter().filter(is(Kind::Key)).count() {
        1 => {}
        0 if found.iter().any(|block| block.kind == Kind::EncryptedKey) => return Err(PairError::Encrypted),
        0 => return Err(PairError::NoKey { found: found.into_iter().map(|block| block.kind).collect() }),
        many => return Err(PairError::Keys(many)),
    }
    Ok(found.into_iter().find(|block| block.kind == Kind::Key).map(|block| block.der).unwrap_or_default())
}

/// Find the certificate of the key in the heap, and the chain from it on.
pub fn pair(heap: Vec<Vec<u8>>, mut key: Zeroizing<Vec<u8>>) -> Result<Pair, PairError> {
    let facts =
        (1..).zip(&heap).map(|(place, der)| Facts::of(der).map_err(|why| PairError::Certificate { place, why }));
    let facts = facts.collect::<Result<Vec<_>, _>>()?;
    let secret = Secret::new(std::mem::take(&mut *key));
    let (mut leaf, mut unusable) = (None, None);
    for (place, der) in heap.iter().enumerate() {
        let one = api::Certificate { chain: vec![Der(der.clone())], key: secret.clone(), ..Default::default() };
        match certified_key(&one) {
            Ok(_) => {
                leaf = Some(place);
                break;
            }
            Err(TlsError::Rustls(rustls::Error::InconsistentKeys(_))) => {}
            // Such as one of X.509 version 1. The next may be the one.
            Err(TlsError::Rustls(error @ rustls::Error::InvalidCertificate(_))) => {
                unusable = unusable.or(Some(PairError::Certificate { place: place + 1, why: error.to_string() }));
            }
            Err(error) => {
                let weak = facts.iter().find_map(weak);
                return Err(weak.unwrap_or_else(|| PairError::UnusableKey(error.to_string())));
            }
        }
    }
    let Some(leaf) = leaf else {
        let subjects = facts.iter().map(|facts| format!("{} ({})", facts.subject, facts.key)).collect();
        return Err(unusable.unwrap_or(PairError::Mismatch { subjects }));
    };
    if let Some(weak) = weak(&facts[leaf]) {
        return Err(weak);
    }
    let facts = facts.into_iter().nth(leaf);
    let facts = facts.ok_or(PairError::NoCertificate { found: Vec::new() })?;
    Ok(Pair { chain: chain::order(&heap, leaf), key: secret, facts })
}

fn weak(facts: &Facts) -> Option<PairError> {
    match facts.key {
        KeyKind::Rsa(bits) if bits < 2048 => Some(PairError::WeakKey { subject: facts.subject.clone(), bits }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::to_pem;
    use super::super::testing::{Authority, der};
    use super::*;

    fn made() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let root = Authority::root("Root");
        let middle = root.under("Middle");
        let (leaf, key) = middle.leaf(&["www.test"]);
        (der(&leaf), der(&middle.certificate), key.serialize_der())
    }

    #[test]
    fn a_heap_in_any_form_and_order_makes_the_pair() {
        let (leaf, middle, key) = made();
        let pem = to_pem("CERTIFICATE", &middle).to_string() + &to_pem("CERTIFICATE", &leaf);
        let (key_pem, want) = (to_pem("PRIVATE KEY", &key), vec![leaf.clone(), middle.clone()]);
        let all = pem.clone() + &key_pem;
        for (chain, key) in
            [(pem.as_bytes(), key_pem.as_bytes()), (pem.as_bytes(), &key[..]), (all.as_bytes(), all.as_bytes())]
        {
            let pair = from_files(chain, key).unwrap();
            assert_eq!((&pair.chain.certificates, pair.facts.subject.as_str()), (&want, "CN=www.test"));
        }
        assert_eq!(from_files(&leaf, &key).unwrap().chain.lacks.unwrap().name, "CN=Middle");
        let archive = pkcs12::write(&key, &want, "www", "s").unwrap();
        assert_eq!(from_pkcs12(&archive, Some("s")).unwrap().chain.certificates, want);
    }

    #[test]
    fn what_makes_no_pair_is_said() {
        let (leaf, middle, key) = made();
        let pem = to_pem("CERTIFICATE", &leaf);
        let other = made().2;
        let said = |chain: &[u8], key: &[u8]| from_files(chain, key).unwrap_err();
        let mismatch = said(pem.as_bytes(), &other);
        assert_eq!(mismatch.to_string(), "the key belongs to none of its certificates: CN=www.test (ECDSA P-256)");
        assert_eq!(mismatch.file(), File::Key);
        assert_eq!(said(&key, &key).to_string(), "it holds no certificate, but a private key");
        assert_eq!(said(&leaf, &leaf).to_string(), "it holds no private key, but a certificate");
        assert_eq!(said(b"x", &key).file(), File::Chain);
        let two = to_pem("PRIVATE KEY", &key).repeat(2);
        assert_eq!(said(&leaf, two.as_bytes()), PairError::Keys(2));
        let encrypted = to_pem("ENCRYPTED PRIVATE KEY", &key);
        assert_eq!(said(&leaf, encrypted.as_bytes()), PairError::Encrypted);
        let nonsense = to_pem("CERTIFICATE", &middle[..40]);
        assert!(said(nonsense.as_bytes(), &key).to_string().starts_with("certificate 1 cannot be read"));
        assert!(matches!(said(&leaf, to_pem("PRIVATE KEY", b"zz").as_bytes()), PairError::UnusableKey(_)));
        let alone = pkcs12::write(&key, &[], "www", "s").unwrap();
        assert!(matches!(from_pkcs12(&alone, Some("s")), Err(PairError::NoCertificate { .. })));
    }
}
