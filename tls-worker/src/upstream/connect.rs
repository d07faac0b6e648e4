//! A new connection to a backend: TCP and, where the pool says so, TLS, under one deadline. For requests, a task then
//! drives it until it is closed, upgraded, or overdue.

use super::dial::Dial;
use super::drain::{Drain, LineGuard};
use super::pool::{Kept, Wants};
use super::sender::{Tasks, TasksGuard};
use super::shared::{Shared, Unclaimed};
use super::state::Line;
use super::{Backend, PoolView, UpState, UpstreamTlsView};
use crate::io::Metered;
use crate::stats::BackendFailure;
use crate::tls::PinMismatch;
use crate::watchdog::Watchdog;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
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
/// What a backend may send ahead on an HTTP/2 stream, bytes. The connection takes as much of every stream: a client that
/// reads slowly holds up its own alone.
const WINDOW: u32 = 512 << 10;
/// Largest window that there is (RFC 9113, 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// What is buffered for an HTTP/2 backend on one stream, bytes.
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
    #[error("HTTP: closed before the first settings")]
    Closed,
    #[error("not connected by the deadline")]
    Timeout,
    #[error("another request found no connection either")]
    Shared(BackendFailure),
    #[error("too many requests wait for a connection")]
    Pending,
    #[error("its drain is over")]
    Drained,
}

