//! TLS towards the backends of a pool.

use super::server::{crypto, versions};
use super::{TlsError, verify};
use crate::api;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sessions that a thread remembers for resumption with one pool's backends.
const UPSTREAM_SESSIONS: usize = 64;

static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(1);

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
    let mut config = ClientConfig::builder_with_provider(crypto(&tls.protocol)?)
        .with_protocol_versions(&versions(&tls.protocol)?)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".into()];
    let parse = |name: &String| ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()));
    let server_name = tls.server_name.as_ref().map(parse).transpose()?;
    let id = NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed);
    Ok(UpstreamIdentity { id, source: tls.clone(), config, server_name })
}
