//! One try: a connection to the backend, the request on it, the header of the answer, by a deadline.

use super::retry::{About, Again, Kind, Where};
use super::{Done, Order};
use crate::http::body::RequestBody;
use crate::http::headers;
use crate::http::respond::Fault;
use crate::stats::{BackendFailure, Rejection};
use crate::upstream::{Active, Choice, ConnectError, Lease, Outcome, Phase, Sent, Wants, is_refused};
use http::{Request, Response};
use hyper::body::Incoming;
use std::borrow::Cow;
use std::cell::Cell;
use std::time::Instant;

/// What is tried, and how.
#[derive(Clone, Copy)]
pub(super) struct Trying<'a> {
    pub(super) order: &'a Order<'a>,
    pub(super) wants: Wants,
    /// On a connection that is not one of those that are there.
    pub(super) fresh: bool,
    pub(super) about: &'a About,
    /// Whether another backend may be tried after this one.
    pub(super) more: bool,
}

/// How it failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) kind: Kind,
    /// Whether the backend may have taken the request.
    pub(super) taken: bool,
    /// Whether the connection had been used before.
    pub(super) reused: bool,
    pub(super) failure: BackendFailure,
    /// What the client is told.
    pub(super) fault: Fault,
    pub(super) error: Cow<'static, str>,
}

impl Failed {
    /// Neither the backend's fault nor to be tried again.
    fn last(fault: Fault) -> Self {
        let failure = BackendFailure::Connect;
        Failed { kind: Kind::Final, taken: true, reused: false, failure, fault, error: "".into() }
    }

    /// Whether it counts against the backend: that it closes what was not used, or says what it did not take, does not.
    pub(super) fn is_backends(&self, decision: &Option<Again>) -> bool {
        !matches!(self.kind, Kind::Final | Kind::Cut) && !decision.is_some_and(|again| again.at == Where::Same)
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self.failure {
            BackendFailure::ResponseTimeout | BackendFailure::Reset | BackendFailure::IdleTimeout => Outcome::Gateway,
            _ => Outcome::Connect,
        }
    }
}

/// Try it. What is in `slot` afterwards can be sent again.
pub(super) async fn attempt(
    trying: Trying<'_>,
    choice: Choice,
    active: Active,
    slot: &mut Option<Request<RequestBody>>,
) -> Done {
    let began = trying.order.pool.is_watched().then(Instant::now);
    let sent = Cell::new(false);
    let limit = trying.order.retry.try_timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let exchanging = exchange(trying, &choice, slot, &sent);
    let result = match limit {
        None => exchanging.await,
        // Boxed: not everybody has a limit, and a timer is large.
        Some(limit) => Box::pin(tokio::time::timeout_at(limit, exchanging)).await.unwrap_or_else(|_| {
            Err(Failed {
                kind: Kind::Timeout,
                taken: sent.get(),
                reused: false,
                failure: if sent.get() { BackendFailure::ResponseTimeout } else { BackendFailure::ConnectTimeout },
                fault: Fault::GatewayTimeout,
                error: "no answer by the deadline of the try".into(),
            })
        }),
    };
    if sent.get() && !slot.as_ref().is_some_and(|copy| copy.body().is_whole()) {
        // Of its body not all is remembered.
        *slot = None;
    }
    Done { choice, active, began, result }
}

async fn exchange(
    trying: Trying<'_>,
    choice: &Choice,
    slot: &mut Option<Request<RequestBody>>,
    sent: &Cell<bool>,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let Trying { order, wants, fresh, about, more } = trying;
    let mut lease = match Lease::take(order.pool, &choice.backend, wants, fresh).await {
        Ok(lease) => lease,
        Err(error) => return Err(unconnected(&error)),
    };
    let (Some(state), reused) = (lease.state().cloned(), lease.reused) else {
        return Err(Failed::last(Fault::BadGateway));
    };
    let Some(mut request) = slot.take() else { return Err(Failed::last(Fault::BadGateway)) };
    headers::speak(&mut request, lease.is_http2()).map_err(Failed::last)?;
    if about.wants_copy(order.retry, reused, lease.is_http2(), fresh, more) {
        *slot = Some(copy(&request));
    }
    request.body_mut().attach(state.clone());
    state.begin(about.has_body, order.response_timeout);
    sent.set(true);
    let sending = state.in_time(lease.send(request), order.response_timeout);
    let (error, unsent) = match sending.await.flatten() {
        Some(Sent::Answer(response)) => {
            state.enter(Phase::ReceivingClient);
            return Ok((response, lease));
        }
        Some(Sent::Broken(mut error)) => {
            let unsent = error.take_message();
            (Some(error), unsent)
        }
        Some(Sent::Overdue) | None => (None, None),
    };
    if state.is_client_broke() {
        return Err(Failed::last(Fault::ClientBroke));
    }
    let failure = state.failure();
    let is_unsent = unsent.is_some();
    if is_unsent {
        *slot = unsent;
        sent.set(false);
    }
    let refused = error.as_ref().is_some_and(|error| is_refused(error.error()));
    let garbled = error.as_ref().is_some_and(|error| error.error().is_parse());
    let kind = match failure {
        _ if state.is_cut() => Kind::Cut,
        _ if reused && is_unsent => Kind::Reused,
        // A new connection that was closed before it took anything: as good as not connected.
        _ if is_unsent => Kind::Connect,
        BackendFailure::ResponseTimeout | BackendFailure::IdleTimeout => Kind::Timeout,
        _ if refused => Kind::Refused,
        _ if reused && !garbled => Kind::Reused,
        _ => Kind::Reset,
    };
    Err(Failed {
        kind,
        taken: !is_unsent && !refused,
        reused,
        failure,
        fault: if kind == Kind::Timeout { Fault::GatewayTimeout } else { Fault::BadGateway },
        error: error.map_or("no answer in time".into(), |error| error.error().to_string().into()),
    })
}

fn unconnected(error: &ConnectError) -> Failed {
    let failure = error.failure();
    let fault = match error {
        ConnectError::Pending => return Failed::last(Fault::Rejected(Rejection::CircuitPending)),
        ConnectError::Timeout | ConnectError::Shared(BackendFailure::ConnectTimeout) => Fault::GatewayTimeout,
        _ => Fault::BadGateway,
    };
    let kind = if matches!(error, ConnectError::Drained) { Kind::Cut } else { Kind::Connect };
    Failed { kind, taken: false, reused: false, failure, fault, error: error.to_string().into() }
}

/// The same request, with what is remembered of its body, or none.
pub(super) fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(request.body().again());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
