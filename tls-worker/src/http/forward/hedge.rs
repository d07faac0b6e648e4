//! A second try beside the first, when that takes long. The first answer is taken, and the other try is dropped, which
//! ends it at its backend.

use super::Done;
use super::attempt::{Trying, attempt, copy};
use crate::api::Hedge;
use crate::http::body::RequestBody;
use crate::stats::HedgeResult;
use crate::upstream::{Active, Ask, Choice};
use http::Request;
use std::net::SocketAddr;
use std::pin::pin;

/// Try the request in `slot`, which is idempotent and has no body, on `choice`, and after a while on another backend
/// too. Both have a place among the `tried` when they failed.
pub(super) async fn hedged(
    trying: Trying<'_>,
    hedge: Hedge,
    choice: Choice,
    active: Active,
    slot: &mut Option<Request<RequestBody>>,
    tried: &mut Vec<SocketAddr>,
) -> Done {
    let pool = trying.order.pool;
    let mut spare = slot.as_ref().map(copy);
    let first_at = choice.backend.address;
    let mut first = pin!(attempt(trying, choice, active, slot));
    let waited = tokio::select! {
        biased;
        done = &mut first => Err(done),
        () = tokio::time::sleep(hedge.after) => Ok(()),
    };
    if let Err(done) = waited {
        return done;
    }
    let not: Vec<SocketAddr> = tried.iter().copied().chain([first_at]).collect();
    // Only where there is room at once: a hedge does not wait.
    let ask = Ask { tried: &not, key: trying.order.key, pinned: None, alone: false };
    let other = pool.choose(&ask).ok().filter(|_| pool.may_retry());
    let Some(other) = other else { return first.await };
    pool.state.stats.hedges.inc(HedgeResult::Sent);
    let active = Active::begin(&other.backend);
    let other_at = other.backend.address;
    let mut second = pin!(attempt(trying, other, active, &mut spare));
    let (done, was_second) = tokio::select! {
        biased;
        done = &mut first => (done, false),
        done = &mut second => (done, true),
    };
    let Err(failed) = &done.result else {
        if was_second {
            pool.state.stats.hedges.inc(HedgeResult::Won);
        }
        return done;
    };
    // One of them failed: it is up to the other one.
    super::count(pool, &done.choice, failed, done.began);
    tried.push(if was_second { other_at } else { first_at });
    let done = if was_second { first.await } else { second.await };
    if done.result.is_ok() && !was_second {
        pool.state.stats.hedges.inc(HedgeResult::Won);
    }
    done
}
