//! Bodies on their way through: not copied, not gathered, only watched for whose turn it is.

use super::actions::mirror::Copying;
use super::compress::Compressing;
use crate::api::Coding;
use crate::conn::InFlight;
use crate::stats::{BackendFailure, ServiceStats};
use crate::thread::Thread;
use crate::upstream::{Active, Lease, UpState};
use crate::view::View;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A client's body on its way to a backend.
pub(crate) struct RequestBody {
    /// None: empty.
    incoming: Option<Incoming>,
    /// The connection that it is sent on.
    state: Option<Arc<UpState>>,
    /// What the request is served by.
    view: Option<Rc<View>>,
    /// Who copies it in passing.
    copying: Option<Rc<RefCell<Copying>>>,
    /// In place of `incoming`: a copy.
    chunks: VecDeque<Bytes>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, view: Rc<View>) -> Self {
        RequestBody { incoming: Some(incoming), view: Some(view), ..RequestBody::empty() }
    }

    pub(crate) fn empty() -> Self {
        RequestBody { incoming: None, state: None, view: None, copying: None, chunks: VecDeque::new() }
    }

    /// A body that was copied before.
    pub(crate) fn copied(chunks: Vec<Bytes>) -> Self {
        RequestBody { chunks: chunks.into(), ..RequestBody::empty() }
    }

    /// What passes is to be copied.
    pub(super) fn copy_to(&mut self, copying: Rc<RefCell<Copying>>) {
        self.copying = Some(copying);
    }

    /// It is to be sent on this connection.
    pub(crate) fn attach(&mut self, state: Arc<UpState>) {
        self.state = Some(state);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let RequestBody { incoming: Some(incoming), state, view, copying, .. } = &mut *self else {
            let next = self.chunks.pop_front();
            if let Some(state) = &self.state {
                if self.chunks.is_empty() { state.uploaded() } else { state.upload(false) }
            }
            return Poll::Ready(next.map(|data| Ok(Frame::data(data))));
        };
        let mut polled = Pin::new(&mut *incoming).poll_frame(cx);
        if let Some(state) = state {
            match &polled {
                Poll::Pending => state.upload(true),
                Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => state.upload(false),
                Poll::Ready(Some(Ok(_)) | None) => state.uploaded(),
                Poll::Ready(Some(Err(_))) => state.client_broke(),
            }
        }
        if copying.is_some() {
            pass_copy(copying, &polled, incoming.is_end_stream());
        }
        if let (Poll::Ready(Some(Ok(frame))), Some(view)) = (&mut polled, view)
            && let Some(trailers) = frame.trailers_mut()
        {
            // A backend may read them like headers.
            super::headers::remove_edges_own(trailers, &view.compiled.client_cert_names);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().map_or(self.chunks.is_empty(), Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let copied = || SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum());
        self.incoming.as_ref().map_or_else(copied, Incoming::size_hint)
    }
}

/// What was polled of a body that is copied.
fn pass_copy(
    copying: &mut Option<Rc<RefCell<Copying>>>,
    polled: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>,
    at_end: bool,
) {
    let goes_on = match polled {
        Poll::Pending => return,
        Poll::Ready(None) => true,
        Poll::Ready(Some(Ok(frame))) => {
            let data = frame.data_ref();
            data.is_none_or(|data| copying.as_ref().is_some_and(|copying| copying.borrow_mut().passed(data)))
        }
        Poll::Ready(Some(Err(_))) => false,
    };
    match (goes_on, at_end || matches!(polled, Poll::Ready(None))) {
        (true, true) => copying.take().map_or((), Copying::whole),
        (true, false) => {}
        (false, _) => *copying = None,
    }
}

/// A response's body on its way to a client. It holds the request as in flight, and its backend's connection, which
/// it gives back when it has passed whole and takes along when it is dropped before that.
pub(crate) struct ResponseBody {
    kind: Kind,
    in_flight: Option<InFlight>,
}

/// Why a response's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// On the backend's side.
    #[error(transparent)]
    Backend(#[from] hyper::Error),
    /// While it was compressed.
    #[error("compressing: {0}")]
    Encoder(std::io::Error),
}

enum Kind {
    Empty,
    Bytes(Bytes),
    Backend {
        incoming: Incoming,
        held: Option<(Lease, Active)>,
    },
    /// Boxed: few are, and it is large.
    Compressed(Box<Compressing>),
    /// What cannot be sent as its header says.
    Broken(Option<std::io::Error>),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        ResponseBody { kind: Kind::Empty, in_flight: None }
    }

    pub(crate) fn text(text: &'static str) -> Self {
        ResponseBody::bytes(Bytes::from_static(text.as_bytes()))
    }

    pub(crate) fn bytes(bytes: Bytes) -> Self {
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Bytes(bytes) };
        ResponseBody { kind, in_flight: None }
    }

    pub(crate) fn from_backend(incoming: Incoming, lease: Lease, active: Active) -> Self {
        if incoming.is_end_stream() {
            lease.finish();
            return ResponseBody::empty();
        }
        ResponseBody { kind: Kind::Backend { incoming, held: Some((lease, active)) }, in_flight: None }
    }

    /// Compress what is yet to come of a body.
    pub(super) fn compressed(body: Self, coding: Coding, thread: &Rc<Thread>, stats: &Arc<ServiceStats>) -> Self {
        match Compressing::new(body, coding, thread, stats) {
            Ok(compressing) => ResponseBody { kind: Kind::Compressed(Box::new(compressing)), in_flight: None },
            // Its header says that it is compressed: what follows cannot be anything else.
            Err(error) => ResponseBody { kind: Kind::Broken(Some(error)), in_flight: None },
        }
    }

    /// The request is in flight until this body is gone.
    pub(crate) fn hold(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (incoming, held) = match &mut self.kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Compressed(compressing) => return compressing.poll(cx),
            Kind::Broken(error) => return Poll::Ready(error.take().map(|error| Err(BodyError::Encoder(error)))),
            Kind::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Kind::Backend { incoming, held } => (incoming, held),
        };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        match &polled {
            Poll::Pending => note(held, |state| state.download(true)),
            Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => note(held, |state| state.download(false)),
            Poll::Ready(Some(Ok(_)) | None) => {
                if let Some((lease, _)) = held.take() {
                    lease.finish();
                }
            }
            Poll::Ready(Some(Err(_))) => {
                if let Some((lease, _)) = held.take() {
                    let failure = lease.state().map_or(BackendFailure::Reset, |s| s.failure());
                    lease.backend().stats.failures.inc(failure);
                }
            }
        }
        polled.map_err(BodyError::Backend)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Bytes(_) | Kind::Broken(_) => false,
            Kind::Compressed(compressing) => compressing.is_end_stream(),
            Kind::Backend { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Backend { incoming, .. } => incoming.size_hint(),
            Kind::Compressed(_) | Kind::Broken(_) => SizeHint::default(),
        }
    }
}

fn note(held: &Option<(Lease, Active)>, what: impl FnOnce(&UpState)) {
    if let Some(state) = held.as_ref().and_then(|(lease, _)| lease.state()) {
        what(state);
    }
}
