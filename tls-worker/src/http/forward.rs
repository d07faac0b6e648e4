//! One request to one backend: choose it, take a connection, send, wait for the header of the answer. What can be
//! tried again without the backend having seen the request, or without harm if it has, is tried once more.

use super::body::RequestBody;
use super::headers;
use super::respond::Fault;
use crate::persist::Pin;
use crate::stats::BackendFailure;
use crate::upstream::{Active, ConnectError, Lease, Phase, PoolView, Wants, is_refused};
use crate::view::Answered;
use http::{Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;

/// A backend's answer, its body still to come.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    pub(super) active: Active,
}

/// Get a backend's answer to the request in `slot`. `by` is told which backend it was, or would have been.
pub(super) async fn forward(
    pool: &PoolView,
    slot: &mut Option<Request<RequestBody>>,
    by: &mut Answered,
    pin: &mut Pin,
) -> Result<Answer, Fault> {
    // The backend that could not be reached, and what the client is told if no other one can be.
    let mut failed: Option<(std::net::SocketAddr, Fault)> = None;
    let mut again = None;
    let asks_upgrade = slot.as_ref().is_some_and(|request| request.headers().contains_key(header::UPGRADE));
    let wants = if asks_upgrade { Wants::Http1 } else { Wants::Any };
    loop {
        let fresh = again.is_some();
        let not = failed.map(|f| f.0);
        let next = || pin.choose(pool, not, || pool.choose(not).cloned());
        let Some(choice) = again.take().or_else(next) else {
            return Err(failed.map_or(Fault::NoBackend, |f| f.1));
        };
        by.backend = Some(choice.index);
        let backend = &choice.backend;
        let active = Active::begin(backend);
        let mut lease = match Lease::take(pool, backend, wants, fresh).await {
            Ok(lease) => lease,
            Err(error) => {
                backend.stats.failures.inc(error.failure());
                tracing::debug!(pool = &*pool.name, backend = %backend.address, %error, "no connection");
                let fault =
                    if matches!(error, ConnectError::Timeout) { Fault::GatewayTimeout } else { Fault::BadGateway };
                if failed.replace((backend.address, fault)).is_some() {
                    return Err(fault);
                }
                continue;
            }
        };
        let (Some(state), reused) = (lease.state().cloned(), lease.reused) else { return Err(Fault::BadGateway) };
        let (Some(sender), Some(mut request)) = (lease.sender(), slot.take()) else { return Err(Fault::BadGateway) };
        headers::speak(&mut request, sender.is_http2())?;
        let has_body = !request.body().is_end_stream();
        // The backend may close a kept connection just as the request goes out on it; over HTTP/2 it may say of any
        // request that it did not take it.
        let idempotent = request.method().is_idempotent();
        let may_repeat = !has_body && !fresh && (sender.is_http2() || (reused && idempotent));
        *slot = may_repeat.then(|| copy(&request));
        request.body_mut().attach(state.clone());
        state.begin(has_body);
        let mut error = match sender.try_send(request).await {
            Ok(response) => {
                state.enter(Phase::ReceivingClient);
                return Ok(Answer { response, lease, active });
            }
            Err(error) => error,
        };
        let unsent = error.take_message();
        if state.is_client_broke() {
            return Err(Fault::ClientBroke);
        }
        if reused && unsent.is_some() {
            (*slot, again) = (unsent, Some(choice));
            continue;
        }
        let lost = reused && idempotent && !error.error().is_parse();
        if slot.is_some() && state.failure() == BackendFailure::Reset && (lost || is_refused(error.error())) {
            again = Some(choice);
            continue;
        }
        backend.stats.failures.inc(state.failure());
        tracing::debug!(pool = &*pool.name, backend = %backend.address, error = %error.error(), "no answer");
        let fault = match state.failure() {
            BackendFailure::ResponseTimeout | BackendFailure::IdleTimeout => Fault::GatewayTimeout,
            _ => Fault::BadGateway,
        };
        if unsent.is_none() || failed.is_some() {
            return Err(fault);
        }
        // A new connection that was closed before it took anything: as good as not connected.
        failed = Some((backend.address, fault));
        *slot = unsent;
    }
}

/// The same request; it has no body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
