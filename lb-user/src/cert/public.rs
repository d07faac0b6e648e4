//! Private keys seen from outside: the public half, and PKCS#8 of other forms.

use super::facts::{self, KeyKind};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivateKeyDer;
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

/// A key of DER, to sign with; what is wrong with it else.
pub(super) fn pair(key: &[u8]) -> Result<KeyPair, String> {
    KeyPair::try_from(key).map_err(|error| error.to_string())
}

/// SubjectPublicKeyInfo of a private key, DER.
pub fn public_key(key: &[u8]) -> Result<Vec<u8>, String> {
    Ok(pair(key)?.subject_public_key_info())
}

/// SubjectPublicKeyInfo of a certificate, DER.
pub fn of_certificate(certificate: &[u8]) -> Option<Vec<u8>> {
    X509Certificate::from_der(certificate).ok().map(|(_, one)| one.public_key().raw.to_vec())
}

/// Kind of a public key in DER.
pub fn kind(public: &[u8]) -> Option<KeyKind> {
    SubjectPublicKeyInfo::from_der(public).ok().map(|(_, key)| facts::key_kind(&key))
}

/// PEM label of a private key in DER.
pub fn label(key: &[u8]) -> &'static str {
    match PrivateKeyDer::try_from(key) {
        Ok(PrivateKeyDer::Pkcs1(_)) => "RSA PRIVATE KEY",
        Ok(PrivateKeyDer::Sec1(_)) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    }
}

/// The same key as PKCS#8 of version 1 (RFC 5208, 5). OpenSSL 3.0 takes no version 2 (RFC 5958), which has the public key
/// besides.
pub fn to_pkcs8(key: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let split = |der| Any::from_der(der).map_err(|error| error.to_string());
    if matches!(PrivateKeyDer::try_from(key), Ok(PrivateKeyDer::Pkcs8(_))) {
        let (_, outer) = split(key)?;
        let (after_version, _) = split(outer.data)?;
        let (after_algorithm, _) = split(after_version)?;
        let (rest, _) = split(after_algorithm)?;
        let both = &after_version[..after_version.len() - rest.len()];
        return Ok(tlv(0x30, &[VERSION_1, both]));
    }
    let public = public_key(key)?;
    // Of RSA and of elliptic curves, the algorithm of the private key is written as that of the public one, whose first
    // element it is.
    let (_, outer) = split(&public)?;
    let (rest, _) = split(outer.data)?;
    let algorithm = &outer.data[..outer.data.len() - rest.len()];
    Ok(tlv(0x30, &[VERSION_1, algorithm, &tlv(0x04, &[key])]))
}

/// The integer 0.
const VERSION_1: &[u8] = &[0x02, 0x01, 0x00];

/// DER of a tag and its content.
fn tlv(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // At once of its size: a buffer that grows leaves copies of a key behind.
    let mut der = Zeroizing::new(Vec::with_capacity(length + 10));
    der.push(tag);
    let digits = length.to_be_bytes();
    let digits = &digits[digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len() - 1)..];
    if length >= 0x80 {
        der.push(0x80 | digits.len() as u8);
    }
    der.extend_from_slice(digits);
    parts.iter().for_each(|part| der.extend_from_slice(part));
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_certificate_have_the_same_public_half() {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".into()]).unwrap();
        let key = made.signing_key.serialize_der();
        assert_eq!(public_key(&key).ok(), of_certificate(made.cert.der()));
        assert_eq!(kind(&public_key(&key).unwrap()), Some(KeyKind::EcdsaP256));
        let pkcs8 = to_pkcs8(&key).unwrap();
        assert_eq!((label(&key), label(&pkcs8)), ("PRIVATE KEY", "PRIVATE KEY"));
        assert_eq!(public_key(&pkcs8), public_key(&key));
        let two = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_der();
        let one = to_pkcs8(&two).unwrap();
        assert_eq!((two[4], one[4], one.len()), (1, 0, 48));
        assert_eq!(public_key(&one), public_key(&two));
        assert!(to_pkcs8(b"no key").is_err() && public_key(b"").is_err());
    }

    #[test]
    fn lengths_are_der() {
        for (length, head) in
            [(0, vec![4, 0]), (127, vec![4, 127]), (128, vec![4, 0x81, 128]), (256, vec![4, 0x82, 1, 0])]
        {
            assert_eq!(tlv(4, &[&vec![7; length]])[..head.len()], head);
        }
    }
}
