//! What is known of one client connection: times for its deadlines ([`ConnState`], carried by its socket), its place
//! among the thread's open ones ([`Registration`]), and what a request on it needs ([`Client`]).

mod state;

pub(crate) use state::{ConnState, InFlight};

use crate::api::ClientCertField;
use crate::stats::Rejection;
use crate::thread::Thread;
use crate::tls::{Peer, ServiceTls};
use crate::view::{ServiceView, View};
use http::HeaderValue;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// What a connection is asked to do from outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// Nothing.
    Serve,
    /// Answer what is open, then close.
    Finish,
    /// Close now.
    Cut,
}

/// Where a connection is signalled.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Name of its service.
    pub(crate) service: Arc<str>,
    /// What its TLS handshake settled, when it is done.
    peer: OnceCell<Peer>,
    signal: Cell<Signal>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    pub(crate) fn ring(&self, signal: Signal) {
        self.signal.set(signal.max(self.signal.get()));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether the connection may go on when its service's TLS is this. One that has settled nothing yet may.
    pub(crate) fn may_go_on(&self, tls: Option<&ServiceTls>) -> bool {
        match (self.peer.get(), tls) {
            (Some(peer), Some(tls)) => peer.holds(tls),
            _ => true,
        }
    }
}

/// A connection's (or tunnel's) place among the thread's open ones.
pub(crate) struct Registration {
    thread: Rc<Thread>,
    id: u64,
    bell: Rc<Bell>,
}

impl Registration {
    pub(crate) fn new(thread: &Rc<Thread>, service: Arc<str>) -> Self {
        let signal = Cell::new(if thread.draining.get() { Signal::Finish } else { Signal::Serve });
        let bell = Rc::new(Bell { service, peer: OnceCell::new(), signal, waker: RefCell::new(None) });
        let id = thread.next_connection.get();
        thread.next_connection.set(id + 1);
        thread.open.borrow_mut().insert(id, bell.clone());
        Registration { thread: thread.clone(), id, bell }
    }

    /// Its TLS handshake is done.
    pub(crate) fn secured(&self, peer: Peer) {
        // Once for a connection.
        let _ = self.bell.peer.set(peer);
    }

    /// Whether the whole thread ends, and not this connection alone for what it was made under.
    pub(crate) fn is_last(&self) -> bool {
        self.thread.draining.get()
    }

    /// What is asked for; the task that polls is woken when that changes.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Signal {
        let mut waker = self.bell.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.bell.signal.get()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.thread.open.borrow_mut();
        open.remove(&self.id);
        if open.is_empty() {
            self.thread.closed.notify_one();
        }
    }
}

/// What a request needs to know of the connection that it came on.
pub(crate) struct Client {
    pub(crate) thread: Rc<Thread>,
    pub(crate) state: Arc<ConnState>,
    /// Its service; the views change under it with every generation.
    pub(crate) service: Arc<str>,
    /// The other end of its connection.
    pub(crate) peer_address: SocketAddr,
    /// The address that it connected to.
    pub(crate) local_address: SocketAddr,
    pub(crate) address: HeaderValue,
    pub(crate) proto: HeaderValue,
    /// CPU that the kernel delivered the connection on.
    pub(crate) incoming_cpu: Option<u32>,
    /// Generation, and the service's place in it.
    place: Cell<(u64, usize)>,
    served_by: RefCell<(u64, Option<HeaderValue>)>,
    /// That of its connection, when its handshake is done.
    bell: OnceCell<Rc<Bell>>,
}

impl Client {
    pub(crate) fn new(
        thread: Rc<Thread>,
        state: Arc<ConnState>,
        service: Arc<str>,
        place: (u64, usize),
        (peer_address, local_address): (SocketAddr, SocketAddr),
        proto: &'static str,
        incoming_cpu: Option<u32>,
    ) -> Self {
        let address = peer_address.ip().to_string();
        let address = HeaderValue::try_from(address).unwrap_or(HeaderValue::from_static("unknown"));
        Client {
            thread,
            state,
            service,
            peer_address,
            local_address,
            address,
            proto: HeaderValue::from_static(proto),
            incoming_cpu,
            place: Cell::new(place),
            served_by: RefCell::new((0, None)),
            bell: OnceCell::new(),
        }
    }

    /// Its TLS handshake is done.
    pub(crate) fn secured(&self, peer: Peer, registration: &Registration) {
        registration.secured(peer);
        let _ = self.bell.set(registration.bell.clone());
    }

    /// It is served in clear text.
    pub(crate) fn unsecured(&self, registration: &Registration) {
        let _ = self.bell.set(registration.bell.clone());
    }

    /// End its connection at once, without a word.
    pub(crate) fn cut(&self) {
        self.bell.get().inspect(|bell| bell.ring(Signal::Cut));
    }

    /// What its TLS handshake settled.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.bell.get()?.peer.get()
    }

    /// Whether a request for this host (lower case, no port) may come on this connection; `tls` is its service's now.
    pub(crate) fn may_ask(&self, tls: Option<&ServiceTls>, host: &str) -> Result<(), Rejection> {
        match (self.peer(), tls) {
            (Some(peer), _) if peer.refused().is_some() => {
                // This is answered, and nothing after it.
                self.bell.get().inspect(|bell| bell.ring(Signal::Finish));
                Err(Rejection::ClientCert)
            }
            (Some(peer), Some(tls)) if peer.serves(tls, host) => Ok(()),
            // Clear text, from before there was TLS.
            (_, Some(_)) => Err(Rejection::Misdirected),
            (_, None) => Ok(()),
        }
    }

    /// `Strict-Transport-Security` of the policy that the connection was made under.
    pub(crate) fn hsts(&self) -> Option<HeaderValue> {
        self.peer()?.hsts()
    }

    /// What a backend is told of the client's certificate.
    pub(crate) fn certificate_header(&self, field: ClientCertField) -> Option<HeaderValue> {
        let told = self.peer().and_then(|peer| peer.header(field));
        told.or((field == ClientCertField::Verify).then_some(HeaderValue::from_static("NONE")))
    }

    /// The thread's generation, and this connection's service in it. None where the service is gone; the connection
    /// is being closed for that.
    pub(crate) fn current(&self) -> Option<(Rc<View>, Rc<ServiceView>)> {
        let view = self.thread.view();
        let (generation, mut index) = self.place.get();
        if generation != view.generation() {
            index = view.place_of(&self.service)?;
            self.place.set((view.generation(), index));
        }
        let service = view.services[index].clone();
        Some((view, service))
    }

    /// Value of the header that names the worker.
    pub(crate) fn served_by(&self, generation: u64) -> Option<HeaderValue> {
        let mut kept = self.served_by.borrow_mut();
        if kept.1.is_none() || kept.0 != generation {
            let or_none = |cpu: Option<u32>| cpu.map_or("-".to_owned(), |c| c.to_string());
            let (index, cpu, on) = (self.thread.index, or_none(self.thread.cpu), or_none(self.incoming_cpu));
            let text = format!("worker={index}; cpu={cpu}; incoming-cpu={on}; generation={generation}");
            *kept = (generation, HeaderValue::try_from(text).ok());
        }
        kept.1.clone()
    }
}
