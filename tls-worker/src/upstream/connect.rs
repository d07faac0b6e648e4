//! A new connection to a backend: TCP and, where the pool says so, TLS, under one deadline; then a task that drives
//! it until it is closed, upgraded, or overdue.

use super::pool::Kept;
use super::{Backend, PoolView, UpState};
use crate::http::body::RequestBody;
use crate::io::Metered;
use crate::stats::BackendFailure;
use crate::watchdog::Watchdog;
use hyper::client::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest header of a response, and most that is buffered of its body, bytes.
const MAX_BUFFER: usize = 256 << 10;

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
            ConnectError::Tls(_) => BackendFailure::Tls,
            ConnectError::Http(_) => BackendFailure::Reset,
            ConnectError::Timeout => BackendFailure::ConnectTimeout,
        }
    }
}

pub(super) async fn connect(pool: &PoolView, backend: &Backend) -> Result<Kept, ConnectError> {
    match tokio::time::timeout(pool.timeouts.connect, establish(pool, backend)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout),
    }
}

async fn establish(pool: &PoolView, backend: &Backend) -> Result<Kept, ConnectError> {
    let stream = TcpStream::connect(backend.address).await.map_err(ConnectError::Tcp)?;
    let _ = stream.set_nodelay(true);
    let state = Arc::new(UpState::new(backend.stats.clone(), &pool.timeouts));
    let stream = Metered::new(stream, state.clone());
    match &pool.tls {
        None => start(stream, state, 0).await,
        Some(tls) => {
            let name = tls.identity.server_name(backend.address);
            let connector = TlsConnector::from(tls.config.clone());
            let stream = connector.connect(name, stream).await.map_err(ConnectError::Tls)?;
            start(stream, state, tls.identity.id).await
        }
    }
}

async fn start<T>(stream: T, state: Arc<UpState>, identity: u64) -> Result<Kept, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (sender, connection) =
        Builder::new().max_buf_size(MAX_BUFFER).handshake(io).await.map_err(ConnectError::Http)?;
    let driver = tokio::task::spawn_local(drive(connection, state.clone())).abort_handle();
    Ok(Kept { sender, state, driver, identity })
}

/// What fails here is seen, and counted, by the request on the connection: it finds its response broken off.
async fn drive<T>(connection: Connection<TokioIo<T>, RequestBody>, state: Arc<UpState>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = pin!(connection.with_upgrades());
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
