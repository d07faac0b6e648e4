//! Bounds of what is not a connection yet: handshakes under way, of a thread and of one source, and how many of them
//! compute before established connections get their turn again.
//!
//! A handshake costs a hundred times what a request does. Without a bound, a thousand that come at once are computed one
//! after the other while every established connection waits; here they queue, and wait for each other instead.

use crate::api::HandshakeLimits;
use crate::stats::{HandshakeRefused, ThreadStats};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::Semaphore;

/// The handshakes of one thread.
pub(crate) struct Handshakes {
    stats: Arc<ThreadStats>,
    limits: Cell<HandshakeLimits>,
    /// Under way, by source. Its sum is bounded, so it is.
    sources: RefCell<HashMap<IpAddr, u32>>,
    turns: RefCell<Rc<Semaphore>>,
}

/// A handshake that is under way.
pub(crate) struct Underway {
    of: Rc<Handshakes>,
    source: IpAddr,
}

impl Handshakes {
    pub(crate) fn new(stats: Arc<ThreadStats>) -> Self {
        let limits = HandshakeLimits::default();
        Handshakes { stats, limits: Cell::new(limits), sources: RefCell::default(), turns: turns(&limits) }
    }

    /// New bounds. What waits for its turn under the old ones gets it under them.
    pub(crate) fn configure(&self, limits: HandshakeLimits) {
        if self.limits.replace(limits).per_turn != limits.per_turn {
            self.turns.swap(&turns(&limits));
        }
    }

    /// A connection came whose handshake is to be done; until the answer is dropped it counts.
    pub(crate) fn begin(self: &Rc<Self>, peer: IpAddr) -> Result<Underway, HandshakeRefused> {
        let limits = self.limits.get();
        if self.stats.handshakes_active.get() >= u64::from(limits.at_once) {
            return Err(HandshakeRefused::AtOnce);
        }
        let source = source(peer);
        let mut sources = self.sources.borrow_mut();
        let count = sources.entry(source).or_default();
        if *count >= limits.per_source {
            return Err(HandshakeRefused::PerSource);
        }
        *count += 1;
        self.stats.handshakes_active.inc();
        Ok(Underway { of: self.clone(), source })
    }
}

fn turns(limits: &HandshakeLimits) -> RefCell<Rc<Semaphore>> {
    RefCell::new(Rc::new(Semaphore::new(limits.per_turn.max(1) as usize)))
}

/// Whom a bound is for: an IPv4 host, an IPv6 network of the size that one customer has.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

impl Underway {
    /// The bounds in force.
    pub(crate) fn limits(&self) -> HandshakeLimits {
        self.of.limits.get()
    }

    /// Let `work` compute in its turn: it is polled once, and the next one gets this turn only when everything else on
    /// the thread that was ready has run. What it waits for afterwards (the client's answer) takes up no turn.
    pub(crate) async fn in_turn<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let turns = self.of.turns.borrow().clone();
        let turn = match turns.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => {
                let _waiting = Waiting::begin(&self.of.stats);
                // Closed it is never; if it were, nobody would have to wait.
                turns.acquire().await.ok()
            }
        };
        let first = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        tokio::task::yield_now().await;
        drop(turn);
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => work.await,
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.of.stats.handshakes_active.dec();
        let mut sources = self.of.sources.borrow_mut();
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// Counts who waits, also when the wait is given up.
struct Waiting<'a>(&'a ThreadStats);

impl<'a> Waiting<'a> {
    fn begin(stats: &'a ThreadStats) -> Self {
        stats.handshakes_queued.inc();
        stats.handshakes_waiting.inc();
        Waiting(stats)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.handshakes_waiting.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(limits: HandshakeLimits) -> Rc<Handshakes> {
        let all = Handshakes::new(Arc::default());
        all.configure(limits);
        Rc::new(all)
    }

    #[test]
    fn handshakes_are_bounded_in_all_and_of_one_source_and_counted_until_they_end() {
        let all = thread(HandshakeLimits { at_once: 3, per_source: 2, ..HandshakeLimits::default() });
        let begin = |text: &str| all.begin(text.parse().unwrap());
        let first = begin("2001:db8::1").unwrap();
        let _second = begin("2001:db8::2").unwrap();
        assert_eq!(begin("2001:db8::3").err(), Some(HandshakeRefused::PerSource));
        let _other = begin("192.0.2.1").unwrap();
        assert_eq!(begin("192.0.2.2").err(), Some(HandshakeRefused::AtOnce));
        drop(first);
        assert!(begin("::ffff:192.0.2.1").is_ok());
        assert_eq!(all.stats.handshakes_active.get(), 2);
        drop((_second, _other));
        assert_eq!((all.stats.handshakes_active.get(), all.sources.borrow().len()), (0, 0));
    }

    /// Fifty handshakes want to compute; an established connection that is ready all the time gets its turn in between.
    #[tokio::test(flavor = "current_thread")]
    async fn who_is_established_is_not_kept_waiting_by_a_crowd_of_handshakes() {
        let all = thread(HandshakeLimits { per_turn: 2, ..HandshakeLimits::default() });
        let computed = Rc::new(Cell::new(0));
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let crowd: Vec<_> = (0..50)
                    .map(|_| {
                        let (underway, computed) = (all.begin([192, 0, 2, 1].into()).unwrap(), computed.clone());
                        tokio::task::spawn_local(async move {
                            underway.in_turn(async { computed.set(computed.get() + 1) }).await;
                        })
                    })
                    .collect();
                let mut most = 0;
                while computed.get() < 50 {
                    let before = computed.get();
                    tokio::task::yield_now().await;
                    most = most.max(computed.get() - before);
                }
                assert!(most <= 4, "{most} handshakes computed between two turns");
                for one in crowd {
                    one.await.unwrap();
                }
            })
            .await;
        assert_eq!(all.stats.handshakes_waiting.get(), 0);
        assert!(all.stats.handshakes_queued.get() >= 40);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_waits_for_its_client_takes_up_no_turn() {
        let all = thread(HandshakeLimits { per_turn: 1, ..HandshakeLimits::default() });
        let (slow, quick) = (all.begin([192, 0, 2, 1].into()).unwrap(), all.begin([192, 0, 2, 2].into()).unwrap());
        tokio::select! {
            biased;
            () = slow.in_turn(std::future::pending()) => unreachable!("it never ends"),
            () = quick.in_turn(std::future::ready(())) => {}
        }
    }
}
