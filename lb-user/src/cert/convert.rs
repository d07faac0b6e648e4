//! One form into another: PEM, DER, PKCS#12.

use super::blocks::{Block, Kind, to_pem};
use super::pkcs12::{self, Pkcs12Error};
use super::{Facts, chain, public};
use zeroize::Zeroizing;

/// Forms that files are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Text; any number of objects
    Pem,
    /// One object
    Der,
    /// A key with its certificates, under a password
    Pkcs12,
}

/// Why it cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Nothing that can be written.
    #[error("there is nothing to write")]
    Nothing,
    /// DER holds one object.
    #[error("DER holds one object, and there are {0}: {1}")]
    Many(usize, String),
    /// A PKCS#12 archive needs something.
    #[error("a PKCS#12 archive needs {0}")]
    Lacks(&'static str),
    /// More than one key.
    #[error("there are {0} private keys")]
    Keys(usize),
    /// No certificate of the key.
    #[error("the key belongs to none of the certificates: {0}")]
    Mismatch(String),
    /// The key.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// Under a passphrase.
    #[error("the private key is encrypted")]
    Encrypted,
    /// The archive.
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
}

impl ConvertError {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            ConvertError::Nothing => "name a file that holds a certificate, key, request or revocation list",
            ConvertError::Many(..) => "write --to pem, which holds many; or convert a file that holds one",
            ConvertError::Lacks(_) => "name them: --key FILE, --chain FILE, --password-file FILE",
            ConvertError::Keys(_) => "name files that hold one key together",
            ConvertError::Mismatch(_) => "check that all files are of one renewal: bailey cert inspect FILE...",
            ConvertError::Key(_) => "RSA, ECDSA and Ed25519 in PKCS#8, PKCS#1 or SEC1 can be converted",
            ConvertError::Encrypted => "write it without a passphrase: openssl pkey -in KEY -out NEW",
            ConvertError::Pkcs12(error) => error.remedy(),
        }
    }
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The file.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether a key is in it, so that nobody else may read it.
    pub secret: bool,
}

