//! An own client (rustls, hyper) that never resumes a session and checks that none was resumed: for full handshakes,
//! and for connections that are kept open after one request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::pki::NAME;

/// Of one connection with its request.
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    tls: TlsConnector,
    tickets: Arc<Tickets>,
}

/// A connection after its TLS handshake.
pub(crate) struct Connection {
    send: SendRequest<Empty<Bytes>>,
    /// Version, cipher and key exchange.
    pub(crate) negotiated: String,
}

impl Client {
    pub(crate) fn new(roots: &RootCertStore) -> Result<Self> {
        let tickets = Arc::new(Tickets::default());
        // The same offer as wrk and h2load make.
        let provider = CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::store(tickets.clone());
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), tickets })
    }

    /// Session tickets that servers have sent until now.
    pub(crate) fn tickets(&self) -> u64 {
        self.tickets.seen.load(Ordering::Relaxed)
    }

    /// Connects with a full handshake.
    pub(crate) async fn connect(&self, to: SocketAddr) -> Result<Connection> {
        tokio::time::timeout(DEADLINE, self.handshake(to)).await.context("no handshake in time")?
    }

    async fn handshake(&self, to: SocketAddr) -> Result<Connection> {
        let tcp = TcpStream::connect(to).await.context("cannot connect")?;
        tcp.set_nodelay(true)?;
        let tls = self.tls.connect(ServerName::try_from(NAME)?, tcp).await.context("handshake failed")?;
        let session = tls.get_ref().1;
        match session.handshake_kind() {
            Some(HandshakeKind::Full) => {}
            other => bail!("the handshake was {other:?}, not full"),
        }
        let negotiated = format!(
            "{:?} {:?} {:?}",
            session.protocol_version().context("no version")?,
            session.negotiated_cipher_suite().context("no cipher")?.suite(),
            session.negotiated_key_exchange_group().context("no group")?.name(),
        );
        let (send, connection) = http1::handshake(TokioIo::new(tls)).await?;
        // It ends when `send` is dropped or the edge closes; its errors come back from `send`.
        tokio::spawn(connection);
        Ok(Connection { send, negotiated })
    }

    /// One full handshake and one request for each of `count` connections, `at_once` of them in flight.
    pub(crate) async fn connections(
        self: &Arc<Self>,
        to: SocketAddr,
        path: (&'static str, u64),
        count: u64,
        at_once: u64,
    ) -> Result<u64> {
        let mut tasks = JoinSet::new();
        for task in 0..at_once {
            let client = self.clone();
            let share = count / at_once + u64::from(task < count % at_once);
            tasks.spawn(async move {
                for _ in 0..share {
                    client.connect(to).await?.get(path, true).await?;
                }
                anyhow::Ok(share)
            });
        }
        let mut done = 0;
        while let Some(share) = tasks.join_next().await {
            done += share??;
        }
        Ok(done)
    }
}

impl Connection {
    /// One GET; the answer must be 200 and as long as expected.
    pub(crate) async fn get(&mut self, (path, length): (&str, u64), close: bool) -> Result<()> {
        tokio::time::timeout(DEADLINE, self.exchange(path, length, close)).await.context("no answer in time")?
    }

    async fn exchange(&mut self, path: &str, length: u64, close: bool) -> Result<()> {
        let mut request = Request::get(path).header(header::HOST, NAME);
        if close {
            request = request.header(header::CONNECTION, "close");
        }
        let response = self.send.send_request(request.body(Empty::new())?).await?;
        ensure!(response.status() == StatusCode::OK, "the edge answered {}", response.status());
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(body.len() as u64 == length, "the edge sent {} bytes, not {length}", body.len());
        if !close {
            self.send.ready().await.context("the edge closed a connection that was to stay")?;
        }
        Ok(())
    }
}

/// Counts tickets and keeps none: no session is ever resumed.
#[derive(Debug, Default)]
struct Tickets {
    seen: AtomicU64,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
