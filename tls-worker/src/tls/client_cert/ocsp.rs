//! What issuers' responders say of clients' certificates. The worker reaches no responder itself: a thread asks the
//! control plane, once for all who wait, and remembers the answer as long as it holds. Nobody waits longer than until the
//! end of the time that a handshake may take.

use super::fault::Fault;
use super::rules::ClientAuth;
use crate::api::{Event, OcspAnswer, OcspMode, OcspQuery, OcspStatus};
use crate::tls::provider;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

/// Answers that a thread remembers.
const MAX_KNOWN: usize = 4096;
/// Questions of a thread that are open; who has another one meanwhile gets no answer.
const MAX_ASKED: usize = 256;

/// Stands for a query: its SHA-256.
type Key = [u8; 32];

/// An answer, as threads are told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    key: Key,
    status: OcspStatus,
    valid: Duration,
}

impl From<OcspAnswer> for Answer {
    fn from(answer: OcspAnswer) -> Self {
        let valid = Duration::from_secs(answer.valid_seconds.into());
        Answer { key: key(&answer.query), status: answer.status, valid }
    }
}

fn key(query: &OcspQuery) -> Key {
    let (issuer, certificate) = (provider::sha256(&[&query.issuer.0]), provider::sha256(&[&query.certificate.0]));
    provider::sha256(&[&issuer, &certificate, query.responder.as_deref().unwrap_or_default().as_bytes()])
}

/// One thread's questions and answers.
pub(crate) struct Ocsp {
    events: mpsc::Sender<Event>,
    known: RefCell<HashMap<Key, (OcspStatus, Instant)>>,
    asked: RefCell<HashMap<Key, Rc<Question>>>,
}

/// An open question.
#[derive(Default)]
struct Question {
    answer: Cell<Option<OcspStatus>>,
    answered: Notify,
}

impl Ocsp {
    /// `events` go to the control plane.
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Ocsp { events, known: RefCell::default(), asked: RefCell::default() }
    }

    /// What is known of a certificate by the deadline.
    pub(super) async fn status(&self, query: OcspQuery, deadline: Instant) -> OcspStatus {
        let key = key(&query);
        if let Some((status, until)) = self.known.borrow().get(&key)
            && *until > Instant::now()
        {
            return *status;
        }
        let Some(waiting) = self.wait(key, query) else { return OcspStatus::Unavailable };
        let question = &waiting.question;
        if question.answer.get().is_none() {
            // At the deadline there is no answer, which is what is said then.
            let _ = timeout_at(deadline, question.answered.notified()).await;
        }
        question.answer.get().unwrap_or(OcspStatus::Unavailable)
    }

    /// Join who asks already, or ask. None: too much is asked.
    fn wait(&self, key: Key, query: OcspQuery) -> Option<Waiting<'_>> {
        let mut asked = self.asked.borrow_mut();
        let question = match asked.get(&key) {
            Some(question) => question.clone(),
            None => {
                if asked.len() >= MAX_ASKED || self.events.try_send(Event::Ocsp(query)).is_err() {
                    return None;
                }
                asked.entry(key).or_default().clone()
            }
        };
        Some(Waiting { ocsp: self, key, question })
    }

    /// The control plane answered, this thread or another one.
    pub(crate) fn answer(&self, answer: Answer) {
        if !answer.valid.is_zero() {
            let mut known = self.known.borrow_mut();
            if known.len() >= MAX_KNOWN {
                make_room(&mut known);
            }
            known.insert(answer.key, (answer.status, Instant::now() + answer.valid));
        }
        if let Some(question) = self.asked.borrow_mut().remove(&answer.key) {
            question.answer.set(Some(answer.status));
            question.answered.notify_waiters();
        }
    }
}

/// Forget what holds no longer, and where all does, what holds the shortest.
fn make_room(known: &mut HashMap<Key, (OcspStatus, Instant)>) {
    let now = Instant::now();
    known.retain(|_, (_, until)| *until > now);
    if known.len() >= MAX_KNOWN {
        let first = known.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key);
        first.and_then(|key| known.remove(&key));
    }
}

/// Somebody who waits. With the last one an unanswered question goes, so that the next client asks anew.
struct Waiting<'a> {
    ocsp: &'a Ocsp,
    key: Key,
    question: Rc<Question>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Held by the table and by this one.
        if self.question.answer.get().is_none() && Rc::strong_count(&self.question) == 2 {
            self.ocsp.asked.borrow_mut().remove(&self.key);
        }
    }
}

