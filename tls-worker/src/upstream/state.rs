//! What is known of one connection to a backend, or of one stream of it: whose turn it is, since when, and so what is
//! due.

use crate::api::BackendTimeouts;
use crate::clock::{self, Millis};
use crate::io::Meter;
use crate::stats::{BackendFailure, BackendStats, Counter};
use crate::watchdog::{NEVER, Watchdog};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Whose turn it is. While it is the client's turn (it sends slowly, or reads slowly) the backend is not blamed; the
/// client's own deadlines watch that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// No request.
    Idle,
    /// The backend's to take the request's body.
    Sending,
    /// The client's to send more of the request's body.
    SendingClient,
    /// The backend's to answer.
    Waiting,
    /// The backend's to send more of the response's body.
    Receiving,
    /// The client's to take the response's body, or a tunnel.
    ReceivingClient,
}

const PHASES: [Phase; 6] =
    [Phase::Idle, Phase::Sending, Phase::SendingClient, Phase::Waiting, Phase::Receiving, Phase::ReceivingClient];

/// A connection's bytes. It counts the connection as open until its socket is closed.
#[derive(Debug)]
pub(crate) struct Line {
    backend: Arc<BackendStats>,
    last_io: Counter,
    last_read: Counter,
    /// 1 while somebody waits for bytes to come.
    awaited: Counter,
    came: Notify,
}

impl Line {
    fn new(backend: Arc<BackendStats>) -> Self {
        backend.connections.inc();
        backend.open.inc();
        Line {
            backend,
            last_io: Counter::default(),
            last_read: Counter::default(),
            awaited: Counter::default(),
            came: Notify::new(),
        }
    }

    /// Wait until something comes, or the connection ends.
    pub(super) async fn news(&self) {
        self.awaited.set(1);
        self.came.notified().await;
        self.awaited.set(0);
    }

    /// Something came, or the connection ends.
    pub(super) fn tell(&self) {
        if self.awaited.get() == 1 {
            self.came.notify_one();
        }
    }

    /// Last byte that came.
    pub(super) fn last_read(&self) -> Millis {
        self.last_read.get()
    }
}

/// [`UpState::ended_by`] of what was cut when its backend's time was over.
const CUT: u64 = u64::MAX;

/// Of a connection that carries one request at a time, or of one stream of a connection that carries many.
#[derive(Debug)]
pub(crate) struct UpState {
    line: Arc<Line>,
    /// Whether others are on the connection, so that its bytes say nothing of this one.
    shared: bool,
    response_timeout: Millis,
    /// In place of it, for the request that is under way; 0: none.
    asked_timeout: Counter,
    idle_timeout: Millis,
    keepalive: Millis,
    phase: Counter,
    since: Counter,
    /// 1 while the request's body is not wholly given over.
    uploading: Counter,
    /// 1 when it broke off on the client's side.
    client_broke: Counter,
    /// The deadline that ended the connection, plus one; or [`CUT`].
    ended_by: Counter,
}

impl UpState {
    /// Of a new connection.
    pub(crate) fn new(backend: Arc<BackendStats>, timeouts: &BackendTimeouts) -> Self {
        let timeouts = [timeouts.response, timeouts.idle, timeouts.keepalive].map(clock::millis);
        Self::on(Arc::new(Line::new(backend)), timeouts, false)
    }

    /// Of a stream of this one's connection.
    pub(super) fn stream(&self) -> Self {
        Self::on(self.line.clone(), [self.response_timeout, self.idle_timeout, self.keepalive], true)
    }

    fn on(line: Arc<Line>, [response_timeout, idle_timeout, keepalive]: [Millis; 3], shared: bool) -> Self {
        let state = UpState {
            line,
            shared,
            response_timeout,
            asked_timeout: Counter::default(),
            idle_timeout,
            keepalive,
            phase: Counter::default(),
            since: Counter::default(),
            uploading: Counter::default(),
            client_broke: Counter::default(),
            ended_by: Counter::default(),
        };
        state.enter(Phase::Idle);
        state
    }

    /// Its connection.
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// It is over, whatever it waited for.
    pub(super) fn is_ended(&self) -> bool {
        self.ended_by.get() != 0
    }

