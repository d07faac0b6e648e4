//! A client's body on its way to a backend: not copied, not gathered, but measured. It may be too long, and it may come
//! too slowly, for as long as its answer has not begun: from then on the two are a conversation.

use super::actions::mirror::Copying;
use super::respond::Fault;
use super::tape::Tape;
use crate::api::HttpLimits;
use crate::clock::{self, Millis};
use crate::stats::Rejection;
use crate::upstream::UpState;
use crate::view::View;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// Its connection broke.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// The request is refused for it.
    #[error("the body is over a limit")]
    Limit,
}

/// What the body and the answering of its request tell each other.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    fault: Cell<Option<Fault>>,
    answered: Cell<bool>,
}

impl Upload {
    /// Why it ended.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// The answer has begun.
    pub(super) fn set_answered(&self) {
        self.answered.set(true);
    }
}

/// See the module.
pub(crate) struct RequestBody {
    /// None: empty.
    incoming: Option<Incoming>,
    /// The connection that it is sent on.
    state: Option<Arc<UpState>>,
    /// What the request is served by.
    view: Option<Rc<View>>,
    measure: Option<Measure>,
    /// Who copies it in passing.
    copying: Option<Rc<RefCell<Copying>>>,
    /// In place of `incoming`: a copy.
    chunks: VecDeque<Bytes>,
    /// Where it is remembered, to be sent again.
    tape: Option<Rc<Tape>>,
    /// In place of `incoming`: what was remembered, from this part on.
    replayed: Option<(Rc<Tape>, usize)>,
}

impl RequestBody {
    /// None of `measure`: it is empty.
    pub(super) fn new(incoming: Incoming, view: Rc<View>, measure: Option<Measure>) -> Self {
        RequestBody { incoming: Some(incoming), view: Some(view), measure, ..RequestBody::empty() }
    }

    pub(crate) fn empty() -> Self {
        let chunks = VecDeque::new();
        RequestBody {
            incoming: None,
            state: None,
            view: None,
            measure: None,
            copying: None,
            chunks,
            tape: None,
            replayed: None,
        }
    }

    /// A body that was copied before.
    pub(crate) fn copied(chunks: Vec<Bytes>) -> Self {
        RequestBody { chunks: chunks.into(), ..RequestBody::empty() }
    }

    /// What passes is to be copied.
    pub(super) fn copy_to(&mut self, copying: Rc<RefCell<Copying>>) {
        self.copying = Some(copying);
    }

    /// Remember what passes, up to so many bytes, so that it can be sent again.
    pub(super) fn remember(&mut self, bound: usize) {
        if self.incoming.is_some() {
            self.tape = Some(Rc::new(Tape::new(bound)));
        }
    }

    /// The same once more, as far as it is remembered.
    pub(super) fn again(&self) -> Self {
        let tape = self.tape.as_ref().or(self.replayed.as_ref().map(|(tape, _)| tape));
        let replayed = tape.map(|tape| (tape.clone(), 0));
        // Of a copy the parts are at hand.
        RequestBody { replayed, view: self.view.clone(), chunks: self.chunks.clone(), ..RequestBody::empty() }
    }

    /// Whether all that it is made of is at hand.
    pub(super) fn is_whole(&self) -> bool {
        self.incoming.is_none() && self.replayed.as_ref().is_none_or(|(tape, _)| tape.is_whole())
    }

    /// It is to be sent on this connection.
    pub(crate) fn attach(&mut self, state: Arc<UpState>) {
        self.state = Some(state);
    }
}

