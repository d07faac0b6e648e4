//! The answers' bodies on their way through: not copied, not gathered, only watched for whose turn it is.

pub(crate) use super::request_body::RequestBody;

use super::compress::Compressing;
use super::log::Line;
use super::stall::Held;
use crate::api::Coding;
use crate::conn::InFlight;
use crate::stats::{BackendFailure, ServiceStats};
use crate::thread::Thread;
use crate::upstream::{Active, Lease, UpState};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// A response's body on its way to a client. It holds the request as in flight, and its backend's connection, which
/// it gives back when it has passed whole and takes along when it is dropped before that.
pub(crate) struct ResponseBody {
    kind: Kind,
    /// Of the access log.
    line: Option<Box<Line>>,
    in_flight: Option<InFlight>,
    /// When it is to end, as a call of gRPC.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Who is told when it waits for its client.
    held: Option<Rc<Held>>,
}

/// Why a response's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// On the backend's side.
    #[error(transparent)]
    Backend(#[from] hyper::Error),
    /// The backend said nothing for too long, or its drain is over.
    #[error("the edge ended it: the backend was silent for too long, or its drain is over")]
    Ended,
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
    fn of(kind: Kind) -> Self {
        ResponseBody { kind, line: None, in_flight: None, held: None, deadline: None }
    }

    pub(crate) fn empty() -> Self {
        ResponseBody::of(Kind::Empty)
    }

    pub(crate) fn text(text: &'static str) -> Self {
        ResponseBody::bytes(Bytes::from_static(text.as_bytes()))
    }

    pub(crate) fn bytes(bytes: Bytes) -> Self {
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Bytes(bytes) };
        ResponseBody::of(kind)
    }

    pub(crate) fn from_backend(incoming: Incoming, lease: Lease, active: Active) -> Self {
        if incoming.is_end_stream() {
            lease.finish();
            return ResponseBody::empty();
        }
        ResponseBody::of(Kind::Backend { incoming, held: Some((lease, active)) })
    }

    /// Compress what is yet to come of a body.
    pub(super) fn compressed(body: Self, coding: Coding, thread: &Rc<Thread>, stats: &Arc<ServiceStats>) -> Self {
        match Compressing::new(body, coding, thread, stats) {
            Ok(compressing) => ResponseBody::of(Kind::Compressed(Box::new(compressing))),
            // Its header says that it is compressed: what follows cannot be anything else.
            Err(error) => ResponseBody::of(Kind::Broken(Some(error))),
        }
    }

    /// It ends with the trailers of an overdue call when the backend has not ended it by then.
    pub(super) fn until(mut self, deadline: Instant) -> Self {
        if matches!(self.kind, Kind::Backend { .. }) {
            self.deadline = Some(Box::pin(sleep_until(deadline)));
        }
        self
    }

    /// The request is in flight until this body is gone.
    pub(crate) fn hold(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    /// Written when this body is gone.
    pub(super) fn log(&mut self, line: Line) {
        self.line = Some(Box::new(line));
    }

    /// Tell when it waits for its client.
    pub(super) fn watch(&mut self, held: Rc<Held>) {
        self.held = Some(held);
    }

    fn tell(&self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        match (&self.held, polled) {
            (Some(held), Poll::Ready(Some(Ok(_)))) if !self.is_end_stream() => held.by_client(),
            (Some(held), _) => held.by_nobody(),
            (None, _) => {}
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let ResponseBody { kind, deadline, .. } = &mut *self;
        let (incoming, held) = match kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Compressed(compressing) => return compressing.poll(cx),
            Kind::Broken(error) => return Poll::Ready(error.take().map(|error| Err(BodyError::Encoder(error)))),
            Kind::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *kind = Kind::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Kind::Backend { incoming, held } => (incoming, held),
        };
        let mut polled = Pin::new(&mut *incoming).poll_frame(cx).map_err(BodyError::Backend);
        if polled.is_pending() {
            note(held, |state| state.download(true));
            if held.as_ref().is_some_and(|(lease, _)| lease.poll_overdue(cx).is_ready()) {
                polled = Poll::Ready(Some(Err(BodyError::Ended)));
            } else if deadline.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
                // What it holds of the backend goes with it.
                *kind = Kind::Empty;
                return Poll::Ready(Some(Ok(Frame::trailers(super::grpc::overdue()))));
            }
        }
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => note(held, |state| state.download(false)),
            Poll::Ready(Some(Ok(_)) | None) => {
                if let Some((lease, _)) = held.take() {
                    lease.finish();
                }
            }
            Poll::Ready(Some(Err(_))) => {
                if let Some((lease, _)) = held.take() {
                    let state = lease.state();
                    if !state.is_some_and(|state| state.is_cut()) {
                        let failure = state.map_or(BackendFailure::Reset, |s| s.failure());
                        lease.backend().stats.failures.inc(failure);
                    }
                }
            }
        }
        polled
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_kind(cx);
        self.tell(&polled);
        let ended = self.is_end_stream();
        if let (Poll::Ready(frame), Some(line)) = (&polled, &mut self.line) {
            line.passed(frame.as_ref().map(Result::as_ref), ended);
        }
        polled
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
