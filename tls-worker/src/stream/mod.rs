//! Connections without HTTP: [`passthrough`] reads the name out of the client's first bytes (`hello`) and leaves the
//! TLS to the backend, [`tls`] comes after the edge's own handshake, [`tcp`] has bytes of any kind. `route` finds the pool, `connect` a backend of
//! it, `relay` carries bytes both ways out of the thread's `store`.

mod connect;
pub(crate) mod hello;
mod relay;
mod route;
mod store;

pub(crate) use route::{Found, StreamRouter};
pub(crate) use store::Store;

use crate::clock;
use crate::conn::{ConnState, Registration, Signal};
use crate::handshakes::Underway;
use crate::io::Metered;
use crate::proxy::send as proxy;
use crate::stats::{BackendFailure, ClientTimeout, HandshakeFailure, Rejection};
use crate::thread::Thread;
use crate::tls::{self, ClientTls};
use crate::upstream::{Opened, PoolView};
use crate::watchdog::Watchdog;
use connect::{Connected, connect};
use hello::{ClientHello, HelloReader, HelloStep};
use relay::{End, Relay, Side};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Bytes that are read at once while the ClientHello is not whole: most are.
const FIRST_READ: usize = 4 << 10;

/// Alerts (RFC 8446, 6).
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// What is known of a connection when it is accepted.
pub(crate) struct Client {
    pub(crate) thread: Rc<Thread>,
    pub(crate) state: Arc<ConnState>,
    /// Its service; the views change under it with every generation.
    pub(crate) service: Arc<str>,
    pub(crate) registration: Registration,
    /// Where the client is.
    pub(crate) peer: SocketAddr,
    /// Where it connected to.
    pub(crate) local: SocketAddr,
}

impl Client {
    /// The pool of a connection; None where the service is gone, too.
    fn pool(&self, name: Option<&str>, protocols: &[&[u8]]) -> Result<Rc<PoolView>, Found> {
        let view = self.thread.view();
        let service = view.place_of(&self.service).map(|i| &view.compiled.services[i]).ok_or(Found::NoName)?;
        match service.streams.find(name, protocols.iter().copied()) {
            Found::Route(route) => Ok(view.pools[service.routes[route].pool].clone()),
            other => Err(other),
        }
    }

