//! A client's handshake: ClientHello first, then the rest by the service's configuration. The caller puts one
//! deadline over all of it.

use super::{Peer, ServiceTls};
use crate::conn::ConnState;
use crate::handshakes::Underway;
use crate::io::Metered;
use crate::stats::HandshakeFailure;
use rustls::{AlertDescription, PeerIncompatible};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// First byte of a TLS handshake record (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// How long a client that is refused may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read of such a client, so that closing does not reset the connection under the answer.
const LINGER_BYTES: u64 = 64 << 10;

/// A TLS alert record, fatal: unrecognized_name (RFC 6066, 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A client's TLS connection.
pub(crate) type ClientTls = TlsStream<Metered<TcpStream, ConnState>>;

/// A handshake that is done.
pub(crate) struct Accepted {
    pub(crate) stream: ClientTls,
    /// Under which policy, and with which certificate of the client.
    pub(crate) peer: Peer,
}

/// Do the handshake. The error says why not, with the stream where it can still be answered in clear text.
pub(crate) async fn accept(
    stream: Metered<TcpStream, ConnState>,
    state: &ConnState,
    tls: &ServiceTls,
    underway: &Underway,
) -> Result<Accepted, (HandshakeFailure, Option<Metered<TcpStream, ConnState>>)> {
    match stream.first().await {
        Ok(Some(HANDSHAKE_RECORD)) => {}
        Ok(Some(first)) if first.is_ascii_uppercase() => return Err((HandshakeFailure::PlainHttp, Some(stream))),
        Ok(Some(_)) => return Err((HandshakeFailure::NotTls, None)),
        _ => return Err((HandshakeFailure::Closed, None)),
    }
    let failed = |e: io::Error| (failure_of(&e), None);
    let bound = u64::from(underway.limits().max_client_hello);
    let mut acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let started = poll_fn(|cx| match Pin::new(&mut acceptor).poll(cx) {
        Poll::Pending if state.bytes_read() > bound => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
        Poll::Ready(started) => Poll::Ready(Some(started)),
    });
    let mut started = started.await.ok_or((HandshakeFailure::TooLong, None))?.map_err(failed)?;
    let server_name: Option<Box<str>> = started.client_hello().server_name().map(Into::into);
    let Some(policy) = tls.select(server_name.as_deref()) else {
        // It does not matter whether the client hears it.
        let _ = started.io.write_all(&UNRECOGNIZED_NAME).await;
        let _ = started.io.shutdown().await;
        return Err((HandshakeFailure::UnknownName, None));
    };
    let policy = tls.policy(policy).clone();
    let stream = underway.in_turn(started.into_stream(policy.config.clone())).await.map_err(failed)?;
    let peer = Peer::new(policy, server_name, stream.get_ref().1);
    Ok(Accepted { stream, peer })
}

/// The reason behind an error of a handshake.
fn failure_of(error: &io::Error) -> HandshakeFailure {
    use HandshakeFailure::*;
    use rustls::CertificateError;
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Closed,
            _ => Other,
        };
    };
    match tls {
        rustls::Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
        ) => NoSharedCipher,
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // Which only clients leave out that know nothing of TLS 1.2.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => NoSharedVersion,
        rustls::Error::NoApplicationProtocol => NoSharedProtocol,
        rustls::Error::NoCertificatesPresented => ClientCertMissing,
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer => UnknownCa,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Expired,
            CertificateError::Revoked => Revoked,
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                CrlExpired
            }
            _ => ClientCertBad,
        },
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => BadCertificate,
        _ => Other,
    }
}

/// Tell a client that spoke HTTP to a TLS port so, in HTTP.
pub(crate) async fn refuse_plain_http(stream: Metered<TcpStream, ConnState>) {
    const TEXT: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 47\r\nconnection: close\r\n\r\n\
        This is a TLS port: use https:// to speak to it";
    last_words(stream, TEXT.as_bytes()).await;
}

/// Close with these bytes, and give the client a moment to read them.
pub(crate) async fn last_words(mut stream: Metered<TcpStream, ConnState>, words: &[u8]) {
    let answer = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // It does not matter whether the client stays to hear it.
    let _ = tokio::time::timeout(LINGER, answer).await;
}
