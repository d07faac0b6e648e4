//! Whether a request is tried again, and where. Pure. One rule stands above all others: what is not idempotent goes to
//! a second backend only when the first surely did not take it, unless the config says otherwise.

use super::super::body::RequestBody;
use super::attempt::Failed;
use crate::api::{Retry, RetryOn};
use crate::stats::RetryReason;
use http::Request;
use http_body::Body;

/// What of a request decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    /// Whether doing it twice is as good as once, or is said to be.
    pub(super) repeatable: bool,
    /// By its method alone.
    pub(super) idempotent: bool,
    pub(super) has_body: bool,
    /// Whether its body is remembered, as far as the bound goes.
    pub(super) taped: bool,
}

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No connection, or a new one that was closed before it took the request.
    Connect,
    /// A kept connection that was closed before it took the request, or after, without a word.
    Reused,
    /// The backend says that it did not take the request.
    Refused,
    /// The connection broke.
    Reset,
    /// Nothing by the deadline.
    Timeout,
    /// The time of its drain is over.
    Cut,
    /// Not the backend's fault, or not to be helped.
    Final,
}

/// Where to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// On a new connection to the same backend.
    Same,
    /// On a backend that was not tried.
    Other,
}

/// A request is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) at: Where,
    pub(super) reason: RetryReason,
    /// It costs nothing of the budget: it makes no backend do more.
    pub(super) free: bool,
}

impl About {
    /// Look at a request, and have its body remembered where that may be of use.
    pub(super) fn new(request: &mut Request<RequestBody>, retry: &Retry) -> Self {
        let has_body = !request.body().is_end_stream();
        let idempotent = request.method().is_idempotent();
        let repeatable = idempotent || retry.any_method;
        let useful = retry.tries > 1 && repeatable && after_sending(retry);
        let fits = request.body().size_hint().lower() <= retry.buffer.into();
        let taped = has_body && retry.buffer > 0 && useful && fits;
        if taped {
            request.body_mut().remember(retry.buffer as usize);
        }
        About { repeatable, idempotent, has_body, taped }
    }

    pub(super) fn may_hedge(&self) -> bool {
        self.idempotent && !self.has_body
    }

    /// Whether a copy is to be kept while the request is sent.
    pub(super) fn wants_copy(&self, retry: &Retry, reused: bool, http2: bool, fresh: bool, more: bool) -> bool {
        let can = !self.has_body || self.taped;
        let kept = !fresh && !self.has_body && (http2 || (reused && self.idempotent));
        can && (kept || (more && self.repeatable && after_sending(retry)))
    }

    /// Whether an answer with this code is tried again.
    pub(super) fn repeats_code(&self, code: u16, retry: &Retry) -> bool {
        self.repeatable && retry.codes.contains(&code)
    }
}

/// Whether anything is tried again that a backend may have taken.
fn after_sending(retry: &Retry) -> bool {
    !retry.codes.is_empty() || retry.on.iter().any(|on| matches!(on, RetryOn::Reset | RetryOn::Timeout))
}