    /// Resolves when what is open is to be cut.
    async fn cut(&self) {
        poll_fn(|cx| if self.registration.poll(cx) == Signal::Cut { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn failed(&self, reason: HandshakeFailure) {
        self.state.stats().handshake_failures.inc(reason);
    }
}

/// Serve a connection whose TLS is the backend's. `timeout`: how long the ClientHello may take.
pub(crate) async fn passthrough(
    mut stream: Metered<TcpStream, ConnState>,
    client: Client,
    underway: Underway,
    timeout: Duration,
) {
    let max_hello = underway.limits().max_client_hello as usize;
    let read = tokio::select! {
        read = tokio::time::timeout(timeout, read_hello(&mut stream, max_hello)) => read,
        () = client.cut() => return,
    };
    drop(underway);
    let (hello, first) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(reason)) => {
            client.failed(reason);
            return match reason {
                HandshakeFailure::PlainHttp => tls::refuse_plain_http(stream).await,
                HandshakeFailure::TooLong | HandshakeFailure::Other => refuse(stream, 0x303, DECODE_ERROR).await,
                _ => {}
            };
        }
        Err(_) => {
            client.failed(HandshakeFailure::Timeout);
            client.state.stats().timeouts.inc(ClientTimeout::Handshake);
            return;
        }
    };
    let protocols: Vec<&[u8]> = hello.alpn.iter().map(|name| &**name).collect();
    let pool = match client.pool(hello.sni.as_deref(), &protocols) {
        Ok(pool) => pool,
        Err(found) => {
            let (reason, alert) = match found {
                Found::NoProtocol => (HandshakeFailure::NoSharedProtocol, NO_APPLICATION_PROTOCOL),
                _ => (HandshakeFailure::UnknownName, UNRECOGNIZED_NAME),
            };
            client.failed(reason);
            return refuse(stream, hello.version, alert).await;
        }
    };
    // Which protocol will be spoken is not known yet: what the client offers is not what is agreed on.
    let about =
        proxy::About { client: client.peer, service: client.local, name: hello.sni.as_deref(), alpn: None, tls: None };
    let connected = tokio::select! {
        connected = Box::pin(connect(&client, &pool, &about, true)) => connected,
        () = client.cut() => return,
    };
    match connected {
        Some(connected) => carry(stream, first, client, connected, pool).await,
        None => refuse(stream, hello.version, INTERNAL_ERROR).await,
    }
}

/// Serve a connection after its handshake. `verified`: whether the client's certificate is good; none: it has none.
pub(crate) async fn tls(stream: ClientTls, client: Client, verified: Option<bool>) {
    let session = stream.get_ref().1;
    let (name, alpn) = (session.server_name(), session.alpn_protocol());
    let Ok(pool) = client.pool(name, alpn.as_slice()) else {
        client.state.stats().rejected.inc(Rejection::NoRoute);
        return;
    };
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let tls = Some(proxy::Tls { version, verified, resumed });
    let about = proxy::About { client: client.peer, service: client.local, name, alpn, tls };
    let connected = tokio::select! {
        connected = Box::pin(connect(&client, &pool, &about, false)) => connected,
        () = client.cut() => return,
    };
    // Without a backend it is closed without close_notify: nothing has ended as it should.
    if let Some(connected) = connected {
        carry(stream, Vec::new(), client, connected, pool).await;
    }
}

/// Serve a connection whose bytes are the backend's, all of them.
pub(crate) async fn tcp(stream: Metered<TcpStream, ConnState>, client: Client) {
    let Ok(pool) = client.pool(None, &[]) else {
        client.state.stats().rejected.inc(Rejection::NoRoute);
        return;
    };
    let about = proxy::About { client: client.peer, service: client.local, name: None, alpn: None, tls: None };
    let connected = tokio::select! {
        connected = Box::pin(connect(&client, &pool, &about, false)) => connected,
        () = client.cut() => return,
    };
    if let Some(connected) = connected {
        carry(stream, Vec::new(), client, connected, pool).await;
    }
}

/// The client's first bytes up to the end of its ClientHello, or beyond, and what they say.
async fn read_hello(
    stream: &mut Metered<TcpStream, ConnState>,
    max: usize,
) -> Result<(ClientHello, Vec<u8>), HandshakeFailure> {
    let mut reader = HelloReader::new(max);
    let mut bytes = Vec::with_capacity(FIRST_READ);
    loop {
        let before = bytes.len();
        bytes.reserve(FIRST_READ);
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return Err(HandshakeFailure::Closed),
        }
        match reader.feed(&bytes[before..]) {
            HelloStep::NeedMore => {}
            HelloStep::Hello(hello) => return Ok((hello, bytes)),
            HelloStep::PlainHttp => return Err(HandshakeFailure::PlainHttp),
            HelloStep::NotTls => return Err(HandshakeFailure::NotTls),
            HelloStep::TooLong => return Err(HandshakeFailure::TooLong),
            HelloStep::Malformed => return Err(HandshakeFailure::Other),
        }
    }
}

/// Close with a fatal alert, in a record of the client's version.
async fn refuse(stream: Metered<TcpStream, ConnState>, version: u16, alert: u8) {
    let [major, minor] = version.clamp(0x0300, 0x0303).to_be_bytes();
    tls::last_words(stream, &[21, major, minor, 0, 2, 2, alert]).await;
}

async fn carry<C: Side>(stream: C, first: Vec<u8>, client: Client, connected: Connected, pool: Rc<PoolView>) {
    let Connected { stream: backend, state, active } = connected;
    let idle = client.state.idle_timeout().min(clock::millis(pool.timeouts.idle));
    // A connection may live for days: it keeps nothing of this generation.
    drop(pool);
    let store = client.thread.relay.clone();
    let overdue = async {
        let mut watchdog = Watchdog::new(idle);
        poll_fn(|cx| watchdog.poll(cx, || client.state.last_io().max(state.last_io()) + idle)).await;
    };
    let relayed = async {
        match backend {
            Opened::Clear(backend) => Relay::new(stream, backend, first, store).await,
            Opened::Tls(backend) => Relay::new(stream, backend, first, store).await,
        }
    };
    tokio::select! {
        biased;
        () = client.cut() => {}
        () = active.over() => {}
        end = relayed => if end == End::BackendBroke {
            active.backend().stats.failures.inc(BackendFailure::Reset);
        },
        () = overdue => client.state.stats().timeouts.inc(ClientTimeout::Idle),
    }
}
