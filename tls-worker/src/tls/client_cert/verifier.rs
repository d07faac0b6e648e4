//! The verifier that rustls asks in the handshake. Where a certificate is required, it decides there, and the client gets
//! the alert that says what is wrong. Where it is optional, nothing is decided there but that the client has the key:
//! [`super::Peer`] looks at the chain when the handshake is done.

use super::fault::certificate_error;
use super::rules::ClientAuth;
use crate::api::ClientCertMode;
use crate::tls::provider;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use webpki::EndEntityCert;

/// See the module.
#[derive(Debug)]
pub(crate) struct Verifier(pub(crate) Arc<ClientAuth>);

impl Verifier {
    /// A certificate that cannot be read is no certificate where one is optional: there is no key whose possession
    /// could be shown, and nobody is told of it.
    fn is_as_none(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.mode == ClientCertMode::Optional && EndEntityCert::try_from(certificate).is_err()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.0.mode == ClientCertMode::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.0.mode == ClientCertMode::Required {
            let verified = self.0.verify(leaf, intermediates, now);
            verified.map_err(|e| Error::InvalidCertificate(certificate_error(&e)))?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.is_as_none(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signed, &provider::signature_algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.is_as_none(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signed, &provider::signature_algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::signature_algorithms().supported_schemes()
    }
}
