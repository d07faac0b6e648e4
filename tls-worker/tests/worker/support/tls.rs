//! Certificates, and TLS for the tests' own clients and backends.

use super::ca::Issued;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::sync::Arc;
use tls_worker::api::{Certificate, Der, Secret};

/// A self-signed certificate for these names (`*.` and IP addresses too).
pub(crate) fn certificate(names: &[&str]) -> Certificate {
    let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
    let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    Certificate {
        name: names[0].clone(),
        names,
        chain: vec![Der(made.cert.der().to_vec())],
        key: Secret::new(made.signing_key.serialize_der()),
        staple: None,
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client that trusts these certificates and nothing else.
pub(crate) fn client(
    trusted: &[&Certificate],
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for c in trusted {
        roots.add(CertificateDer::from(c.chain[0].0.clone())).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

/// The same with a certificate of its own, whoever the server would have it from.
pub(crate) fn showing(mut config: ClientConfig, own: &Issued) -> ClientConfig {
    let key = PrivateKeyDer::try_from(own.key.clone()).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    // Unlike `from_der` this looks at nothing: the certificate may be nonsense.
    let certified = CertifiedKey::new(vec![own.der.clone().into()], key);
    let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(certified));
    config.client_auth_cert_resolver = resolver;
    config
}

/// A backend with this certificate that speaks these protocols.
pub(crate) fn server_with(certificate: &Certificate, alpn: &[&str]) -> Arc<ServerConfig> {
    let mut config = Arc::unwrap_or_clone(server(certificate));
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A backend that wants a certificate of this issuer from its clients.
pub(crate) fn server_asking(certificate: &Certificate, issuer: &Certificate) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(issuer.chain[0].0.clone())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let chain = certificate.chain.iter().map(|d| CertificateDer::from(d.0.clone())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.expose().to_vec()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
}

/// SHA-256 of the certificate's SubjectPublicKeyInfo.
pub(crate) fn pin(certificate: &Certificate) -> [u8; 32] {
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate.chain[0].0).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
    digest.as_ref().try_into().unwrap()
}

/// A backend with this certificate.
pub(crate) fn server(certificate: &Certificate) -> Arc<ServerConfig> {
    let chain = certificate.chain.iter().map(|d| CertificateDer::from(d.0.clone())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.expose().to_vec()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}