impl RequestBody {
    /// Of what was remembered or copied.
    fn next_part(&mut self) -> Option<Frame<Bytes>> {
        match &mut self.replayed {
            Some((tape, place)) => {
                let frame = tape.part(*place);
                *place += 1;
                frame
            }
            None => self.chunks.pop_front().map(Frame::data),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let RequestBody { incoming: Some(incoming), state, view, measure, copying, tape, .. } = &mut *self else {
            let next = self.next_part();
            if let Some(state) = &self.state {
                if self.is_end_stream() { state.uploaded() } else { state.upload(false) }
            }
            return Poll::Ready(next.map(Ok));
        };
        let polled = Pin::new(&mut *incoming).poll_frame(cx).map_err(UploadError::Client);
        let mut polled = match measure {
            Some(measure) => measure.look(polled, cx),
            None => polled,
        };
        if let Some(state) = state {
            match &polled {
                Poll::Pending => state.upload(true),
                Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => state.upload(false),
                Poll::Ready(Some(Ok(_)) | None) => state.uploaded(),
                Poll::Ready(Some(Err(_))) => state.client_broke(),
            }
        }
        match (tape, &polled) {
            (Some(tape), Poll::Ready(Some(Ok(frame)))) => tape.note(Some(frame), incoming.is_end_stream()),
            (Some(tape), Poll::Ready(None)) => tape.note(None, true),
            _ => {}
        }
        if copying.is_some() {
            pass_copy(copying, &polled, incoming.is_end_stream());
        }
        if let (Poll::Ready(Some(Ok(frame))), Some(view)) = (&mut polled, view)
            && let Some(trailers) = frame.trailers_mut()
        {
            // A backend may read them like headers.
            super::headers::remove_edges_own(trailers, &view.compiled.stripped);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match (&self.incoming, &self.replayed) {
            (Some(incoming), _) => incoming.is_end_stream(),
            (None, Some((tape, place))) => tape.len() <= *place,
            (None, None) => self.chunks.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.incoming, &self.replayed) {
            (Some(incoming), _) => incoming.size_hint(),
            (None, Some((tape, _))) => tape.size_hint(),
            (None, None) => SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum()),
        }
    }
}

/// What was polled of a body that is copied.
fn pass_copy(
    copying: &mut Option<Rc<RefCell<Copying>>>,
    polled: &Poll<Option<Result<Frame<Bytes>, UploadError>>>,
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
    let whole = copying.as_ref().is_some_and(|copying| copying.borrow().is_whole());
    match (goes_on, at_end || whole || matches!(polled, Poll::Ready(None))) {
        (true, true) => copying.take().map_or((), Copying::whole),
        (true, false) => {}
        (false, _) => *copying = None,
    }
}

/// How much came, and how long it was waited for.
pub(super) struct Measure {
    upload: Rc<Upload>,
    /// Bytes that may still come; none: any number.
    left: Option<u64>,
    idle: Millis,
    min_rate: u64,
    grace: Millis,
    came: u64,
    waited: Millis,
    /// Since when it is waited for; 0: it is not.
    since: Millis,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Measure {
    /// `most`: bytes of the body, 0 for no bound.
    pub(super) fn new(limits: &HttpLimits, most: u64, headers: &HeaderMap, upload: Rc<Upload>) -> Self {
        // A gRPC stream is a conversation from its start, and may be silent for long.
        let kind = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let converses = kind.starts_with(b"application/grpc");
        Measure {
            upload,
            left: (most > 0).then_some(most),
            idle: if converses { 0 } else { clock::millis(limits.body_idle) },
            min_rate: if converses { 0 } else { limits.min_rate.into() },
            grace: clock::millis(limits.min_rate_grace),
            came: 0,
            waited: 0,
            since: 0,
            timer: None,
        }
    }

    fn look(
        &mut self,
        polled: Poll<Option<Result<Frame<Bytes>, UploadError>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match polled {
            Poll::Pending => {
                ready!(self.poll_overdue(cx));
                Poll::Ready(Some(Err(self.ends(Rejection::BodySlow))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.came_in();
                let n = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.came += n;
                match self.left.map(|left| left.checked_sub(n)) {
                    Some(None) => return Poll::Ready(Some(Err(self.ends(Rejection::BodySize)))),
                    Some(left) => self.left = left,
                    None => {}
                }
                Poll::Ready(Some(Ok(frame)))
            }
            other => other,
        }
    }

    fn ends(&self, reason: Rejection) -> UploadError {
        self.upload.fault.set(Some(Fault::Rejected(reason)));
        UploadError::Limit
    }

    fn came_in(&mut self) {
        if self.since > 0 {
            self.waited += clock::now().saturating_sub(self.since);
            (self.since, self.timer) = (0, None);
        }
    }

    /// Ready when it was waited for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.upload.answered.get() {
            return Poll::Pending;
        }
        let now = clock::now();
        if self.since == 0 {
            self.since = now;
        }
        let Some(due) = self.due() else { return Poll::Pending };
        let wait = Duration::from_millis(due.saturating_sub(now));
        if self.timer.is_none() {
            // Made when it is waited for at all: most bodies are there already.
            self.timer = Some(Box::pin(tokio::time::sleep(wait)));
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        while timer.as_mut().poll(cx).is_ready() {
            if self.upload.answered.get() {
                return Poll::Pending;
            }
            let left = due.saturating_sub(clock::now());
            if left == 0 {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + Duration::from_millis(left));
        }
        Poll::Pending
    }

    /// When the wait that began at `since` has lasted too long.
    fn due(&self) -> Option<Millis> {
        let silent = (self.idle > 0).then(|| self.since + self.idle);
        // Waited for so long in all, its bytes are fewer than the rate asks for.
        let enough = self.came.saturating_mul(1000).checked_div(self.min_rate);
        let slow = enough.map(|enough| self.since + enough.max(self.grace).saturating_sub(self.waited));
        silent.into_iter().chain(slow).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(idle: u64, rate: u64, grace: u64) -> Measure {
        let limits = HttpLimits::default();
        let measure = Measure::new(&limits, 0, &HeaderMap::new(), Rc::default());
        Measure { idle, min_rate: rate, grace, since: 1000, ..measure }
    }

    #[test]
    fn a_body_is_overdue_by_silence_or_by_its_rate() {
        assert_eq!(measure(500, 0, 9).due(), Some(1500));
        assert_eq!(measure(0, 0, 9).due(), None);
        assert_eq!(measure(500, 10, 100).due(), Some(1100));
        // 50 bytes at 10 a second last for five seconds of waiting, one of which has passed.
        let fed = Measure { came: 50, waited: 1000, ..measure(60_000, 10, 100) };
        assert_eq!(fed.due(), Some(5000));
        // What came slowly enough before is overdue at once.
        let slow = Measure { came: 1, waited: 9000, ..measure(60_000, 10, 100) };
        assert_eq!(slow.due(), Some(1000));
    }

    #[test]
    fn grpc_may_be_silent() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("application/grpc+proto"));
        let mut measure = Measure::new(&HttpLimits::default(), 0, &headers, Rc::default());
        measure.since = 1;
        assert_eq!(measure.due(), None);
    }
}
