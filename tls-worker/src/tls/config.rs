//! rustls' configurations, made from a snapshot's words.

use super::resolver::BySni;
use super::{provider, verify};
use crate::api::{self, TlsVersion};
use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sessions that a thread remembers for resumption with one pool's backends.
const UPSTREAM_SESSIONS: usize = 64;

static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(1);

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
    /// The name that a backend is verified by.
    #[error("server_name {0:?} is no host name")]
    ServerName(String),
}

/// Parse a certificate with its key, and see that they belong together.
pub fn certified_key(certificate: &api::Certificate) -> Result<Arc<CertifiedKey>, TlsError> {
    if certificate.chain.is_empty() {
        return Err(TlsError::EmptyChain);
    }
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.0.clone())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.0.clone()).map_err(TlsError::Key)?;
    Ok(Arc::new(provider::certified_key(chain, key)?))
}

/// A key for session tickets.
pub(crate) fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ok(provider::ticketer()?)
}

/// A service's configuration; `certificates` in the service's order, with the names they are served for.
pub(crate) fn server_config<'a>(
    tls: &api::ServerTls,
    certificates: impl IntoIterator<Item = (&'a [String], Arc<CertifiedKey>)>,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions = match tls.min_version {
        TlsVersion::V12 => &provider::VERSIONS[..],
        TlsVersion::V13 => &provider::VERSIONS[..1],
    };
    let resolver = BySni::new(certificates).ok_or(TlsError::NoCertificate)?;
    let mut config = ServerConfig::builder_with_provider(provider::provider())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = if tls.http2 { vec![b"h2".into(), b"http/1.1".into()] } else { vec![b"http/1.1".into()] };
    // Tickets carry the session themselves: no cache that threads would share behind a lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ticketer;
    // A ticket is used once; a client that wants a second connection gets the next one on the first.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Everything that makes two TLS connections to the same address different.
#[derive(Debug)]
pub struct UpstreamIdentity {
    /// Unique in the process: connections made under another one are not used.
    pub(crate) id: u64,
    /// What it was made from.
    pub(crate) source: api::UpstreamTls,
    config: ClientConfig,
    server_name: Option<ServerName<'static>>,
}

impl UpstreamIdentity {
    /// The configuration with a session memory of its own: one for each thread, so that none is shared.
    pub fn for_thread(&self) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.resumption = Resumption::in_memory_sessions(UPSTREAM_SESSIONS);
        Arc::new(config)
    }

    /// The name that the backend at this address is verified by.
    pub fn server_name(&self, backend: std::net::SocketAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::IpAddress(backend.ip().into()))
    }
}

/// TLS towards a pool's backends.
pub fn upstream_identity(tls: &api::UpstreamTls) -> Result<UpstreamIdentity, TlsError> {
    let verifier =
        if tls.verify { verify::against(&tls.roots).map_err(TlsError::Roots)? } else { Arc::new(verify::Anyone) };
    let mut config = ClientConfig::builder_with_provider(provider::provider())
        .with_protocol_versions(&provider::VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".into()];
    let parse = |name: &String| ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()));
    let server_name = tls.server_name.as_ref().map(parse).transpose()?;
    let id = NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed);
    Ok(UpstreamIdentity { id, source: tls.clone(), config, server_name })
}
