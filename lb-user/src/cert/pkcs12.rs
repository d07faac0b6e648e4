//! PKCS#12 archives (RFC 7292): one key and the certificates around it.

use p12_keystore::error::Error;
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, Pkcs12Archive, PrivateKey, PrivateKeyChain};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use zeroize::Zeroizing;

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// PKCS#8; at most one.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// DER, in the archive's order.
    pub certificates: Vec<Vec<u8>>,
}

/// Why an archive could not be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs12Error {
    /// It is there and not empty, and wrong.
    #[error("the password is wrong, or the file was changed")]
    Password,
    /// Nothing was given, and the archive wants something.
    #[error("it has a password, and none is given")]
    NoPassword,
    /// A cipher or MAC that is not understood.
    #[error("it is encrypted in a way that is not understood ({0})")]
    Algorithm(String),
    /// More than one key.
    #[error("it holds {0} private keys")]
    Keys(usize),
    /// Iterations or memory over what a file may ask for.
    #[error("it asks for more work than a file may: {0}")]
    Work(String),
    /// No PKCS#12.
    #[error("it is no PKCS#12 archive: {0}")]
    Malformed(String),
}

impl Pkcs12Error {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Pkcs12Error::Password => "write the archive's password as the first line of the password file",
            Pkcs12Error::NoPassword => "name a file that holds its password as the first line",
            Pkcs12Error::Algorithm(_) | Pkcs12Error::Work(_) => {
                "make it anew with AES: openssl pkcs12 -legacy -in OLD -nodes -out ALL.pem; openssl pkcs12 -export -in ALL.pem -out NEW"
            }
            Pkcs12Error::Keys(_) => "write one archive for each key, or PEM files: openssl pkcs12 -in FILE -nodes",
            Pkcs12Error::Malformed(_) => "check it with: openssl pkcs12 -in FILE -info -noout",
        }
    }
}

/// Open an archive. An absent password is tried as the empty one.
pub fn read(bytes: &[u8], password: Option<&str>) -> Result<Archive, Pkcs12Error> {
    let archive = Pkcs12Archive::from_pkcs12(bytes, password.unwrap_or_default()).map_err(|error| match error {
        Error::MacError(_) | Error::Pkcs5Error(_) | Error::UnpadError if password.is_none() => Pkcs12Error::NoPassword,
        // A wrong password is found by the MAC; without one, by what decryption gives.
        Error::MacError(_) | Error::Pkcs5Error(_) | Error::UnpadError => Pkcs12Error::Password,
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            Pkcs12Error::Algorithm(error.to_string())
        }
        Error::InvalidParameters => Pkcs12Error::Work(error.to_string()),
        other => Pkcs12Error::Malformed(other.to_string()),
    })?;
    if archive.keys.len() > 1 {
        return Err(Pkcs12Error::Keys(archive.keys.len()));
    }
    Ok(Archive {
        key: archive.keys.first().map(|bag| Zeroizing::new(bag.key.as_der().to_vec())),
        certificates: archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect(),
    })
}

/// Make an archive of a PKCS#8 key and its chain, leaf first; AES-256 by PBKDF2, MAC by HMAC-SHA-256 (RFC 9579 aside,
/// what OpenSSL 3 writes by itself).
pub fn write(key: &[u8], chain: &[Vec<u8>], name: &str, password: &str) -> Result<Vec<u8>, Pkcs12Error> {
    let malformed = |error: Error| Pkcs12Error::Malformed(error.to_string());
    let certificates =
        chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    // What ties key and certificate together; OpenSSL takes the SHA-1 of the certificate, too.
    let id = digest(&SHA1_FOR_LEGACY_USE_ONLY, chain.first().map(Vec::as_slice).unwrap_or_default());
    let key = PrivateKey::from_der(key).map_err(malformed)?;
    let mut store = KeyStore::new();
    store.add_entry(name, KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(id.as_ref(), key, certificates)));
    store.writer(password).write().map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::testing::{Authority, der};
    use proptest::prelude::*;

    fn made() -> (Vec<u8>, Vec<Vec<u8>>) {
        let root = Authority::root("Root");
        let (leaf, key) = root.leaf(&["www.test"]);
        (key.serialize_der(), vec![der(&leaf), der(&root.certificate)])
    }

    #[test]
    fn what_is_written_is_read_with_its_password_alone() {
        let (key, chain) = made();
        let bytes = write(&key, &chain, "www", "secret").unwrap();
        let archive = read(&bytes, Some("secret")).unwrap();
        assert_eq!((&**archive.key.as_ref().unwrap(), &archive.certificates), (&key, &chain));
        assert_eq!(read(&bytes, Some("Secret")), Err(Pkcs12Error::Password));
        assert_eq!(read(&bytes, None), Err(Pkcs12Error::NoPassword));
    }

    #[test]
    fn other_files_are_told() {
        let (key, chain) = made();
        for bytes in [&b""[..], b"hello", &chain[0], &key] {
            assert!(matches!(read(bytes, Some("x")), Err(Pkcs12Error::Malformed(_))));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_make_it_panic(at in any::<prop::sample::Index>(), with: u8) {
            let (key, chain) = made();
            let mut bytes = write(&key, &chain, "www", "s").unwrap();
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = read(&bytes, Some("s"));
        }
    }
}
