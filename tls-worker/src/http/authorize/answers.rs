//! Answers that are kept, of all threads of the worker. Who asks first makes the callout, who asks the same meanwhile
//! waits for it: a thousand at once are one callout.
//!
//! Threads must agree at once, and none may wait for another's lock: the table is lock-free (papaya), and so is the list
//! of those who wait (crossbeam). Keys are digests: what they are made of may be secret, and is as long as it likes.

use super::verdict::Verdict;
use crate::api::AuthorizerCache;
use crate::stats::CalloutFailure;
use crossbeam_queue::SegQueue;
use papaya::{Compute, HashMap, Operation};
use ring::digest::{SHA256, digest};
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// SHA-256 of a key.
pub(super) type Key = [u8; 32];

type Said = Result<Arc<Verdict>, CalloutFailure>;

/// See the module.
#[derive(Debug)]
pub(super) struct Answers {
    flights: HashMap<Key, Arc<Flight>>,
    ttl: Duration,
    negative_ttl: Duration,
    size: usize,
}

/// An answer that was had, or is waited for.
#[derive(Debug, Default)]
pub(super) struct Flight {
    known: OnceLock<Known>,
    waiting: SegQueue<Waker>,
}

/// An answer that was had.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) verdict: Said,
    until: Instant,
}

/// What came of asking.
pub(super) enum Asked {
    /// It is known.
    Known(Known),
    /// Somebody has asked, and waits.
    Joined(Arc<Flight>),
    /// It is the asker's to find out.
    First(Lead),
}

/// The duty to find out. Whoever drops it without a word says that there is no answer.
pub(super) struct Lead {
    answers: Arc<Answers>,
    key: Key,
    flight: Arc<Flight>,
}

impl Answers {
    pub(super) fn new(cache: &AuthorizerCache) -> Self {
        Answers {
            flights: HashMap::new(),
            ttl: cache.ttl,
            negative_ttl: cache.negative_ttl,
            size: cache.size.max(1) as usize,
        }
    }

    pub(super) fn key(&self, text: &[u8]) -> Key {
        let mut key = Key::default();
        key.copy_from_slice(digest(&SHA256, text).as_ref());
        key
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn ask(self: &Arc<Self>, key: &Key, now: Instant) -> Asked {
        let flights = self.flights.pin();
        if let Some(flight) = flights.get(key).filter(|flight| flight.holds(now)) {
            return flight.asked();
        }
        let mine = Arc::<Flight>::default();
        let computed = flights.compute(*key, |entry| match entry {
            Some((_, theirs)) if theirs.holds(now) => Operation::Abort(theirs.clone()),
            _ => Operation::Insert(mine.clone()),
        });
        if let Compute::Aborted(theirs) = computed {
            return theirs.asked();
        }
        drop(flights);
        self.make_room(now);
        Asked::First(Lead { answers: self.clone(), key: *key, flight: mine })
    }

    /// Keep within the bound. Walking over the table is rare: an eighth of it is free afterwards.
    fn make_room(&self, now: Instant) {
        if self.flights.len() <= self.size {
            return;
        }
        let flights = self.flights.pin();
        flights.retain(|_, flight| flight.holds(now));
        let most = self.size - self.size / 8;
        let mut over = flights.len().saturating_sub(most);
        // Those that are waited for stay: whoever asks next would make another callout.
        flights.retain(|_, flight| {
            let goes = over > 0 && flight.known.get().is_some();
            over -= usize::from(goes);
            !goes
        });
    }
}

impl Flight {
    /// Whether it is under way, or its answer still counts.
    fn holds(&self, now: Instant) -> bool {
        self.known.get().is_none_or(|known| now < known.until)
    }

    fn asked(self: &Arc<Self>) -> Asked {
        match self.known.get() {
            Some(known) => Asked::Known(known.clone()),
            None => Asked::Joined(self.clone()),
        }
    }

    /// The answer, when it is there. Bounded by whoever asked first, who always says something.
    pub(super) async fn wait(flight: &Flight) -> Said {
        let mut told: Option<Waker> = None;
        poll_fn(|cx| flight.poll(cx, &mut told)).await
    }

    fn poll(&self, cx: &Context<'_>, told: &mut Option<Waker>) -> Poll<Said> {
        if self.known.get().is_none() && !told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
            *told = Some(cx.waker().clone());
        }
        // Looked at after the waker is there: nobody is forgotten who came meanwhile.
        self.known.get().map_or(Poll::Pending, |known| Poll::Ready(known.verdict.clone()))
    }

    fn settle(&self, known: Known) {
        // Once: later words do not count.
        let _ = self.known.set(known);
        while let Some(waker) = self.waiting.pop() {
            waker.wake();
        }
    }
}