impl ClientAuth {
    /// What a responder's word, or silence, means for a certificate that is good otherwise.
    pub(super) fn judge(&self, status: OcspStatus) -> Result<(), Fault> {
        match (self.ocsp, status) {
            (OcspMode::Off, _) | (_, OcspStatus::Good) => Ok(()),
            (_, OcspStatus::Revoked) => Err(Fault::Revoked),
            (OcspMode::Optional, OcspStatus::Unknown | OcspStatus::Unavailable) => Ok(()),
            (OcspMode::Required, OcspStatus::Unknown | OcspStatus::Unavailable) => Err(Fault::OcspUnavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ca::Ca;
    use super::super::tests::rules;
    use super::*;
    use crate::api::{ClientCertRules, Der};

    fn query(n: u32) -> OcspQuery {
        OcspQuery { issuer: Der(vec![1]), certificate: Der(n.to_be_bytes().to_vec()), responder: None }
    }

    fn answer(n: u32, status: OcspStatus, valid_seconds: u32) -> Answer {
        OcspAnswer { query: query(n), status, valid_seconds }.into()
    }

    fn within(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn silence_counts_only_where_the_responder_must_be_heard() {
        use OcspMode::*;
        use OcspStatus::*;
        let ca = Ca::new("ca");
        for (ocsp, expected) in [
            (Off, [None, None, None, None]),
            (Optional, [None, Some(Fault::Revoked), None, None]),
            (Required, [None, Some(Fault::Revoked), Some(Fault::OcspUnavailable), Some(Fault::OcspUnavailable)]),
        ] {
            let auth = ClientAuth::new(&ClientCertRules { ocsp, ..rules(&[&ca]) }).unwrap();
            assert_eq!([Good, Revoked, Unknown, Unavailable].map(|s| auth.judge(s).err()), expected, "{ocsp:?}");
        }
    }

    #[test]
    fn another_certificate_issuer_or_responder_is_another_question() {
        let one = query(1);
        let others = [
            query(2),
            OcspQuery { issuer: Der(vec![2]), ..one.clone() },
            OcspQuery { responder: Some("http://ocsp.test".into()), ..one.clone() },
        ];
        assert!(others.iter().all(|other| key(other) != key(&one)));
    }

    #[tokio::test(start_paused = true)]
    async fn many_ask_once_and_all_get_the_answer_which_holds_for_its_time() {
        let (events, mut asked) = mpsc::channel(10);
        let ocsp = Ocsp::new(events);
        let ask = || ocsp.status(query(1), within(5));
        let (a, b, ()) = tokio::join!(ask(), ask(), async { ocsp.answer(answer(1, OcspStatus::Good, 60)) });
        assert_eq!((a, b), (OcspStatus::Good, OcspStatus::Good));
        assert_eq!(ask().await, OcspStatus::Good);
        assert!(matches!(asked.try_recv(), Ok(Event::Ocsp(q)) if q == query(1)));
        assert!(asked.try_recv().is_err());
        tokio::time::advance(Duration::from_secs(61)).await;
        let (a, ()) = tokio::join!(ask(), async { ocsp.answer(answer(1, OcspStatus::Revoked, 0)) });
        assert_eq!(a, OcspStatus::Revoked);
        // An answer that holds for no time is for those who waited.
        assert!(asked.try_recv().is_ok() && ocsp.asked.borrow().is_empty());
        assert_eq!(ask().await, OcspStatus::Unavailable);
        assert!(asked.try_recv().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_costs_the_deadline_and_the_next_one_asks_anew() {
        let (events, mut asked) = mpsc::channel(10);
        let ocsp = Ocsp::new(events);
        for _ in 0..2 {
            let began = Instant::now();
            let (a, b) = tokio::join!(ocsp.status(query(1), within(3)), ocsp.status(query(1), within(5)));
            assert_eq!((a, b), (OcspStatus::Unavailable, OcspStatus::Unavailable));
            assert_eq!(began.elapsed().as_secs(), 5);
            assert!(asked.try_recv().is_ok() && asked.try_recv().is_err());
        }
        assert!(ocsp.asked.borrow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_and_what_is_asked_is_bounded() {
        let (events, mut asked) = mpsc::channel(MAX_ASKED);
        let ocsp = Ocsp::new(events);
        (0..MAX_KNOWN as u32 + 10).for_each(|n| ocsp.answer(answer(n, OcspStatus::Good, 10 + n)));
        assert_eq!(ocsp.known.borrow().len(), MAX_KNOWN);
        assert!(!ocsp.known.borrow().contains_key(&key(&query(0))) && asked.try_recv().is_err());
        let waiting: Vec<_> = (0..MAX_ASKED as u32).map(|n| ocsp.wait(key(&query(n)), query(n))).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert_eq!(ocsp.status(query(1 << 20), within(5)).await, OcspStatus::Unavailable);
    }
}