/// Write objects in another form. Certificates are put in order, leaf first, by the key where there is one; a root is kept.
pub fn convert(objects: Vec<Block>, to: Form, password: Option<&str>) -> Result<Converted, ConvertError> {
    let (mut certificates, mut keys, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for block in objects {
        match block.kind {
            Kind::Certificate => certificates.push(block.der.to_vec()),
            Kind::Key => keys.push(block.der),
            Kind::EncryptedKey => return Err(ConvertError::Encrypted),
            Kind::Crl => others.push(("X509 CRL", block.der)),
            Kind::Request => others.push(("CERTIFICATE REQUEST", block.der)),
            // An archive was opened before; what is not known is not carried over.
            Kind::Pkcs12 | Kind::Other(_) => {}
        }
    }
    keys.dedup();
    if keys.len() > 1 {
        return Err(ConvertError::Keys(keys.len()));
    }
    let certificates = in_order(certificates, keys.first())?;
    let key = keys.pop();
    match to {
        Form::Pem => pem(&certificates, key, &others),
        Form::Der => der(certificates, key, others),
        Form::Pkcs12 => {
            let key = key.ok_or(ConvertError::Lacks("a private key"))?;
            let leaf = certificates.first().ok_or(ConvertError::Lacks("a certificate"))?;
            let password = password.ok_or(ConvertError::Lacks("a password"))?;
            let name = Facts::of(leaf).map_or_else(|_| "certificate".into(), |facts| facts.subject);
            let key = public::to_pkcs8(&key).map_err(ConvertError::Key)?;
            let bytes = Zeroizing::new(pkcs12::write(&key, &certificates, &name, password)?);
            Ok(Converted { bytes, secret: true })
        }
    }
}

fn in_order(heap: Vec<Vec<u8>>, key: Option<&Zeroizing<Vec<u8>>>) -> Result<Vec<Vec<u8>>, ConvertError> {
    if heap.is_empty() {
        return Ok(heap);
    }
    let leaf = match key {
        None => chain::likely_leaf(&heap),
        Some(key) => {
            let public = public::public_key(key).map_err(ConvertError::Key)?;
            let subjects =
                || heap.iter().map(|der| Facts::of(der).map_or("(unreadable)".into(), |facts| facts.subject));
            let place = heap.iter().position(|der| public::of_certificate(der).as_deref() == Some(&public[..]));
            place.ok_or_else(|| ConvertError::Mismatch(subjects().collect::<Vec<_>>().join("; ")))?
        }
    };
    let chain = chain::order(&heap, leaf);
    let ordered: Vec<Vec<u8>> = chain.certificates.into_iter().chain(chain.root).collect();
    // What belongs to nothing is kept, behind: a bundle of authorities is no chain.
    let rest: Vec<Vec<u8>> = heap.into_iter().filter(|der| !ordered.contains(der)).collect();
    Ok(ordered.into_iter().chain(rest).collect())
}

fn pem(
    certificates: &[Vec<u8>],
    key: Option<Zeroizing<Vec<u8>>>,
    others: &[(&str, Zeroizing<Vec<u8>>)],
) -> Result<Converted, ConvertError> {
    let mut texts: Vec<Zeroizing<String>> = certificates.iter().map(|der| to_pem("CERTIFICATE", der)).collect();
    texts.extend(others.iter().map(|(label, der)| to_pem(label, der)));
    texts.extend(key.iter().map(|key| to_pem(public::label(key), key)));
    if texts.is_empty() {
        return Err(ConvertError::Nothing);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(texts.iter().map(|text| text.len()).sum()));
    texts.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
    Ok(Converted { bytes, secret: key.is_some() })
}

fn der(
    certificates: Vec<Vec<u8>>,
    key: Option<Zeroizing<Vec<u8>>>,
    others: Vec<(&str, Zeroizing<Vec<u8>>)>,
) -> Result<Converted, ConvertError> {
    let counts = [("certificates", certificates.len()), ("keys", usize::from(key.is_some())), ("others", others.len())];
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    if total > 1 {
        let words = counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
        return Err(ConvertError::Many(total, words.collect::<Vec<_>>().join(", ")));
    }
    let secret = key.is_some();
    let one =
        certificates.into_iter().map(Zeroizing::new).chain(key).chain(others.into_iter().map(|(_, der)| der)).next();
    Ok(Converted { bytes: one.ok_or(ConvertError::Nothing)?, secret })
}

#[cfg(test)]
mod tests {
    use super::super::blocks::blocks;
    use super::super::testing::{Authority, der};
    use super::super::{inspect, pair};
    use super::*;

    fn made() -> (Vec<Vec<u8>>, Vec<u8>) {
        let root = Authority::root("Root");
        let middle = root.under("Middle");
        let (leaf, key) = middle.leaf(&["www.test"]);
        (vec![der(&leaf), der(&middle.certificate), der(&root.certificate)], key.serialize_der())
    }

    fn objects(certificates: &[Vec<u8>], key: Option<&[u8]>) -> Vec<Block> {
        let block = |kind: Kind, der: &[u8]| Block { kind, der: Zeroizing::new(der.to_vec()), line: 0 };
        let list = certificates.iter().map(|der| block(Kind::Certificate, der));
        list.chain(key.map(|key| block(Kind::Key, key))).collect()
    }

    #[test]
    fn every_form_leads_to_every_other() {
        let (chain, key) = made();
        let shuffled = [chain[2].clone(), chain[0].clone(), chain[1].clone()];
        let pem = convert(objects(&shuffled, Some(&key)), Form::Pem, None).unwrap();
        assert!(pem.secret);
        assert_eq!(pair::certificates(&pem.bytes).unwrap(), chain);
        let archive = convert(blocks(&pem.bytes).unwrap(), Form::Pkcs12, Some("s")).unwrap();
        let opened = inspect::open(blocks(&archive.bytes).unwrap(), Some("s")).unwrap();
        assert_eq!(convert(opened, Form::Pem, None).unwrap(), pem);
        let one = convert(objects(&chain[..1], None), Form::Der, None).unwrap();
        assert_eq!((&*one.bytes, one.secret), (&chain[0], false));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let (chain, key) = made();
        let said = |objects, to, password| convert(objects, to, password).unwrap_err();
        assert_eq!(said(Vec::new(), Form::Pem, None), ConvertError::Nothing);
        assert_eq!(
            said(objects(&chain, Some(&key)), Form::Der, None),
            ConvertError::Many(4, "3 certificates, 1 keys".into())
        );
        assert_eq!(said(objects(&chain, None), Form::Pkcs12, Some("s")), ConvertError::Lacks("a private key"));
        assert_eq!(said(objects(&[], Some(&key)), Form::Pkcs12, Some("s")), ConvertError::Lacks("a certificate"));
        assert_eq!(said(objects(&chain, Some(&key)), Form::Pkcs12, None), ConvertError::Lacks("a password"));
        let other = made().1;
        let mismatch = said(objects(&chain[..1], Some(&other)), Form::Pem, None);
        assert_eq!(mismatch, ConvertError::Mismatch("CN=www.test".into()));
        let two = [objects(&[], Some(&key)), objects(&[], Some(&other))].concat();
        assert_eq!(said(two, Form::Pem, None), ConvertError::Keys(2));
    }
}
