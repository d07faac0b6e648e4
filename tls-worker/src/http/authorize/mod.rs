//! Authorizers: a request waits until somebody was asked whether it may go on. `question` makes the subrequest from the
//! request, `verdict` says what its answer means, `answers` keeps answers and has one callout serve all who ask the same,
//! `ready` is the snapshot's word, checked.

pub(crate) mod answers;
mod question;
pub(crate) mod ready;
mod verdict;

pub(crate) use ready::Ready;
pub use ready::check;

use super::body::{RequestBody, ResponseBody};
use super::exchange::Exchange;
use super::forward;
use super::respond::Fault;
use crate::persist::Pin;
use crate::stats::{AuthorizerOutcome, AuthorizerStats, CacheUse, CalloutFailure, Rejection};
use crate::upstream::PoolView;
use crate::view::Answered;
use answers::{Asked, Flight, Known};
use http::{HeaderName, HeaderValue, Request, Response};
use ready::Deny;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use verdict::Verdict;

/// RFC 8586: who has seen a request that goes around.
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// A connection that is cut is gone by then.
const GONE: Duration = Duration::from_secs(1);

/// Whether the request may go on, by its route's authorizer. `Some`: it may not, and this is the answer.
pub(super) async fn authorize(
    exchange: &Exchange,
    authorizer: usize,
    request: &mut Request<RequestBody>,
) -> Result<Option<Response<ResponseBody>>, Fault> {
    let ready = &exchange.view.compiled.authorizers[authorizer];
    let stats = exchange.client.thread.registry.borrow_mut().authorizer(&ready.name);
    for name in &ready.request_headers {
        request.headers_mut().remove(name);
    }
    // Somebody asks us whether our own question may pass: nobody would ever answer.
    if request.headers().get_all(CDN_LOOP).iter().any(|seen| has_token(seen, process_token())) {
        stats.outcomes.inc(AuthorizerOutcome::Loop);
        return Err(Fault::Rejected(Rejection::Loop));
    }
    request.headers_mut().remove(CDN_LOOP);
    let verdict = match tokio::time::timeout(ready.timeout, verdict(exchange, ready, request, &stats)).await {
        Ok(verdict) => verdict,
        Err(_) => {
            // One that others wait for too is counted where it is made, once.
            if ready.cache.is_none() {
                stats.failures.inc(CalloutFailure::Timeout);
            }
            Err(CalloutFailure::Timeout)
        }
    };
    match verdict {
        Ok(verdict) if verdict.allowed => {
            stats.outcomes.inc(AuthorizerOutcome::Allowed);
            request.headers_mut().extend(verdict.headers.clone());
            Ok(None)
        }
        Ok(verdict) => {
            stats.outcomes.inc(AuthorizerOutcome::Denied);
            deny(exchange, ready, request, &verdict).await.map(Some)
        }
        Err(_) if ready.fail_open => {
            stats.outcomes.inc(AuthorizerOutcome::FailedOpen);
            Ok(None)
        }
        Err(_) => {
            stats.outcomes.inc(AuthorizerOutcome::FailedClosed);
            deny(exchange, ready, request, &Verdict::failed()).await.map(Some)
        }
    }
}

/// What the client is told that may not pass.
async fn deny(
    exchange: &Exchange,
    ready: &Ready,
    request: &Request<RequestBody>,
    verdict: &Verdict,
) -> Result<Response<ResponseBody>, Fault> {
    let mut response = match &ready.deny {
        Deny::Drop => {
            exchange.client.cut();
            // The connection goes, and this with it, before anything is said.
            tokio::time::sleep(GONE).await;
            return Err(Fault::Rejected(Rejection::Denied));
        }
        Deny::AsAnswered => verdict::refusal(verdict.status),
        Deny::Status(status) => verdict::refusal(*status),
        Deny::Redirect { status, location } => {
            let location = location.fill(&exchange.facts(request.into()));
            let Ok(location) = HeaderValue::from_bytes(&location) else {
                return Err(Fault::Rejected(Rejection::Denied));
            };
            let mut response = verdict::refusal(*status);
            response.headers_mut().insert(http::header::LOCATION, location);
            response
        }
    };
    response.headers_mut().extend(verdict.headers.clone());
    Ok(response)
}

async fn verdict(
    exchange: &Exchange,
    ready: &Ready,
    request: &Request<RequestBody>,
    stats: &Arc<AuthorizerStats>,
) -> Result<Arc<Verdict>, CalloutFailure> {
    let facts = exchange.facts(request.into());
    let ask = || question::question(ready, &facts).ok_or(CalloutFailure::Question);
    let pool = &exchange.view.pools[ready.pool];
    let Some(cache) = &ready.cache else {
        let question = ask().inspect_err(|failure| stats.failures.inc(*failure))?;
        return call(pool, question, ready, stats).await.map(Arc::new);
    };
    let key = cache.answers.key(&cache.key.fill(&facts));
    let flight = match cache.answers.ask(&key, Instant::now()) {
        Asked::Known(Known { verdict, .. }) => {
            stats.cache.inc(CacheUse::Hit);
            return verdict;
        }
        Asked::Joined(flight) => {
            stats.cache.inc(CacheUse::Joined);
            flight
        }
        Asked::First(lead) => {
            stats.cache.inc(CacheUse::Miss);
            let question = ask().inspect_err(|failure| stats.failures.inc(*failure))?;
            let flight = lead.flight();
            let (view, pool, stats) = (exchange.view.clone(), pool.clone(), stats.clone());
            let authorizer = view.compiled.authorizers.iter().position(|other| std::ptr::eq(other, ready));
            // A task of its own: others wait for it when this client has gone.
            tokio::task::spawn_local(async move {
                let Some(ready) = authorizer.map(|place| &view.compiled.authorizers[place]) else { return };
                let called = tokio::time::timeout(ready.timeout, call(&pool, question, ready, &stats)).await;
                let verdict = called.unwrap_or_else(|_| {
                    stats.failures.inc(CalloutFailure::Timeout);
                    Err(CalloutFailure::Timeout)
                });
                lead.done(verdict.map(Arc::new), Instant::now());
            });
            flight
        }
    };
    Flight::wait(&flight).await
}

/// One callout.
async fn call(
    pool: &Rc<PoolView>,
    question: Request<RequestBody>,
    ready: &Ready,
    stats: &AuthorizerStats,
) -> Result<Verdict, CalloutFailure> {
    let began = Instant::now();
    let order = forward::Order::of(pool);
    let answer = forward::forward(&order, &mut Some(question), &mut Answered::default(), &mut Pin::default()).await;
    let verdict = match answer {
        Ok(forward::Answer { response, lease, active }) => {
            let response = response.map(|incoming| ResponseBody::from_backend(incoming, lease, active));
            Verdict::of(response, ready).await
        }
        Err(Fault::NoBackend) => Err(CalloutFailure::NoBackend),
        Err(Fault::GatewayTimeout) => Err(CalloutFailure::Timeout),
        Err(_) => Err(CalloutFailure::Broken),
    };
    stats.seconds.observe(began.elapsed());
    if let Err(failure) = &verdict {
        stats.failures.inc(*failure);
        tracing::debug!(authorizer = &*ready.name, pool = &*pool.name, ?failure, "a callout had no answer");
    }
    verdict
}

/// What this process's own callouts carry.
fn process_token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let mut chance = [0; 16];
        let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut chance);
        let hex: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("bailey-{hex}")
    })
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    let tokens = value.to_str().unwrap_or("").split(',');
    tokens.map(|one| one.split(';').next().unwrap_or("").trim()).any(|one| one == token)
}
