//! Times and counts of one client connection.

use crate::api::{ClientTimeouts, HttpLimits};
use crate::clock::{self, Millis};
use crate::io::Meter;
use crate::limits::Hold;
use crate::pipeline::Pipeline;
use crate::stats::{ClientTimeout, Counter, ServiceStats, ThreadStats};
use std::sync::{Arc, OnceLock};

/// Times of one client connection, and what counts it as open: the socket's end is its end.
#[derive(Debug)]
pub(crate) struct ConnState {
    service: Arc<ServiceStats>,
    thread: Arc<ThreadStats>,
    header_timeout: Millis,
    idle_timeout: Millis,
    limits: HttpLimits,
    /// Between the reading of requests and their answering.
    pub(crate) pipeline: Pipeline,
    accepted: Millis,
    /// Since when the client takes less than what is to be sent, and what it took since; 0: it takes everything.
    blocked_since: Counter,
    blocked_sent: Counter,
    /// Last byte in either direction.
    last_io: Counter,
    /// First byte of a request whose header is not whole yet; 0: none.
    head_since: Counter,
    /// End of the last request, or accept.
    idle_since: Counter,
    in_flight: Counter,
    /// Bytes of TCP since accept.
    read: Counter,
    written: Counter,
    /// HTTP/2 frames arrive without any request (ping, settings): only requests count there.
    multiplexed: Counter,
    /// What counts it towards limits of clients.
    hold: OnceLock<Hold>,
}

impl ConnState {
    pub(crate) fn new(
        service: Arc<ServiceStats>,
        thread: Arc<ThreadStats>,
        timeouts: &ClientTimeouts,
        limits: &HttpLimits,
    ) -> Self {
        service.connections.inc();
        service.active.inc();
        thread.active.inc();
        let state = ConnState {
            service,
            thread,
            header_timeout: clock::millis(timeouts.header),
            idle_timeout: clock::millis(timeouts.idle),
            limits: *limits,
            pipeline: Pipeline::default(),
            accepted: clock::now(),
            blocked_since: Counter::default(),
            blocked_sent: Counter::default(),
            last_io: Counter::default(),
            head_since: Counter::default(),
            idle_since: Counter::default(),
            in_flight: Counter::default(),
            read: Counter::default(),
            written: Counter::default(),
            multiplexed: Counter::default(),
            hold: OnceLock::new(),
        };
        state.last_io.set(clock::now());
        state.idle_since.set(clock::now());
        state
    }

    /// It counts towards limits of clients for as long as this lives.
    pub(crate) fn hold(&self, hold: Hold) {
        // Once for a connection.
        let _ = self.hold.set(hold);
    }

    /// Its PROXY header is read; of the bytes that came, so many are what follows.
    pub(crate) fn header_read(&self, rest: usize) {
        self.read.set(rest as u64);
    }

    /// The connection speaks HTTP/2 from here on.
    pub(crate) fn set_multiplexed(&self) {
        self.multiplexed.set(1);
        self.head_since.set(0);
    }

    /// Bytes of HTTP came in.
    pub(crate) fn plain_bytes_read(&self) {
        if self.in_flight.get() == 0 && self.head_since.get() == 0 && self.multiplexed.get() == 0 {
            self.head_since.set(clock::now());
        }
    }

