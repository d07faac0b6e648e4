//! TLS towards the backends of a pool.

use super::server::{crypto, versions};
use super::{TlsError, certified_key, verify};
use crate::api;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use verify::PinMismatch;

/// Sessions that a thread remembers for resumption with one pool's backends.
const UPSTREAM_SESSIONS: usize = 64;
/// Application protocols of requests (RFC 7301, 6).
const H2: &str = "h2";
const HTTP_11: &str = "http/1.1";

static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(1);

/// Everything that makes two TLS connections to the same address different.
#[derive(Debug)]
pub struct UpstreamIdentity {
    /// Unique in the process: connections made under another one are not used.
    pub(crate) id: u64,
    /// What it was made from.
    pub(crate) source: api::UpstreamTls,
    config: ClientConfig,
    /// Name that a handshake begins with; none: the backend's address.
    name: Option<ServerName<'static>>,
}

/// One thread's configurations under an identity: with a session memory of their own, so that none is shared.
#[derive(Debug)]
pub(crate) struct UpstreamConfigs {
    /// For requests: HTTP/2 where it is wanted and the backend has it.
    pub(crate) requests: Arc<ClientConfig>,
    /// For requests that only HTTP/1.1 can carry.
    pub(crate) http1: Arc<ClientConfig>,
    /// For connections without HTTP.
    pub(crate) streams: Arc<ClientConfig>,
}

impl UpstreamIdentity {
    /// Configurations for a thread.
    pub(crate) fn for_thread(&self) -> UpstreamConfigs {
        let alpn = self.alpn();
        let http1 = self.with_alpn([HTTP_11].into_iter());
        let requests = match self.speaks_http2() {
            true => self.with_alpn(alpn.clone()),
            false => http1.clone(),
        };
        UpstreamConfigs { requests, http1, streams: self.with_alpn(alpn) }
    }

    /// A configuration for checks that speak one of these protocols. Every handshake is a whole one, so that each verifies
    /// the backend anew.
    pub fn for_checks<'a>(&self, alpn: impl Iterator<Item = &'a str>) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// What the pool offers by ALPN.
    pub fn alpn(&self) -> impl Iterator<Item = &str> + Clone {
        self.source.alpn.iter().map(String::as_str)
    }

    fn with_alpn<'a>(&self, names: impl Iterator<Item = &'a str>) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.alpn_protocols = names.map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(UPSTREAM_SESSIONS);
        Arc::new(config)
    }

    /// Whether HTTP/2 is offered.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.source.alpn.iter().any(|name| name == H2)
    }

    /// The name that a handshake with the backend at this address begins with: what SNI says.
    pub fn server_name(&self, backend: std::net::SocketAddr) -> ServerName<'static> {
        self.name.clone().unwrap_or_else(|| ServerName::IpAddress(backend.ip().into()))
    }

    /// The same of a backend that was found by a name: where the pool says no other, it is that.
    pub(crate) fn server_name_of(
        &self,
        backend: std::net::SocketAddr,
        found_by: Option<&ServerName<'static>>,
    ) -> ServerName<'static> {
        match (&self.name, found_by) {
            (None, Some(name)) => name.clone(),
            _ => self.server_name(backend),
        }
    }
}

/// TLS towards a pool's backends.
pub fn upstream_identity(tls: &api::UpstreamTls) -> Result<UpstreamIdentity, TlsError> {
    let parse = |name: &String| ServerName::try_from(name.clone()).ok();
    let server_name = tls.server_name.as_ref();
    let server_name =
        server_name.map(|name| parse(name).ok_or_else(|| TlsError::ServerName(name.clone()))).transpose()?;
    // An address is no name that could be asked for (RFC 6066, 3).
    let dns = |name: &String| parse(name).filter(|name| matches!(name, ServerName::DnsName(_)));
    let sni = tls.sni.as_ref().map(|name| dns(name).ok_or_else(|| TlsError::Sni(name.clone()))).transpose()?;
    if let Some(name) = tls.alpn.iter().find(|name| !(1..=255).contains(&name.len())) {
        return Err(TlsError::Alpn(name.clone()));
    }

    let mut verifier: Arc<dyn ServerCertVerifier> =
        if tls.verify { verify::against(&tls.roots).map_err(TlsError::Roots)? } else { Arc::new(verify::Anyone) };
    if sni.is_some() && tls.verify && server_name.is_none() {
        return Err(TlsError::SniAlone);
    }
    if sni.is_some() || !tls.pins.is_empty() {
        let name = server_name.clone().filter(|_| sni.is_some());
        verifier = Arc::new(verify::Stricter { inner: verifier, name, pins: tls.pins.clone() });
    }
    let builder = ClientConfig::builder_with_provider(crypto(&tls.protocol)?)
        .with_protocol_versions(&versions(&tls.protocol)?)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let wrong = |error| TlsError::ClientCertificate(certificate.name.clone(), Box::new(error));
            let key = certified_key(certificate).map_err(wrong)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    let id = NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed);
    Ok(UpstreamIdentity { id, source: tls.clone(), config, name: sni.or(server_name) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Secret, UpstreamTls};
    use crate::tls::tests::certificate;

    #[test]
    fn what_cannot_be_used_is_said() {
        let mut other_key = certificate(&["edge.test"]).0;
        other_key.key = Secret::new(vec![1]);
        for (tls, expected) in [
            (
                UpstreamTls { sni: Some("192.0.2.1".into()), ..UpstreamTls::default() },
                "sni \"192.0.2.1\" is no host name",
            ),
            (UpstreamTls { alpn: vec!["".into()], ..UpstreamTls::default() }, "alpn \"\""),
            (
                UpstreamTls { certificate: Some(other_key), ..UpstreamTls::default() },
                "certificate \"edge.test\": the private key",
            ),
            (
                UpstreamTls {
                    verify: true,
                    roots: vec![certificate(&["a.test"]).0.chain[0].clone()],
                    sni: Some("a.test".into()),
                    ..UpstreamTls::default()
                },
                "server_name",
            ),
        ] {
            let said = upstream_identity(&tls).unwrap_err().to_string();
            assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        }
    }

    #[test]
    fn each_use_offers_its_own_protocols() {
        let offers = |alpn: &[&str]| {
            let alpn = alpn.iter().map(|name| name.to_string()).collect();
            let configs = upstream_identity(&UpstreamTls { alpn, ..UpstreamTls::default() }).unwrap().for_thread();
            let names = |c: &ClientConfig| {
                c.alpn_protocols.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>().join(" ")
            };
            [names(&configs.requests), names(&configs.http1), names(&configs.streams)]
        };
        assert_eq!(offers(&[]), ["http/1.1", "http/1.1", ""]);
        assert_eq!(offers(&["h2", "http/1.1"]), ["h2 http/1.1", "http/1.1", "h2 http/1.1"]);
        assert_eq!(offers(&["imap"]), ["http/1.1", "http/1.1", "imap"]);
    }
}