    pub(crate) fn phase(&self) -> Phase {
        PHASES[self.phase.get() as usize]
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase as u64);
        self.since.set(clock::now());
    }

    /// A request goes out. `response_timeout` holds for it, in place of the pool's.
    pub(crate) fn begin(&self, has_body: bool, response_timeout: Option<Duration>) {
        self.asked_timeout.set(response_timeout.map_or(0, clock::millis));
        self.uploading.set(has_body.into());
        self.enter(if has_body { Phase::Sending } else { Phase::Waiting });
    }

    /// The request's body was polled: more of it is there, or is waited for.
    pub(crate) fn upload(&self, pending: bool) {
        match (self.phase(), pending) {
            (Phase::Sending, true) => self.enter(Phase::SendingClient),
            (Phase::SendingClient, false) => self.enter(Phase::Sending),
            // A part of it is taken: on a connection of many, nothing else would tell.
            (Phase::Sending, false) if self.shared => self.enter(Phase::Sending),
            _ => {}
        }
    }

    /// The request's body is wholly given over.
    pub(crate) fn uploaded(&self) {
        self.uploading.set(0);
        if matches!(self.phase(), Phase::Sending | Phase::SendingClient) {
            self.enter(Phase::Waiting);
        }
    }

    /// The request's body broke off.
    pub(crate) fn client_broke(&self) {
        self.client_broke.set(1);
    }

    pub(crate) fn is_client_broke(&self) -> bool {
        self.client_broke.get() == 1
    }

    pub(crate) fn is_uploading(&self) -> bool {
        self.uploading.get() == 1
    }

    /// The response's body was polled: a part of it is there, or is waited for.
    pub(crate) fn download(&self, pending: bool) {
        match (self.phase(), pending) {
            (Phase::ReceivingClient, true) => self.enter(Phase::Receiving),
            (Phase::Receiving, false) => self.enter(Phase::ReceivingClient),
            _ => {}
        }
    }

    /// When this connection is to be ended, as things stand.
    pub(crate) fn deadline(&self) -> Millis {
        match self.phase() {
            _ if self.shared && self.is_ended() => NEVER,
            Phase::Idle => self.since.get() + self.keepalive,
            Phase::Waiting => match self.asked_timeout.get() {
                0 => self.since.get() + self.response_timeout,
                asked => self.since.get() + asked,
            },
            Phase::Sending | Phase::Receiving if self.shared => self.since.get() + self.idle_timeout,
            Phase::Sending | Phase::Receiving => self.since.get().max(self.last_io()) + self.idle_timeout,
            Phase::SendingClient | Phase::ReceivingClient => NEVER,
        }
    }

    /// What a request comes to, if its answer is there in time. The connection's own watchdog looks no more often than the
    /// pool's timeouts ask for: a shorter one has a watchdog of its own.
    pub(crate) async fn in_time<T>(&self, request: impl Future<Output = T>, timeout: Option<Duration>) -> Option<T> {
        let Some(timeout) = timeout.map(clock::millis).filter(|timeout| *timeout < self.shortest()) else {
            return Some(request.await);
        };
        // Boxed: few have one.
        let timed = Box::pin(async move {
            let mut watchdog = Watchdog::new(timeout);
            let overdue = poll_fn(|cx| {
                watchdog.poll(cx, || match self.phase() {
                    Phase::Waiting => self.since.get() + timeout,
                    _ => clock::now() + timeout,
                })
            });
            tokio::select! {
                done = request => Some(done),
                () = overdue => {
                    self.expire();
                    None
                }
            }
        });
        timed.await
    }

    /// The shortest of its timeouts.
    pub(crate) fn shortest(&self) -> Millis {
        self.response_timeout.min(self.idle_timeout).min(self.keepalive)
    }

    /// The deadline has passed: note which, for whoever sees the connection break.
    pub(crate) fn expire(&self) {
        let failure = match self.phase() {
            Phase::Waiting => BackendFailure::ResponseTimeout,
            Phase::Sending | Phase::Receiving => BackendFailure::IdleTimeout,
            Phase::Idle | Phase::SendingClient | Phase::ReceivingClient => return,
        };
        self.ended_by.set(failure as u64 + 1);
    }

    /// Its backend's time is over.
    pub(super) fn cut(&self) {
        self.ended_by.set(CUT);
    }

    /// Whether it was cut because its backend's time is over.
    pub(crate) fn is_cut(&self) -> bool {
        self.ended_by.get() == CUT
    }

    /// Why it broke, seen from the backend's side.
    pub(crate) fn failure(&self) -> BackendFailure {
        match self.ended_by.get() {
            n if n == BackendFailure::ResponseTimeout as u64 + 1 => BackendFailure::ResponseTimeout,
            n if n == BackendFailure::IdleTimeout as u64 + 1 => BackendFailure::IdleTimeout,
            _ => BackendFailure::Reset,
        }
    }

    /// Last byte in either direction.
    pub(crate) fn last_io(&self) -> Millis {
        self.line.last_io.get()
    }

    /// Idle timeout.
    pub(crate) fn idle_timeout(&self) -> Millis {
        self.idle_timeout
    }
}

impl Meter for Line {
    fn read(&self, _n: usize) {
        self.last_io.set(clock::now());
        self.last_read.set(self.last_io.get());
        self.tell();
    }

    fn wrote(&self, _n: usize) {
        self.last_io.set(clock::now());
    }

    fn closed(&self) {
        self.backend.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn state() -> UpState {
        let seconds = Duration::from_secs;
        let timeouts =
            BackendTimeouts { connect: seconds(1), response: seconds(2), idle: seconds(3), keepalive: seconds(4) };
        UpState::new(Arc::default(), &timeouts)
    }

    fn due(s: &UpState) -> Option<u64> {
        Some(s.deadline()).filter(|d| *d != NEVER).map(|d| (d - s.since.get()) / 1000)
    }

    #[test]
    fn a_backend_is_blamed_only_in_its_turn() {
        let s = state();
        assert_eq!((s.phase(), due(&s)), (Phase::Idle, Some(4)));
        s.begin(true, None);
        assert_eq!((s.phase(), due(&s)), (Phase::Sending, Some(3)));
        s.upload(true);
        assert_eq!((s.phase(), due(&s)), (Phase::SendingClient, None));
        s.upload(false);
        s.expire();
        assert_eq!((s.phase(), s.failure()), (Phase::Sending, BackendFailure::IdleTimeout));
        s.uploaded();
        assert_eq!((s.phase(), due(&s)), (Phase::Waiting, Some(2)));
        s.expire();
        assert_eq!(s.failure(), BackendFailure::ResponseTimeout);
        s.enter(Phase::ReceivingClient);
        s.upload(true);
        assert_eq!((s.phase(), due(&s)), (Phase::ReceivingClient, None));
        s.download(true);
        assert_eq!((s.phase(), due(&s)), (Phase::Receiving, Some(3)));
    }

    #[test]
    fn the_table_of_phases_is_in_their_order() {
        for (i, phase) in PHASES.into_iter().enumerate() {
            assert_eq!(phase as usize, i);
        }
    }
}
