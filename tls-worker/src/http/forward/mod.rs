//! One request to a backend, and to others if that fails: a place on one of them, a connection, the header of its
//! answer (`attempt`); whether to try again is decided in `retry`; `hedge` begins a second try beside the first.

mod attempt;
mod hedge;
mod retry;

use super::body::RequestBody;
use super::respond::Fault;
use crate::api::Retry;
use crate::persist::Pin;
use crate::stats::{Circuit, Rejection, RetryReason};
use crate::upstream::{Active, Ask, Choice, Lease, NoPlace, Outcome, PoolView, Wants};
use crate::view::Answered;
use attempt::Failed;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use retry::{About, Where};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A backend's answer, its body still to come.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    pub(super) active: Active,
}

/// How a request is to be forwarded.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) pool: &'a PoolView,
    pub(super) retry: &'a Retry,
    /// Hash of its key.
    pub(super) key: Option<u64>,
    /// Longest that a backend may take to the header of its answer, in place of what the pool says.
    pub(super) response_timeout: Option<Duration>,
}

impl<'a> Order<'a> {
    /// As the pool says, and nothing else.
    pub(super) fn of(pool: &'a PoolView) -> Self {
        Order { pool, retry: &pool.retry, key: None, response_timeout: None }
    }
}

/// A try that is over, and where it was.
struct Done {
    choice: Choice,
    active: Active,
    began: Option<Instant>,
    result: Result<(Response<Incoming>, Lease), Failed>,
}

/// Get a backend's answer to the request in `slot`. `by` is told which backend it was, or would have been; `pin`
/// says where its client was before.
pub(super) async fn forward(
    order: &Order<'_>,
    slot: &mut Option<Request<RequestBody>>,
    by: &mut Answered,
    pin: &mut Pin,
) -> Result<Answer, Fault> {
    let pool = order.pool;
    let admitted = pool.admit().map_err(|none| fault(none, None))?;
    pool.deposit();
    let Some(request) = slot.as_mut() else { return Err(Fault::BadGateway) };
    let wants = if request.headers().contains_key(header::UPGRADE) { Wants::Http1 } else { Wants::Any };
    let about = About::new(request, order.retry);
    // A session does not move because its backend takes its time.
    let hedge = pool.hedge.filter(|_| about.may_hedge() && !pin.is_known());
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut tries = 0;
    // What the client is told when there is nobody left to try.
    let mut last: Option<Fault> = None;
    let mut same: Option<Choice> = None;
    loop {
        let fresh = same.is_some();
        let (choice, active) = match same.take() {
            Some(choice) => {
                let active = Active::begin(&choice.backend);
                (choice, active)
            }
            None => {
                let ask = Ask { tried: &tried, key: order.key, pinned: None, alone: false };
                tries += 1;
                pool.place(ask, pin).await.map_err(|none| fault(none, last))?
            }
        };
        by.backend = Some(choice.index);
        let more = tries < order.retry.tries;
        let trying = attempt::Trying { order, wants, fresh, about: &about, more };
        let done = match hedge {
            // Boxed: few have it.
            Some(hedge) => Box::pin(hedge::hedged(trying, hedge, choice, active, slot, &mut tried)).await,
            None => attempt::attempt(trying, choice, active, slot).await,
        };
        by.backend = Some(done.choice.index);
        let failed = match done.result {
            Ok((response, lease)) => {
                note(pool, &done.choice, outcome(response.status()), done.began);
                let code = response.status().as_u16();
                let again = slot.is_some() && more && about.repeats_code(code, order.retry);
                let here = done.choice.backend.address;
                if !again || !pool.has_untried(&tried, here) || !pool.may_retry() {
                    let mut active = done.active;
                    active.hold(admitted);
                    return Ok(Answer { response, lease, active });
                }
                pool.state.stats.retries.inc(RetryReason::Code);
                tried.push(here);
                last = Some(Fault::BadGateway);
                continue;
            }
            Err(failed) => failed,
        };
        let backend = done.choice.backend.clone();
        let more = more && pool.has_untried(&tried, backend.address);
        let decision = retry::decide(&failed, &about, order.retry, fresh, more, slot.is_some());
        if failed.is_backends(&decision) {
            count(pool, &done.choice, &failed, done.began);
        }
        let Some(again) = decision.filter(|again| again.free || pool.may_retry()) else { return Err(failed.fault) };
        pool.state.stats.retries.inc(again.reason);
        match again.at {
            Where::Same => same = Some(done.choice),
            Where::Other => {
                tried.push(backend.address);
                last = Some(failed.fault);
            }
        }
    }
}

/// What the client is told when there is no place; `last`: what the last try came to.
fn fault(none: NoPlace, last: Option<Fault>) -> Fault {
    match none {
        NoPlace::Nobody => last.unwrap_or(Fault::NoBackend),
        NoPlace::QueueFull => Fault::Rejected(Rejection::QueueFull),
        NoPlace::QueueTimeout => Fault::Rejected(Rejection::QueueTimeout),
        NoPlace::Circuit(Circuit::Pending) => Fault::Rejected(Rejection::CircuitPending),
        NoPlace::Circuit(Circuit::Requests | Circuit::Connections) => Fault::Rejected(Rejection::CircuitRequests),
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        502..=504 => Outcome::Gateway,
        500.. => Outcome::Error,
        _ => Outcome::Good,
    }
}

/// A try failed, and the backend is to blame.
fn count(pool: &PoolView, choice: &Choice, failed: &Failed, began: Option<Instant>) {
    let backend = &choice.backend;
    if failed.kind == retry::Kind::Cut {
        return;
    }
    note(pool, choice, failed.outcome(), began);
    backend.stats.failures.inc(failed.failure);
    tracing::debug!(pool = &*pool.name, backend = %backend.address, error = %failed.error, "no answer");
}

fn note(pool: &PoolView, choice: &Choice, outcome: Outcome, began: Option<Instant>) {
    if let Some(began) = began {
        pool.outcome(choice, outcome, began.elapsed());
    }
}
