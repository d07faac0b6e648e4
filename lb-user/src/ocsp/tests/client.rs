//! The agent that answers the worker, behind the seam.

use super::pki::{Ca, GOOD, REVOKED, UNKNOWN, aia};
use crate::ocsp::client::{ClientAgent, WorkerSide, channel};
use crate::ocsp::fetch::FetchError;
use crate::ocsp::{Ask, AskError, Checked, Counts, Question};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tls_worker::api::{Der, OcspAnswer, OcspQuery, OcspStatus};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Answers by URL, one for each permit, and remembers what it was asked.
#[derive(Clone)]
pub(super) struct Fake {
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) most: Arc<(AtomicUsize, AtomicUsize)>,
    pub(super) validity: Duration,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self {
            asked: Arc::default(),
            permits: Arc::new(Semaphore::new(10_000)),
            most: Arc::default(),
            validity: Duration::from_secs(600),
        }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Ask for Fake {
    async fn ask(&self, url: &str, _: &Question) -> Result<(Checked, Vec<u8>), AskError> {
        self.asked.lock().unwrap().push(url.to_owned());
        let (now_running, most) = &*self.most;
        most.fetch_max(now_running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        now_running.fetch_sub(1, Ordering::SeqCst);
        let status = match url {
            "http://good/" => OcspStatus::Good,
            "http://revoked/" => OcspStatus::Revoked,
            "http://unknown/" => OcspStatus::Unknown,
            _ => return Err(FetchError::Status(503).into()),
        };
        let now = SystemTime::now();
        Ok((Checked { status, this_update: now, valid_until: now + self.validity }, url.into()))
    }
}

fn query(ca: &Ca, serial: u64, responder: Option<&str>) -> OcspQuery {
    let (certificate, _) = ca.leaf(serial, |params| params.custom_extensions = vec![aia("http://good/")]);
    OcspQuery { issuer: Der(ca.der.clone()), certificate: Der(certificate), responder: responder.map(Into::into) }
}

fn start(fake: &Fake) -> (WorkerSide, Arc<Counts>) {
    let counts = Arc::default();
    let (worker, agent) = channel(&counts);
    tokio::spawn(ClientAgent::new(fake.clone(), agent).run());
    (worker, counts)
}

async fn answer(worker: &mut WorkerSide) -> OcspAnswer {
    timeout(Duration::from_secs(30), worker.answers.recv()).await.expect("an answer").unwrap()
}

#[tokio::test]
async fn each_state_is_told_for_as_long_as_it_holds() {
    let (ca, fake) = (Ca::new("ca"), Fake::new());
    let (mut worker, counts) = start(&fake);
    for (serial, responder, status, valid) in [
        (GOOD, None, OcspStatus::Good, 590..=600),
        (REVOKED, Some("http://revoked/"), OcspStatus::Revoked, 590..=600),
        (UNKNOWN, Some("http://unknown/"), OcspStatus::Unknown, 20..=30),
        (GOOD, Some("http://down/"), OcspStatus::Unavailable, 20..=30),
    ] {
        let query = query(&ca, serial, responder);
        worker.questions.put(query.clone());
        let answer = answer(&mut worker).await;
        assert_eq!((&answer.query, answer.status), (&query, status));
        assert!(valid.contains(&answer.valid_seconds), "{answer:?}");
        // What is known is not asked again.
        let asked = fake.asked();
        worker.questions.put(query);
        assert_eq!(self::answer(&mut worker).await.status, status);
        assert_eq!(fake.asked(), asked);
    }
    assert_eq!(fake.asked.lock().unwrap()[0], "http://good/", "the certificate names it");
    for result in ["good", "revoked", "unknown", "unavailable"] {
        assert!(counts.read().contains(&("client", result, 1)), "{:?}", counts.read());
    }
}

#[tokio::test]
async fn a_certificate_without_a_responder_has_no_state() {
    let (ca, fake) = (Ca::new("ca"), Fake::new());
    let (mut worker, _) = start(&fake);
    let (certificate, _) = ca.leaf(GOOD, |_| {});
    worker.questions.put(OcspQuery { issuer: Der(ca.der.clone()), certificate: Der(certificate), responder: None });
    assert_eq!(answer(&mut worker).await.status, OcspStatus::Unavailable);
    let bad = OcspQuery { issuer: Der(vec![]), certificate: Der(vec![]), responder: Some("http://good/".into()) };
    worker.questions.put(bad);
    assert_eq!(answer(&mut worker).await.status, OcspStatus::Unavailable);
    assert_eq!(fake.asked(), 0);
}

#[tokio::test]
async fn one_question_is_asked_once_at_a_time() {
    let (ca, mut fake) = (Ca::new("ca"), Fake::new());
    fake.permits = Arc::new(Semaphore::new(0));
    let (mut worker, _) = start(&fake);
    let first = query(&ca, GOOD, None);
    for _ in 0..10 {
        worker.questions.put(first.clone());
    }
    let last = query(&ca, REVOKED, Some("http://revoked/"));
    worker.questions.put(last);
    while fake.asked() < 2 {
        tokio::task::yield_now().await;
    }
    fake.permits.add_permits(2);
    let two = [answer(&mut worker).await.status, answer(&mut worker).await.status];
    assert!(two.contains(&OcspStatus::Good) && two.contains(&OcspStatus::Revoked), "{two:?}");
    assert_eq!(fake.asked(), 2);
    assert!(timeout(Duration::from_millis(50), worker.answers.recv()).await.is_err(), "one answer is for all");
}

#[tokio::test]
async fn a_flood_of_questions_is_bounded_and_counted() {
    let (ca, mut fake) = (Ca::new("ca"), Fake::new());
    fake.permits = Arc::new(Semaphore::new(0));
    let (worker, counts) = start(&fake);
    let one = query(&ca, GOOD, None);
    for n in 0..4000 {
        worker.questions.put(OcspQuery { responder: Some(format!("http://{n}/")), ..one.clone() });
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let unavailable = || counts.read().iter().find(|(_, result, _)| *result == "unavailable").map(|row| row.2);
    timeout(Duration::from_secs(30), async {
        while fake.asked() < 64 || worker.answers.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("some are asked, some told at once that nobody is");
    assert_eq!(fake.most.1.load(Ordering::SeqCst), 64);
    let lost = counts.read_dropped();
    assert!(lost + worker.answers.len() as u64 + 64 + 1024 + 1024 >= 4000, "{lost} lost, {:?}", unavailable());
}
