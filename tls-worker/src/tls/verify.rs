//! Trust in a backend's certificate: chain and name against given roots, or, where the operator wrote
//! `verify = false`, none. Around either, what else is asked: another name than SNI says, a pinned key.

use super::provider;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Verifies chain and name against `roots`. The error says which root is no certificate, or that there are none.
pub(super) fn against(roots: &[crate::api::Der]) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut store = RootCertStore::empty();
    for (i, root) in roots.iter().enumerate() {
        store.add(CertificateDer::from(root.0.as_slice())).map_err(|e| format!("root {i}: {e}"))?;
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider::provider());
    let verifier = builder.build().map_err(|e| format!("roots: {e}"))?;
    Ok(verifier)
}

/// Takes every certificate. The handshake's signature is still checked, so a peer must have the key of what it shows.
#[derive(Debug)]
pub(super) struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &provider::provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &provider::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The key is none of the pinned ones.
#[derive(Debug, thiserror::Error)]
#[error("the key of the certificate is none of the pinned ones: its pin is sha256/{pin}")]
pub(crate) struct PinMismatch {
    /// Base64 of the SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) pin: String,
}

/// Takes what the inner one takes under another name, or only if its key is pinned.
#[derive(Debug)]
pub(super) struct Stricter {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    /// Verified instead of the name that the handshake began with.
    pub(super) name: Option<ServerName<'static>>,
    /// SHA-256 of SubjectPublicKeyInfos, one of which the key must have (RFC 7469, 2.4); empty: any.
    pub(super) pins: Vec<[u8; 32]>,
}

impl Stricter {
    fn check_pins(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let key = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
        let digest = provider::sha256(&[&key]);
        if self.pins.contains(&digest) {
            return Ok(());
        }
        let mismatch = PinMismatch { pin: STANDARD.encode(digest) };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch)))))
    }
}

impl ServerCertVerifier for Stricter {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.name.as_ref().unwrap_or(name);
        let verified = self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        self.check_pins(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