impl Lead {
    pub(super) fn flight(&self) -> Arc<Flight> {
        self.flight.clone()
    }

    /// This is the answer. A failure is told to those who wait, and not kept.
    pub(super) fn done(self, verdict: Said, now: Instant) {
        let ttl = match &verdict {
            Ok(verdict) if verdict.allowed => self.answers.ttl,
            Ok(_) => self.answers.negative_ttl,
            Err(_) => Duration::ZERO,
        };
        self.flight.settle(Known { verdict, until: now + ttl });
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.flight.known.get().is_none() {
            self.flight.settle(Known { verdict: Err(CalloutFailure::Broken), until: Instant::now() });
        }
        // What holds no longer takes no room.
        if !self.flight.holds(Instant::now()) {
            let flights = self.answers.flights.pin();
            let _ = flights.remove_if(&self.key, |_, flight| Arc::ptr_eq(flight, &self.flight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn answers(size: u32) -> Arc<Answers> {
        let (ttl, negative_ttl) = (Duration::from_secs(60), Duration::from_secs(5));
        Arc::new(Answers::new(&AuthorizerCache { key: String::new(), ttl, negative_ttl, size }))
    }

    fn verdict(allowed: bool) -> Said {
        Ok(Arc::new(Verdict { allowed, status: StatusCode::OK, headers: HeaderMap::new() }))
    }

    fn first(asked: Asked) -> Lead {
        match asked {
            Asked::First(lead) => lead,
            _ => panic!("somebody asked before"),
        }
    }

    #[test]
    fn an_answer_holds_as_long_as_its_kind() {
        let answers = answers(10);
        let now = Instant::now();
        let (yes, no, bad) = (answers.key(b"yes"), answers.key(b"no"), answers.key(b"bad"));
        first(answers.ask(&yes, now)).done(verdict(true), now);
        first(answers.ask(&no, now)).done(verdict(false), now);
        first(answers.ask(&bad, now)).done(Err(CalloutFailure::Broken), now);
        let known = |key, later| {
            matches!(answers.ask(key, now + Duration::from_secs(later)), Asked::Known(Known { verdict: Ok(_), .. }))
        };
        assert!(known(&yes, 59) && known(&no, 4));
        first(answers.ask(&bad, now)).done(verdict(true), now);
        first(answers.ask(&no, now + Duration::from_secs(5))).done(verdict(false), now);
        first(answers.ask(&yes, now + Duration::from_secs(60))).done(verdict(true), now);
    }

    #[test]
    fn the_bound_holds_and_flights_stay() {
        let answers = answers(64);
        let now = Instant::now();
        let flying: Vec<Lead> = (0..8u8).map(|n| first(answers.ask(&answers.key(&[1, n]), now))).collect();
        for n in 0..2000u16 {
            first(answers.ask(&answers.key(&n.to_be_bytes().repeat(2)), now)).done(verdict(true), now);
            assert!(answers.len() <= 64, "{}", answers.len());
        }
        for lead in &flying {
            assert!(matches!(answers.ask(&lead.key, now), Asked::Joined(_)));
        }
    }

    #[test]
    fn who_leads_and_says_nothing_lets_nobody_wait() {
        let answers = answers(10);
        let key = answers.key(b"k");
        let lead = first(answers.ask(&key, Instant::now()));
        let Asked::Joined(flight) = answers.ask(&key, Instant::now()) else { panic!("not joined") };
        drop(lead);
        assert_eq!(flight.known.get().unwrap().verdict, Err(CalloutFailure::Broken));
        drop(first(answers.ask(&key, Instant::now())));
        assert_eq!(answers.len(), 0);
    }

    #[test]
    fn a_thousand_that_ask_at_once_are_one_callout() {
        let answers = answers(10);
        let callouts = AtomicUsize::new(0);
        let key = answers.key(b"one");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let asks = (0..125).map(|_| async {
                        match answers.ask(&key, Instant::now()) {
                            Asked::Known(known) => known.verdict,
                            Asked::Joined(flight) => Flight::wait(&flight).await,
                            Asked::First(lead) => {
                                callouts.fetch_add(1, Ordering::Relaxed);
                                let flight = lead.flight();
                                tokio::time::sleep(Duration::from_millis(20)).await;
                                lead.done(verdict(true), Instant::now());
                                Flight::wait(&flight).await
                            }
                        }
                    });
                    let all = runtime.block_on(futures_util::future::join_all(asks));
                    assert!(all.iter().all(|said| said.as_ref().unwrap().allowed));
                });
            }
        });
        assert_eq!(callouts.load(Ordering::Relaxed), 1);
    }
}
