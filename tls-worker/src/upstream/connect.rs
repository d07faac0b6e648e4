//! A new connection to a backend: TCP and, where the pool says so, TLS, under one deadline. For requests, a task then
//! drives it until it is closed, upgraded, or overdue.

use super::pool::{Kept, Wants};
use super::sender::{Sender, Tasks, TasksGuard};
use super::{Backend, PoolView, UpState, UpstreamTlsView};
use crate::io::Metered;
use crate::stats::BackendFailure;
use crate::tls::PinMismatch;
use crate::watchdog::Watchdog;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest header of a response, and most that is buffered of its body, bytes.
const MAX_BUFFER: usize = 256 << 10;
/// Longest header of a response over HTTP/2, bytes.
const MAX_HEADER: u32 = 64 << 10;
/// What a backend may send ahead on an HTTP/2 stream, and on its connection, bytes: one request at a time is on it.
const WINDOW: u32 = 1 << 20;
/// What is buffered for an HTTP/2 backend, bytes.
const SEND_BUFFER: usize = 128 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connect: {0}")]
    Tcp(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("HTTP: {0}")]
    Http(hyper::Error),
    #[error("not connected by the deadline")]
    Timeout,
}

impl ConnectError {
    /// What it is counted as.
    pub(crate) fn failure(&self) -> BackendFailure {
        match self {
            ConnectError::Tcp(_) => BackendFailure::Connect,
            ConnectError::Tls(error) => tls_failure(error),
            ConnectError::Http(_) => BackendFailure::Reset,
            ConnectError::Timeout => BackendFailure::ConnectTimeout,
        }
    }
}

/// What a failed handshake is counted as.
fn tls_failure(error: &io::Error) -> BackendFailure {
    let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) if other.0.is::<PinMismatch>() => {
            BackendFailure::TlsPin
        }
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            BackendFailure::TlsVerify
        }
        _ => BackendFailure::Tls,
    }
}

/// A backend's stream, driven by nobody.
pub(crate) enum Opened {
    /// The bare socket.
    Clear(Metered<TcpStream, UpState>),
    /// Boxed: it is large.
    Tls(Box<TlsStream<Metered<TcpStream, UpState>>>),
}

/// A stream for a connection without HTTP; `ahead` is sent first, in clear text. `through`: what follows is the client's
/// own TLS, which no other goes around.
pub(crate) async fn open(
    pool: &PoolView,
    backend: &Backend,
    ahead: &[u8],
    through: bool,
) -> Result<(Opened, Arc<UpState>), ConnectError> {
    let config = |tls: &UpstreamTlsView| (!through).then(|| tls.configs.streams.clone());
    within_deadline(pool, establish(pool, backend, ahead, config)).await
}

/// A connection for requests.
pub(super) async fn connect(pool: &PoolView, backend: &Backend, wants: Wants) -> Result<Kept, ConnectError> {
    let config = |tls: &UpstreamTlsView| match wants {
        Wants::Any => Some(tls.configs.requests.clone()),
        Wants::Http1 => Some(tls.configs.http1.clone()),
    };
    let started = async {
        let (stream, state) = establish(pool, backend, &[], config).await?;
        let identity = pool.tls.as_ref().map_or(0, |tls| tls.identity.id);
        match stream {
            Opened::Clear(stream) => start_http1(stream, state, identity).await,
            Opened::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                start_http2(stream, state, identity).await
            }
            Opened::Tls(stream) => start_http1(stream, state, identity).await,
        }
    };
    within_deadline(pool, started).await
}

async fn within_deadline<T>(
    pool: &PoolView,
    connecting: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(pool.timeouts.connect, connecting).await.unwrap_or(Err(ConnectError::Timeout))
}

async fn establish(
    pool: &PoolView,
    backend: &Backend,
    ahead: &[u8],
    config: impl Fn(&UpstreamTlsView) -> Option<Arc<ClientConfig>>,
) -> Result<(Opened, Arc<UpState>), ConnectError> {
    let stream = TcpStream::connect(backend.address).await.map_err(ConnectError::Tcp)?;
    let _ = stream.set_nodelay(true);
    let state = Arc::new(UpState::new(backend.stats.clone(), &pool.timeouts));
    let mut stream = Metered::new(stream, state.clone());
    stream.write_all(ahead).await.map_err(ConnectError::Tcp)?;
    let tls = pool.tls.as_ref();
    let Some((tls, config)) = tls.and_then(|tls| Some((tls, config(tls)?))) else {
        return Ok((Opened::Clear(stream), state));
    };
    let name = tls.identity.server_name(backend.address);
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::Tls)?;
    Ok((Opened::Tls(Box::new(stream)), state))
}

async fn start_http1<T>(stream: T, state: Arc<UpState>, identity: u64) -> Result<Kept, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    let (sender, connection) =
        builder.max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
    let driven = drive(connection.with_upgrades(), state.clone());
    let driver = tokio::task::spawn_local(driven).abort_handle();
    Ok(Kept { sender: Sender::Http1(sender), state, driver, identity })
}

async fn start_http2<T>(stream: T, state: Arc<UpState>, identity: u64) -> Result<Kept, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = Tasks::default();
    let guard = TasksGuard(tasks.clone());
    let mut builder = http2::Builder::new(tasks);
    builder
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MAX_HEADER)
        .max_send_buf_size(SEND_BUFFER);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
    let driven = drive(connection, state.clone());
    let driver = tokio::task::spawn_local(async move {
        driven.await;
        drop(guard);
    });
    Ok(Kept { sender: Sender::Http2(sender), state, driver: driver.abort_handle(), identity })
}

/// What fails here is seen, and counted, by the request on the connection: it finds its response broken off.
async fn drive(connection: impl Future, state: Arc<UpState>) {
    let mut connection = pin!(connection);
    let mut watchdog = Watchdog::new(state.shortest());
    poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if watchdog.poll(cx, || state.deadline()).is_ready() {
            state.expire();
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}
