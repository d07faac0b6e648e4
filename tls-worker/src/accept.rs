//! Accepting: each new connection is counted, its service found by the address that the client connected to, bounded,
//! its PROXY header read where there is one, and it is given a task of its own.

use crate::api::Mode;
use crate::conn::{Client, ConnState, Registration, Signal};
use crate::handshakes::Underway;
use crate::http::serve;
use crate::io::Metered;
use crate::proxy::{self, ProxyRules};
use crate::stats::{ClientTimeout, Group, HandshakeFailure, ProxyHeaders, ServiceStats, Session};
use crate::stream;
use crate::thread::Thread;
use crate::tls::{self, ServiceTls};
use crate::view::{ServiceView, View};
use rustls::{HandshakeKind, NamedGroup};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// Wait after an error that is not the connection's fault (no descriptors left), so as not to spin on it.
const PAUSE: Duration = Duration::from_millis(50);

/// Accept until aborted.
pub(crate) async fn run(thread: Rc<Thread>, listener: TcpListener) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                begin(&thread, stream, peer);
            }
            Err(e) if is_of_the_connection(&e) => {}
            Err(error) => {
                // Once, not fifty times a second.
                if !failing {
                    tracing::error!(thread = thread.index, %error, "cannot accept; raise the limit of open files if it says so");
                }
                failing = true;
                thread.room.exhausted(&thread);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// accept(2): errors that belong to the connection that was to be accepted.
fn is_of_the_connection(e: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(e.kind(), ConnectionAborted | ConnectionReset | Interrupted | NetworkUnreachable | HostUnreachable)
}

fn begin(thread: &Rc<Thread>, stream: TcpStream, peer: SocketAddr) {
    thread.stats.connections.inc();
    let incoming_cpu = rustix::net::sockopt::socket_incoming_cpu(&stream).ok();
    if incoming_cpu.is_some() && incoming_cpu == thread.cpu {
        thread.stats.on_cpu.inc();
    }
    if !thread.room.admit(thread) {
        return;
    }
    let view = thread.view();
    let local = stream.local_addr();
    let found = local.ok().and_then(|local| Some((local, view.compiled.service_at(local)?)));
    let Some((local, index)) = found else {
        thread.stats.unknown.inc();
        return;
    };
    let service = view.services[index].clone();
    let compiled = &view.compiled.services[index];
    if service.stats.active.get() >= compiled.max_connections {
        service.stats.refused.inc();
        return;
    }
    let proxy_header = compiled.proxy_header.clone();
    if proxy_header.as_ref().is_some_and(|rules| !rules.may_come(peer.ip())) {
        service.stats.proxy_headers.inc(ProxyHeaders::Untrusted);
        return;
    }
    let _ = stream.set_nodelay(true);
    let state =
        Arc::new(ConnState::new(service.stats.clone(), thread.stats.clone(), &compiled.timeouts, &compiled.limits));
    let registration = Registration::new(thread, service.name.clone());
    let stream = Metered::new(stream, state.clone());
    let arrived =
        Arrived { thread: thread.clone(), view, index, state, registration, stream, peer, local, incoming_cpu };
    match proxy_header {
        None => arrived.launch(),
        Some(rules) => {
            tokio::task::spawn_local(arrived.after_header(rules));
        }
    }
}

/// A connection that is accepted and counted.
struct Arrived {
    thread: Rc<Thread>,
    view: Rc<View>,
    /// Of its service.
    index: usize,
    state: Arc<ConnState>,
    registration: Registration,
    stream: Metered<TcpStream, ConnState>,
    peer: SocketAddr,
    local: SocketAddr,
    incoming_cpu: Option<u32>,
}

impl Arrived {
    /// Go on when its PROXY header is read.
    async fn after_header(mut self, rules: Arc<ProxyRules>) {
        let received = tokio::select! {
            received = proxy::receive(&mut self.stream, self.peer.ip(), &rules) => received,
            () = poll_fn(|cx| match self.registration.poll(cx) {
                Signal::Serve => Poll::Pending,
                // Nothing was asked yet, so nothing is lost by closing.
                Signal::Finish | Signal::Cut => Poll::Ready(()),
            }) => return,
        };
        let outcome = match received {
            Ok(Some((client, service))) => {
                (self.peer, self.local) = (client, service);
                ProxyHeaders::Accepted
            }
            Ok(None) => ProxyHeaders::Local,
            Err(reason) => {
                tracing::debug!(peer = %self.peer, ?reason, "PROXY header");
                reason
            }
        };
        self.state.stats().proxy_headers.inc(outcome);
        if received.is_ok() {
            self.launch();
        }
    }

    /// Give it a task of its own, where the limits of clients allow it.
    fn launch(self) {
        let Arrived { thread, view, index, state, registration, stream, peer, local, incoming_cpu } = self;
        let service = view.services[index].clone();
        let compiled = &view.compiled.services[index];
        if let Some(limits) = &compiled.client_limits {
            match limits.connect(peer.ip(), &service.stats) {
                Some(hold) => state.hold(hold),
                None => return,
            }
        }
        let underway = match compiled.mode {
            Mode::Http | Mode::Tcp => None,
            Mode::Https | Mode::Tls | Mode::Passthrough => match thread.handshakes.begin(peer.ip()) {
                Ok(underway) => Some(underway),
                Err(reason) => {
                    service.stats.handshakes_refused.inc(reason);
                    return;
                }
            },
        };
        let timeout = compiled.timeouts.handshake;
        let name = service.name.clone();
        // Carries requests, or bytes as they are.
        let carries_requests = matches!(compiled.mode, Mode::Http | Mode::Https);
        let requests = |proto| {
            let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let (place, ends) = ((view.generation(), index), (canonical(peer), canonical(local)));
            Rc::new(Client::new(thread.clone(), state.clone(), name.clone(), place, ends, proto, incoming_cpu))
        };
        let bytes = |registration| stream::Client {
            thread: thread.clone(),
            state: state.clone(),
            service: name.clone(),
            registration,
            peer,
            local,
        };
        match (&compiled.tls, underway) {
            (Some(tls), Some(underway)) => {
                let serving = match carries_requests {
                    true => Serving::Requests(requests("https"), registration),
                    false => Serving::Bytes(bytes(registration)),
                };
                let secured = secured(stream, tls.clone(), timeout, underway, thread.clone(), service, serving);
                tokio::task::spawn_local(secured);
            }
            (_, Some(underway)) => {
                tokio::task::spawn_local(stream::passthrough(stream, bytes(registration), underway, timeout));
            }
            (_, None) if compiled.mode == Mode::Tcp => {
                tokio::task::spawn_local(stream::tcp(stream, bytes(registration)));
            }
            (_, None) => {
                tokio::task::spawn_local(serve::clear(stream, requests("http"), registration));
            }
        }
    }
}

/// The handshake, then what comes after it.
async fn secured(
    stream: Metered<TcpStream, ConnState>,
    tls: Arc<ServiceTls>,
    timeout: Duration,
    underway: Underway,
    thread: Rc<Thread>,
    service: Rc<ServiceView>,
    serving: Serving,
) {
    // Boxed: a handshake's state is large, and gone when the connection is idle.
    let handshake = Box::pin(handshake(stream, &tls, timeout, underway, &thread, &service.stats));
    let Some(accepted) = handshake.await else { return };
    match serving {
        Serving::Requests(client, registration) => {
            client.secured(accepted.peer, &registration);
            serve::tls(accepted.stream, client, registration).await;
        }
        Serving::Bytes(client) => {
            // There is no HTTP to say it in.
            if let Some(reason) = accepted.peer.refused() {
                service.stats.handshake_failures.inc(reason);
                return;
            }
            let verified = accepted.peer.is_verified();
            client.registration.secured(accepted.peer);
            Box::pin(stream::tls(accepted.stream, client, verified)).await;
        }
    }
}

/// What comes after the handshake.
enum Serving {
    Requests(Rc<Client>, Registration),
    Bytes(stream::Client),
}

async fn handshake(
    stream: Metered<TcpStream, ConnState>,
    tls: &ServiceTls,
    timeout: Duration,
    underway: Underway,
    thread: &Thread,
    stats: &ServiceStats,
) -> Option<tls::Accepted> {
    let began = Instant::now();
    let state = stream.meter().clone();
    let deadline = tokio::time::Instant::now() + timeout;
    match tokio::time::timeout_at(deadline, tls::accept(stream, &state, tls, &underway)).await {
        Ok(Ok(mut accepted)) => {
            let v13 = accepted.stream.get_ref().1.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
            stats.handshakes[usize::from(v13)].inc();
            stats.handshake_seconds.observe(began.elapsed());
            count_session(accepted.stream.get_ref().1, stats);
            if let Some(outcome) = accepted.peer.settle(&thread.ocsp, deadline).await {
                stats.client_certs.inc(outcome);
            }
            Some(accepted)
        }
        Ok(Err((reason, stream))) => {
            stats.handshake_failures.inc(reason);
            if let Some(outcome) = reason.of_client_cert() {
                stats.client_certs.inc(outcome);
            }
            if let Some(stream) = stream {
                tls::refuse_plain_http(stream).await;
            }
            None
        }
        Err(_) => {
            stats.handshake_failures.inc(HandshakeFailure::Timeout);
            stats.timeouts.inc(ClientTimeout::Handshake);
            None
        }
    }
}

fn count_session(connection: &rustls::ServerConnection, stats: &ServiceStats) {
    let session = match connection.handshake_kind() {
        Some(HandshakeKind::Resumed) => Session::Resumed,
        Some(HandshakeKind::FullWithHelloRetryRequest) => Session::Retried,
        _ => Session::Full,
    };
    stats.sessions.inc(session);
    let group = match connection.negotiated_key_exchange_group().map(|group| group.name()) {
        Some(NamedGroup::X25519MLKEM768) => Group::X25519MlKem768,
        Some(NamedGroup::X25519) => Group::X25519,
        Some(NamedGroup::secp256r1) => Group::Secp256r1,
        Some(NamedGroup::secp384r1) => Group::Secp384r1,
        // Resumed without a key exchange.
        _ => return,
    };
    stats.groups.inc(group);
}