impl ConnectError {
    /// What it is counted as.
    pub(crate) fn failure(&self) -> BackendFailure {
        match self {
            ConnectError::Tcp(_) | ConnectError::Pending | ConnectError::Drained => BackendFailure::Connect,
            ConnectError::Tls(error) => tls_failure(error),
            ConnectError::Http(_) | ConnectError::Closed => BackendFailure::Reset,
            ConnectError::Timeout => BackendFailure::ConnectTimeout,
            ConnectError::Shared(failure) => *failure,
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
    Clear(Metered<TcpStream, Line>),
    /// Boxed: it is large.
    Tls(Box<TlsStream<Metered<TcpStream, Line>>>),
}

/// A stream for a connection without HTTP; `ahead` is sent first, in clear text. `through`: what follows is the client's
/// own TLS, which no other goes around.
pub(crate) async fn open(
    pool: &PoolView,
    backend: &Rc<Backend>,
    ahead: &[u8],
    through: bool,
) -> Result<(Opened, Arc<UpState>), ConnectError> {
    let config = |tls: &UpstreamTlsView| (!through).then(|| tls.configs.streams.clone());
    let _dial = Dial::begin(backend, false);
    let opened = within_deadline(pool, establish(pool, backend, ahead, config)).await?;
    if backend.is_closed() { Err(ConnectError::Drained) } else { Ok(opened) }
}

/// A connection for requests.
pub(super) enum Made {
    /// For one at a time.
    Whole(Kept),
    /// For many.
    Part(Rc<Shared>),
}

/// A connection for requests. Where it is to carry many, those who come while it is made wait for it together.
pub(super) async fn connect(pool: &PoolView, backend: &Rc<Backend>, wants: Wants) -> Result<Made, ConnectError> {
    loop {
        let many = wants == Wants::Any && pool.is_multiplexed() && !backend.speaks_http1.get();
        if many && backend.dials.has_room(pool.multiplex.max_streams) {
            within_deadline(pool, async { backend.dials.join().await.map_err(ConnectError::Shared) }).await?;
            let shared = backend.shared.borrow();
            if let Some(one) = shared.iter().rfind(|one| one.has_room(pool.multiplex.max_streams)) {
                return Ok(Made::Part(one.clone()));
            }
            continue;
        }
        if pool.is_at_pending() {
            return Err(ConnectError::Pending);
        }
        let dial = Dial::begin(backend, many);
        let made = within_deadline(pool, make(pool, backend, wants)).await;
        let made = if backend.is_closed() { Err(ConnectError::Drained) } else { made };
        match &made {
            Ok(Made::Part(shared)) => {
                backend.speaks_http1.set(false);
                backend.shared.borrow_mut().push(shared.clone());
            }
            // They who waited for it together make their own.
            Ok(Made::Whole(_)) => backend.speaks_http1.set(wants == Wants::Any),
            Err(error) => dial.failed(error.failure()),
        }
        return made;
    }
}

async fn make(pool: &PoolView, backend: &Rc<Backend>, wants: Wants) -> Result<Made, ConnectError> {
    let config = |tls: &UpstreamTlsView| match wants {
        Wants::Any => Some(tls.configs.requests.clone()),
        Wants::Http1 => Some(tls.configs.http1.clone()),
    };
    let (stream, state) = establish(pool, backend, &[], config).await?;
    let identity = pool.tls.as_ref().map_or(0, |tls| tls.identity.id);
    let new = For { backend: backend.clone(), state, identity, max_streams: pool.multiplex.max_streams };
    match stream {
        Opened::Clear(stream) if pool.multiplex.h2c && wants == Wants::Any => start_http2(stream, new).await,
        Opened::Clear(stream) => start_http1(stream, new).await,
        Opened::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => start_http2(stream, new).await,
        Opened::Tls(stream) => start_http1(stream, new).await,
    }
}

/// What a new connection is for.
struct For {
    backend: Rc<Backend>,
    state: Arc<UpState>,
    identity: u64,
    max_streams: u32,
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
    let mut stream = Metered::new(stream, state.line().clone());
    stream.write_all(ahead).await.map_err(ConnectError::Tcp)?;
    let tls = pool.tls.as_ref();
    let Some((tls, config)) = tls.and_then(|tls| Some((tls, config(tls)?))) else {
        return Ok((Opened::Clear(stream), state));
    };
    let name = backend.server_name(&tls.identity);
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::Tls)?;
    Ok((Opened::Tls(Box::new(stream)), state))
}

async fn start_http1<T>(stream: T, new: For) -> Result<Made, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let For { backend, state, identity, .. } = new;
    let mut builder = http1::Builder::new();
    let (sender, connection) =
        builder.max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
    let driven = drive(connection.with_upgrades(), state.clone());
    let guard = Drain::line(&backend);
    let (id, of) = (guard.id(), backend.clone());
    let driver = tokio::task::spawn_local(async move {
        driven.await;
        drop(guard);
        // The connection is closed: there may be room for another one.
        backend.pool.queue.call(None);
    });
    LineGuard::set(&of, id, &state, driver.abort_handle());
    Ok(Made::Whole(Kept { sender, state, driver: driver.abort_handle(), identity }))
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

async fn start_http2<T>(stream: T, new: For) -> Result<Made, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let For { backend, state, identity, max_streams } = new;
    let tasks = Tasks::default();
    let guard = TasksGuard(tasks.clone());
    let mut builder = http2::Builder::new(tasks);
    builder
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW.saturating_mul(max_streams).clamp(WINDOW, MAX_WINDOW))
        .max_header_list_size(MAX_HEADER)
        .max_send_buf_size(SEND_BUFFER)
        .initial_max_send_streams(0);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
    let connection = Rc::new(RefCell::new(Some(connection)));
    let weak = Rc::downgrade(&connection);
    let limit = move || {
        let connection = weak.upgrade();
        connection.and_then(|one| one.borrow().as_ref().map(|one| one.current_max_send_streams())).unwrap_or(0)
    };
    let shared = Rc::new(Shared::new(sender, state, identity, Box::new(limit)));
    let driven = drive_many(connection, shared.clone());
    drop(tokio::task::spawn_local({
        let shared = shared.clone();
        async move {
            driven.await;
            // hyper's tasks, and the socket with them, end here.
            drop(guard);
            backend.shared.borrow_mut().retain(|one| !Rc::ptr_eq(one, &shared));
            backend.pool.queue.call(None);
        }
    }));
    let unclaimed = Unclaimed::new(shared.clone());
    if !shared.settled().await {
        return Err(ConnectError::Closed);
    }
    unclaimed.claim().map(Made::Part).ok_or(ConnectError::Closed)
}

/// Drive a connection until it is over and its last stream is, or all of it is overdue. A stream that is overdue ends
/// alone.
async fn drive_many(connection: Rc<RefCell<Option<impl Future + Unpin>>>, shared: Rc<Shared>) {
    let mut watchdog = Watchdog::new(shared.state.shortest());
    poll_fn(|cx| {
        let mut driven = connection.borrow_mut();
        if driven.as_mut().is_some_and(|one| Pin::new(one).poll(cx).is_ready()) {
            // The backend wants no more requests, or is gone. What was sent and not taken up is given back by this; the
            // streams that are open go on in hyper's tasks.
            *driven = None;
            shared.retire();
        }
        drop(driven);
        while watchdog.poll(cx, || shared.deadline()).is_ready() {
            if shared.expire().is_ready() {
                return Poll::Ready(());
            }
        }
        shared.poll_over(cx)
    })
    .await;
}
