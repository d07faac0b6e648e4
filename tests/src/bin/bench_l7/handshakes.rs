//! Connections that live for one request: TCP, a full TLS 1.3 handshake (never resumed), GET, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use lb_tests::client::within;
use lb_tests::netns::runtime;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

const AT_ONCE: usize = 8;

/// So many handshakes, some at once; all must be answered well.
pub(crate) fn run(port: u16, count: usize) -> Result<u64> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let left = AtomicUsize::new(count);
    let one_after_another = async || {
        let take = |left: usize| left.checked_sub(1);
        while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            once(&connector, port, number).await?;
        }
        anyhow::Ok(())
    };
    runtime()?.block_on(futures_util::future::try_join_all((0..AT_ONCE).map(|_| one_after_another())))?;
    Ok(count as u64)
}

async fn once(connector: &TlsConnector, port: u16, number: usize) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    // Many source addresses, so that ports in TIME_WAIT are never short.
    socket.bind(([127, 0, 1, (number % 200 + 1) as u8], 0).into())?;
    within("an answer", async {
        let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
        stream.set_nodelay(true)?;
        let mut stream = connector.connect(ServerName::try_from("bench")?, stream).await?;
        stream.write_all(b"GET /1k HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::with_capacity(2048);
        // An edge that closes without close_notify is no matter when the whole answer is there.
        let end = stream.read_to_end(&mut answer).await;
        let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| answer.len() - at - 4);
        ensure!(answer.starts_with(b"HTTP/1.1 200") && body == 1024, "a bad answer of {} bytes: {end:?}", answer.len());
        Ok(())
    })
    .await
    .with_context(|| format!("handshake {number}"))
}

/// Verifies nothing: the client's share of the work stays small, and is the same for every edge.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
