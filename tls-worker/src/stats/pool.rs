//! Counters of a pool, and the words that they are kept by.

use super::reasons::reasons;
use super::{ByReason, Counter, HistogramCells};
use crate::api::PoolReport;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PoolStats {
    /// Requests in flight.
    pub(crate) active: Counter,
    /// Requests that had to wait for a backend.
    pub(crate) waits: Counter,
    pub(crate) overflows: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) wait_seconds: HistogramCells,
    pub(crate) retries: ByReason<{ RetryReason::NAMES.len() }>,
    /// Retries and hedges that the budget did not allow.
    pub(crate) denied: Counter,
    pub(crate) hedges: ByReason<{ HedgeResult::NAMES.len() }>,
    pub(crate) circuit: ByReason<{ Circuit::NAMES.len() }>,
    /// 1 while all backends are taken, as too few may be chosen.
    pub(crate) panic: Counter,
}

impl PoolStats {
    pub(crate) fn report(&self, pool: &str, waiting: u64) -> PoolReport {
        PoolReport {
            pool: pool.to_owned(),
            active: self.active.get(),
            waiting,
            waits: self.waits.get(),
            overflows: self.overflows.get(),
            timeouts: self.timeouts.get(),
            wait_seconds: self.wait_seconds.read(),
            retries: self.retries.read(RetryReason::NAMES),
            denied: self.denied.get(),
            hedges: self.hedges.read(HedgeResult::NAMES),
            circuit: self.circuit.read(Circuit::NAMES),
            panic: self.panic.get(),
        }
    }
}

reasons! {
    /// Why a backend is left out for a while.
    Ejection {
        /// Answers with 5xx in a row.
        Errors = "errors",
        /// Answers with 502, 503 or 504 in a row.
        GatewayErrors = "gateway_errors",
        /// Connections in a row that were not had.
        ConnectFailures = "connect_failures",
        /// Fewer good answers than the others.
        SuccessRate = "success_rate",
    }
}

reasons! {
    /// Why a request was tried again.
    RetryReason {
        /// No connection, or one that took nothing.
        Connect = "connect",
        /// The backend did not take it.
        Refused = "refused",
        /// A kept connection that the backend had closed.
        Reused = "reused",
        /// The connection broke.
        Reset = "reset",
        /// No answer in time.
        Timeout = "timeout",
        /// An answer with a code of the list.
        Code = "code",
        /// The drain of its backend was over.
        Drained = "drained",
    }
}

reasons! {
    /// What became of second tries beside the first.
    HedgeResult {
        /// Begun.
        Sent = "sent",
        /// Answered first.
        Won = "won",
    }
}

reasons! {
    /// A bound of a pool that a request met.
    Circuit {
        /// Connections open.
        Connections = "connections",
        /// Requests in flight.
        Requests = "requests",
        /// Requests that wait for a connection.
        Pending = "pending",
    }
}

reasons! {
    /// How a backend failed.
    BackendFailure {
        /// TCP connect refused or unreachable.
        Connect = "connect",
        /// TCP connect or TLS handshake not done by the deadline.
        ConnectTimeout = "connect_timeout",
        /// TLS handshake.
        Tls = "tls",
        /// A certificate that is not trusted, or for another name.
        TlsVerify = "tls_verify",
        /// A key that is none of the pinned ones.
        TlsPin = "tls_pin",
        /// No response header by the deadline.
        ResponseTimeout = "response_timeout",
        /// Closed, or spoke no HTTP, before the response was whole.
        Reset = "reset",
        /// Silent while a body was open.
        IdleTimeout = "idle_timeout",
    }
}

reasons! {
    /// What persistence found.
    SessionLookup {
        /// The client was known.
        Hit = "hit",
        /// It was not, and is now.
        Miss = "miss",
        /// It was, and could not stay where it was.
        Moved = "moved",
        /// A cookie of the edge's name that does not open.
        BadCookie = "bad_cookie",
        /// There was no room for it.
        Full = "full",
        /// It has nothing to be known by.
        None = "none",
    }
}
