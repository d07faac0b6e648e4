//! What a TLS handshake settled about a connection: the policy that it was made under, and the client's certificate.
//!
//! Where one is required, the handshake itself refuses a bad one. Here is decided what the handshake could not: optional
//! certificates; those of resumed sessions, which no verifier is asked about and which may have run out since; and what
//! a responder says.

use super::fault::Fault;
use super::identity::ClientIdentity;
use super::ocsp::Ocsp;
use crate::api::{ClientCertField, ClientCertMode, Der, OcspMode, OcspQuery};
use crate::stats::{ClientCert, HandshakeFailure};
use crate::tls::ServiceTls;
use crate::tls::server::Policy;
use http::HeaderValue;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    policy: Arc<Policy>,
    /// Its `Strict-Transport-Security`.
    hsts: Option<HeaderValue>,
    /// SNI.
    server_name: Option<Box<str>>,
    version: Option<ProtocolVersion>,
    suite: Option<CipherSuite>,
    is_http2: bool,
    /// What requests have; not where it was optional and is bad.
    certificate: Option<ClientIdentity>,
    /// What came of asking for a certificate; none: nothing was asked.
    outcome: Option<ClientCert>,
    refused: bool,
    /// What the responder is to be asked before the first request.
    question: Option<OcspQuery>,
}

impl Peer {
    /// Of a connection whose handshake is done.
    pub(crate) fn new(policy: Arc<Policy>, server_name: Option<Box<str>>, connection: &ServerConnection) -> Self {
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let chain = connection.peer_certificates().unwrap_or_default();
        // A copy: the policy's own is shared by all threads, and so would be its count of references.
        let hsts = policy.hsts.as_ref().and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        let (certificate, outcome, question) = (None, None, None);
        let mut peer = Peer {
            policy,
            hsts,
            server_name,
            version: connection.protocol_version(),
            suite: connection.negotiated_cipher_suite().map(|suite| suite.suite()),
            is_http2: connection.alpn_protocol() == Some(b"h2"),
            certificate,
            outcome,
            refused: false,
            question,
        };
        peer.look_at(chain, resumed, UnixTime::now());
        peer
    }

    fn look_at(&mut self, chain: &[CertificateDer<'static>], resumed: bool, now: UnixTime) {
        let Some(auth) = self.policy.client_auth.clone() else { return };
        let Some((leaf, rest)) = chain.split_first() else {
            self.outcome = Some(ClientCert::None);
            self.refused = auth.mode == ClientCertMode::Required;
            return;
        };
        self.certificate = Some(ClientIdentity::new(chain.to_vec()));
        self.outcome = Some(ClientCert::Verified);
        // The verifier said so in this very handshake, and nothing more is to be known.
        if auth.mode == ClientCertMode::Required && auth.ocsp == OcspMode::Off && !resumed {
            return;
        }
        match auth.verify(leaf, rest, now) {
            Ok(issuer) if auth.ocsp != OcspMode::Off => {
                let (certificate, responder) = (Der(leaf.to_vec()), auth.responder.clone());
                self.question = Some(OcspQuery { issuer, certificate, responder });
            }
            Ok(_) => {}
            Err(error) => self.fail(Fault::of(&error)),
        }
    }

    /// The certificate is not good after all.
    fn fail(&mut self, fault: Fault) {
        self.outcome = Some(fault.into());
        let certificate = self.certificate.take();
        match self.policy.client_auth.as_ref().map(|auth| auth.mode) {
            Some(ClientCertMode::OptionalAny) => {
                self.certificate = certificate.map(|c| c.with_fault(fault));
            }
            Some(ClientCertMode::Required) => self.refused = true,
            Some(ClientCertMode::Optional) | None => {}
        }
    }

    /// Hear the responder, where the rules want it, by the deadline. What came of the certificate then is final; none
    /// where none was asked for.
    pub(crate) async fn settle(&mut self, ocsp: &Ocsp, deadline: Instant) -> Option<ClientCert> {
        if let (Some(question), Some(auth)) = (self.question.take(), self.policy.client_auth.clone())
            && let Err(fault) = auth.judge(ocsp.status(question, deadline).await)
        {
            self.fail(fault);
        }
        self.outcome
    }

    /// Why nothing is served: a certificate is required, and the one that the handshake took is not good after all.
    pub(crate) fn refused(&self) -> Option<HandshakeFailure> {
        self.outcome.filter(|_| self.refused)?.failure()
    }

    /// Whether requests for this host (lower case, no port) may come on this connection: what is asked of certificates
    /// there is what was asked here, and where the host is another policy's, its protocols are the same.
    pub(crate) fn serves(&self, tls: &ServiceTls, host: &str) -> bool {
        let (of_host, own) = (tls.of_host(host), tls.select(self.server_name.as_deref()));
        let terms = tls.policy(of_host).terms;
        let protocol = |own| own == of_host || tls.policy(own).terms.protocol == terms.protocol;
        terms.client_cert == self.policy.terms.client_cert && own.is_some_and(protocol)
    }

    /// Whether what was asked of certificates is still asked under the connection's name, so that it may go on. A change
    /// of protocols ends no connection.
    pub(crate) fn holds(&self, tls: &ServiceTls) -> bool {
        let own = tls.select(self.server_name.as_deref());
        own.is_some_and(|own| tls.policy(own).terms.client_cert == self.policy.terms.client_cert)
    }

    /// The name that the client asked for.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// `1.2` or `1.3`.
    pub(crate) fn version(&self) -> Option<&'static str> {
        match self.version? {
            ProtocolVersion::TLSv1_2 => Some("1.2"),
            ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => None,
        }
    }

    /// Cipher suite, by its IANA name.
    pub(crate) fn cipher(&self) -> Option<&'static str> {
        // rustls writes those of TLS 1.3 with a number, which the registry has not.
        let name = self.suite?.as_str()?;
        Some(match name {
            "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
            other => other,
        })
    }

    /// What is spoken, by its ALPN name.
    pub(crate) fn alpn(&self) -> &'static str {
        if self.is_http2 { "h2" } else { "http/1.1" }
    }

    /// Whether the client's certificate is good; none: it goes as one without.
    pub(crate) fn is_verified(&self) -> Option<bool> {
        self.certificate.as_ref().map(|_| self.outcome == Some(ClientCert::Verified))
    }

    /// `Strict-Transport-Security` of every response.
    pub(crate) fn hsts(&self) -> Option<HeaderValue> {
        self.hsts.clone()
    }

    /// What a backend is told of the certificate.
    pub(crate) fn header(&self, field: ClientCertField) -> Option<HeaderValue> {
        self.certificate.as_ref()?.header(field)
    }
}
