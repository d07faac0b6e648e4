//! Certificates with their keys, and what can be wrong with the words of a snapshot's TLS.

use super::provider;
use crate::api;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// What is wrong with a certificate or a TLS table.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key's DER is of no known form.
    #[error("the private key is neither PKCS#8, PKCS#1 nor SEC1: {0}")]
    Key(&'static str),
    /// The chain has no certificate.
    #[error("the chain is empty")]
    EmptyChain,
    /// No certificate to serve with.
    #[error("no certificate: name at least one")]
    NoCertificate,
    /// rustls refuses it.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The roots that a backend is verified against.
    #[error("{0}")]
    Roots(String),
    /// A place in the snapshot's certificates.
    #[error("points to certificate {index} of {have}")]
    NoSuchCertificate {
        /// The place.
        index: usize,
        /// How many there are.
        have: usize,
    },
    /// A name of two policies.
    #[error("the policies of a service have the name {0:?} twice")]
    NameTwice(String),
    /// Not one of [`super::known_suites`].
    #[error("no cipher suite {0:?} can be served")]
    Suite(String),
    /// Not one of [`super::known_groups`].
    #[error("no key exchange group {0:?} can be served")]
    Group(String),
    /// Lowest above highest.
    #[error("the lowest version of TLS is above the highest")]
    Versions,
    /// No header value.
    #[error("hsts {0:?} is no header value")]
    Hsts(String),
    /// Clients are asked for certificates of nobody.
    #[error("clients are asked for a certificate, but no certificate authority is given")]
    NoClientCa,
    /// A root of clients' certificates.
    #[error("certificate authority {index} is no certificate that can vouch for clients: {error}")]
    ClientCa {
        /// Its place in [`api::ClientCertRules::roots`].
        index: usize,
        /// What is wrong.
        error: webpki::Error,
    },
    /// A header that tells backends of a client's certificate.
    #[error("client certificate header {0:?} is no header name")]
    HeaderName(String),
    /// One that is not free for that.
    #[error("client certificate header {0:?} belongs to the message or to the edge: name another")]
    HeaderReserved(String),
    /// A revocation list.
    #[error("revocation list {index} is none that is understood (whole, direct, version 2): {error}")]
    Crl {
        /// Its place in [`api::ClientCertRules::crls`].
        index: usize,
        /// What is wrong.
        error: webpki::Error,
    },
    /// The name that a backend is verified by.
    #[error("server_name {0:?} is no host name")]
    ServerName(String),
    /// The name that a backend is asked for.
    #[error("sni {0:?} is no host name")]
    Sni(String),
    /// Another name is asked for, and none is there to verify.
    #[error("sni is another name than the one that is verified: say that one as server_name, too")]
    SniAlone,
    /// An application protocol.
    #[error("alpn {0:?} is not of 1 to 255 bytes")]
    Alpn(String),
    /// The certificate that backends are shown: its name, what is wrong.
    #[error("certificate {0:?}: {1}")]
    ClientCertificate(String, Box<TlsError>),
}

/// Parse a certificate with its key, and see that they belong together.
pub fn certified_key(certificate: &api::Certificate) -> Result<Arc<CertifiedKey>, TlsError> {
    if certificate.chain.is_empty() {
        return Err(TlsError::EmptyChain);
    }
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.0.clone())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.expose().to_vec()).map_err(TlsError::Key)?;
    let mut ready = provider::certified_key(chain, key)?;
    ready.ocsp = certificate.staple.as_ref().map(|staple| staple.0.clone());
    Ok(Arc::new(ready))
}