    /// Bytes of TCP that came since accept.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes of TCP that were sent since accept.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.written.get()
    }

    /// The client has taken everything.
    pub(crate) fn sent_all(&self) {
        self.blocked_since.set(0);
    }

    /// Limits that hold for it.
    pub(crate) fn limits(&self) -> &HttpLimits {
        &self.limits
    }

    /// Whether it gets no more requests.
    pub(crate) fn is_spent(&self) -> bool {
        let most = u64::from(self.limits.requests_per_connection);
        (most > 0 && self.pipeline.begun() >= most) || self.old_at().is_some_and(|at| at <= clock::now())
    }

    /// When it is as old as it may be.
    fn old_at(&self) -> Option<Millis> {
        let age = self.limits.connection_age;
        (!age.is_zero()).then(|| self.accepted + clock::millis(age))
    }

    /// When what is being sent is known to be taken too slowly, unless the client takes more until then.
    fn too_slow_at(&self) -> Option<Millis> {
        let (since, now, grace) = (self.blocked_since.get(), clock::now(), clock::millis(self.limits.min_rate_grace));
        if since == 0 || self.limits.min_rate == 0 {
            return None;
        }
        let waited = now.saturating_sub(since);
        if waited >= grace && self.blocked_sent.get() * 1000 >= u64::from(self.limits.min_rate) * waited {
            // It is fast enough: begin anew.
            self.blocked_since.set(now);
            self.blocked_sent.set(0);
            return Some(now + grace);
        }
        Some(since + grace)
    }

    /// What ends this connection next, and when.
    pub(crate) fn deadline(&self) -> (Millis, ClientTimeout) {
        let (at, why) = self.deadline_of_input();
        let slow = self.too_slow_at().map(|at| (at, ClientTimeout::Send));
        let old = self.old_at().filter(|_| self.is_quiet()).map(|at| (at, ClientTimeout::Age));
        [Some((at, why)), slow, old].into_iter().flatten().min_by_key(|(at, _)| *at).unwrap_or((at, why))
    }

    fn deadline_of_input(&self) -> (Millis, ClientTimeout) {
        if self.in_flight.get() > 0 {
            (self.last_io.get() + self.idle_timeout, ClientTimeout::Idle)
        } else if self.head_since.get() > 0 {
            (self.head_since.get() + self.header_timeout, ClientTimeout::Header)
        } else if self.multiplexed.get() > 0 {
            (self.idle_since.get() + self.idle_timeout, ClientTimeout::Idle)
        } else {
            (self.idle_since.get().max(self.last_io.get()) + self.idle_timeout, ClientTimeout::Idle)
        }
    }

    /// The shortest of its timeouts.
    pub(crate) fn shortest(&self) -> Millis {
        let age = self.old_at().map_or(Millis::MAX, |at| at - self.accepted);
        let slow = match self.limits.min_rate {
            0 => Millis::MAX,
            _ => clock::millis(self.limits.min_rate_grace),
        };
        self.header_timeout.min(self.idle_timeout).min(age).min(slow)
    }

    /// Whether no request is open on it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.get() == 0
    }

    /// Last byte in either direction.
    pub(crate) fn last_io(&self) -> Millis {
        self.last_io.get()
    }

    /// Idle timeout.
    pub(crate) fn idle_timeout(&self) -> Millis {
        self.idle_timeout
    }

    /// Counters of its service.
    pub(crate) fn stats(&self) -> &ServiceStats {
        &self.service
    }
}

impl Meter for ConnState {
    fn read(&self, n: usize) {
        self.service.received.add(n as u64);
        self.read.add(n as u64);
        self.last_io.set(clock::now());
    }

    fn wrote(&self, n: usize) {
        self.service.sent.add(n as u64);
        self.written.add(n as u64);
        self.blocked_sent.add(n as u64);
        self.last_io.set(clock::now());
    }

    fn blocked(&self) {
        if self.blocked_since.get() == 0 {
            self.blocked_since.set(clock::now());
            self.blocked_sent.set(0);
        }
    }

    fn closed(&self) {
        self.service.active.dec();
        self.thread.active.dec();
    }
}

/// A request that is open: from its header to the end of its response.
pub(crate) struct InFlight(Arc<ConnState>);

impl InFlight {
    pub(crate) fn begin(state: &Arc<ConnState>) -> Self {
        state.head_since.set(0);
        state.in_flight.inc();
        InFlight(state.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let state = &self.0;
        let now = clock::now();
        state.in_flight.dec();
        state.pipeline.end();
        state.idle_since.set(now);
        if state.in_flight.get() == 0 && state.pipeline.has_part_of_head() {
            state.head_since.set(now);
        }
    }
}
