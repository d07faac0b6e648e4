//! TLS of checks: verified like the worker's requests to the same pool.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tls_worker::api::UpstreamTls;

/// How to speak TLS with the backends of a pool.
#[derive(Debug)]
pub struct Client {
    /// Roots and versions.
    pub config: Arc<ClientConfig>,
    /// Name that is sent and verified; none: the backend's address.
    pub server_name: Option<ServerName<'static>>,
}

impl Client {
    /// From the pool's settings.
    pub fn new(tls: &UpstreamTls) -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let mut config = if tls.verify {
            let mut roots = RootCertStore::empty();
            // The system's bundle may hold a root that rustls cannot parse; the others still count.
            roots.add_parsable_certificates(tls.roots.iter().map(|der| CertificateDer::from(der.0.clone())));
            builder.with_root_certificates(roots).with_no_client_auth()
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.enable_sni = tls.server_name.is_some();
        let server_name = tls
            .server_name
            .clone()
            .map(ServerName::try_from)
            .transpose()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        Ok(Self { config: Arc::new(config), server_name })
    }
}

/// `verify = false`: any chain and name will do. The peer must still hold the key of what it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