/// After a failure. `fresh`: the try was one on the same backend again; `more`: another backend may be tried; `held`: the
/// request is at hand, as it was or as a copy.
pub(super) fn decide(
    failed: &Failed,
    about: &About,
    retry: &Retry,
    fresh: bool,
    more: bool,
    held: bool,
) -> Option<Again> {
    if !held || (failed.taken && !about.repeatable && !about.idempotent) {
        return None;
    }
    let again = |at, reason, free| Some(Again { at, reason, free });
    match failed.kind {
        Kind::Reused if !fresh && (!failed.taken || about.idempotent) => again(Where::Same, RetryReason::Reused, true),
        // It was the edge that broke it off.
        Kind::Cut if more => again(Where::Other, RetryReason::Drained, true),
        Kind::Refused if !fresh => again(Where::Same, RetryReason::Refused, failed.reused),
        _ => {
            let (on, reason) = match failed.kind {
                Kind::Connect => (RetryOn::Connect, RetryReason::Connect),
                Kind::Refused => (RetryOn::Refused, RetryReason::Refused),
                Kind::Reset | Kind::Reused => (RetryOn::Reset, RetryReason::Reset),
                Kind::Timeout if failed.taken => (RetryOn::Timeout, RetryReason::Timeout),
                Kind::Timeout => (RetryOn::Connect, RetryReason::Timeout),
                Kind::Cut | Kind::Final => return None,
            };
            // Without a connection nobody has had work of it: nothing is multiplied by trying elsewhere.
            if more && retry.on.contains(&on) { again(Where::Other, reason, on == RetryOn::Connect) } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::respond::Fault;
    use crate::stats::BackendFailure;
    use proptest::prelude::*;

    const KINDS: [Kind; 7] =
        [Kind::Connect, Kind::Reused, Kind::Refused, Kind::Reset, Kind::Timeout, Kind::Cut, Kind::Final];
    const ON: [RetryOn; 4] = [RetryOn::Connect, RetryOn::Refused, RetryOn::Reset, RetryOn::Timeout];

    fn failed(kind: Kind, taken: bool, reused: bool) -> Failed {
        let failure = BackendFailure::Reset;
        Failed { kind, taken, reused, failure, fault: Fault::BadGateway, error: String::new().into() }
    }

    fn about(idempotent: bool, any_method: bool) -> About {
        About { repeatable: idempotent || any_method, idempotent, has_body: false, taped: false }
    }

    #[test]
    fn by_default_only_what_was_not_taken_is_tried_elsewhere() {
        let retry = Retry::default();
        for (kind, taken, idempotent, expected) in [
            (Kind::Connect, false, false, Some((Where::Other, RetryReason::Connect))),
            (Kind::Reused, false, false, Some((Where::Same, RetryReason::Reused))),
            (Kind::Reused, true, true, Some((Where::Same, RetryReason::Reused))),
            (Kind::Reused, true, false, None),
            (Kind::Refused, false, false, Some((Where::Same, RetryReason::Refused))),
            (Kind::Reset, true, true, None),
            (Kind::Timeout, true, true, None),
            (Kind::Timeout, false, false, Some((Where::Other, RetryReason::Timeout))),
            (Kind::Final, false, true, None),
        ] {
            let got = decide(&failed(kind, taken, true), &about(idempotent, false), &retry, false, true, true);
            assert_eq!(got.map(|again| (again.at, again.reason)), expected, "{kind:?} {taken} {idempotent}");
        }
    }

    proptest! {
        /// Backends behave in any way; whatever the config says, a request that is not idempotent is never given to a
        /// backend after one that may have taken it.
        #[test]
        fn what_is_not_idempotent_is_never_done_twice(
            behaviour in prop::collection::vec((0usize..6, any::<bool>(), any::<bool>()), 1..20),
            on in prop::collection::vec(0usize..4, 0..4),
            tries in 1u32..10,
            codes in prop::collection::vec(500u16..505, 0..3),
            idempotent: bool,
        ) {
            let retry = Retry { tries, on: on.iter().map(|i| ON[*i]).collect(), codes, ..Retry::default() };
            let about = about(idempotent, false);
            let (mut taken, mut tried, mut fresh) = (0, 1, false);
            for (kind, took, reused) in behaviour {
                let kind = KINDS[kind];
                // What these mean: it was not taken.
                let took = took && !matches!(kind, Kind::Connect | Kind::Refused);
                taken += u32::from(took);
                let Some(again) = decide(&failed(kind, took, reused), &about, &retry, fresh, tried < tries, true) else { break };
                prop_assert!(!about.repeats_code(503, &retry) || idempotent);
                fresh = again.at == Where::Same;
                tried += u32::from(!fresh);
            }
            prop_assert!(idempotent || taken <= 1);
            prop_assert!(tried <= tries);
        }
    }
}
