//! The agent that keeps staples, behind the seam, and its store with real responses.

use super::client::Fake;
use super::pki::{Ca, GOOD};
use crate::ocsp::message::NONCE;
use crate::ocsp::staple::{Staple, StapleAgent, StapleTarget, fingerprint, refresh, retry, stored};
use crate::ocsp::store::Store;
use crate::ocsp::{Checked, Counts};
use crate::reconcile::Event;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tls_worker::api::{Certificate, Der, OcspStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

fn certificate(ca: &Ca, serial: u64) -> Certificate {
    let (der, _) = ca.leaf(serial, |_| {});
    Certificate { name: format!("c{serial}"), chain: vec![Der(der)], ..Certificate::default() }
}

fn target(ca: &Ca, certificate: &Certificate, responder: &str) -> StapleTarget {
    StapleTarget::new(certificate, Some(&Der(ca.der.clone())), Some(responder))
}

struct Running {
    fake: Fake,
    targets: watch::Sender<Vec<StapleTarget>>,
    events: mpsc::Receiver<Event>,
}

impl Running {
    fn start(fake: Fake, store: Option<Store>, targets: Vec<StapleTarget>) -> Self {
        let (targets, receiver) = watch::channel(targets);
        let (events_sender, events) = mpsc::channel(16);
        let agent = StapleAgent {
            ask: fake.clone(),
            targets: receiver,
            events: events_sender,
            store,
            counts: Arc::new(Counts::default()),
        };
        tokio::spawn(agent.run());
        Self { fake, targets, events }
    }

    async fn news(&mut self) -> Staple {
        match timeout(Duration::from_secs(7200), self.events.recv()).await.expect("news") {
            Some(Event::Staple { staple, .. }) => staple,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_staple_is_fetched_and_fetched_again_in_the_middle_of_its_life() {
    let ca = Ca::new("ca");
    let one = certificate(&ca, GOOD);
    let begin = tokio::time::Instant::now();
    let mut running = Running::start(Fake::new(), None, vec![target(&ca, &one, "http://good/")]);
    let first = running.news().await;
    assert_eq!(first.response, Some(Der(b"http://good/".to_vec())));
    assert_eq!((first.status, first.problem), (Some(OcspStatus::Good), None));
    running.news().await;
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(250) && waited < Duration::from_secs(350), "{waited:?}");
    // A certificate that stays is not asked for again because another comes.
    let asked = running.fake.asked();
    let more = certificate(&ca, 8);
    running.targets.send(vec![target(&ca, &one, "http://good/"), target(&ca, &more, "http://revoked/")]).unwrap();
    let revoked = running.news().await;
    assert_eq!((revoked.response, revoked.status), (None, Some(OcspStatus::Revoked)));
    assert!(revoked.problem.unwrap().contains("replace it"));
    assert_eq!(running.fake.asked(), asked + 1);
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_and_later_each_time() {
    let ca = Ca::new("ca");
    let begin = tokio::time::Instant::now();
    let mut running = Running::start(Fake::new(), None, vec![target(&ca, &certificate(&ca, GOOD), "http://down/")]);
    for _ in 0..4 {
        let none = running.news().await;
        assert!(none.response.is_none() && none.problem.unwrap().contains("503"));
    }
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(180) && waited < Duration::from_secs(240), "30 + 60 + 120: {waited:?}");
    let nobody = StapleTarget::new(&certificate(&ca, 9), Some(&Der(ca.der.clone())), None);
    running.targets.send(vec![nobody]).unwrap();
    assert!(running.news().await.problem.unwrap().contains("ocsp_responder"));
}

#[tokio::test]
async fn a_staple_is_taken_away_at_its_end() {
    let ca = Ca::new("ca");
    let mut fake = Fake::new();
    fake.validity = Duration::from_millis(300);
    let mut running = Running::start(fake, None, vec![target(&ca, &certificate(&ca, GOOD), "http://good/")]);
    assert!(running.news().await.response.is_some());
    let ended = running.news().await;
    assert!(ended.response.is_none());
    assert_eq!(running.fake.asked(), 1, "a minute has not passed");
}

#[tokio::test]
async fn a_real_staple_outlives_a_restart_until_its_end() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let one = certificate(&ca, GOOD);
    let target = target(&ca, &one, "http://down/");
    let (question, _) = target.ask.clone().unwrap();
    let response = ca.respond(&question.request(&[1; NONCE]).unwrap(), None, &["-nmin", "10"]);
    let store = Store::new(&dir.path().join("state"));
    store.write(&fingerprint(&one), &response).unwrap();
    store.write(&[9; 32], &response).unwrap();
    let files = || std::fs::read_dir(dir.path().join("state/staples")).unwrap().flatten();
    for file in files() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let now = SystemTime::now();
    let found = stored(&store, std::slice::from_ref(&target), now);
    assert_eq!(found[&fingerprint(&one)].response, Some(Der(response.clone())));
    assert!(stored(&store, std::slice::from_ref(&target), now + Duration::from_secs(700)).is_empty());
    let mut running = Running::start(Fake::new(), Some(store.clone()), vec![target.clone()]);
    assert_eq!(running.news().await.response, Some(Der(response.clone())), "before anybody was asked");
    let failed = running.news().await;
    assert!(failed.response == Some(Der(response)) && failed.problem.is_some(), "the old one stays");
    assert_eq!(files().count(), 1, "files of certificates that are gone go");
    store.write(&fingerprint(&one), b"rot").unwrap();
    assert!(stored(&store, &[target], now).is_empty());
}

#[test]
fn waits_are_bounded_on_both_sides() {
    let now = SystemTime::now();
    let second = Duration::from_secs;
    let good = |life: u64, age: u64| {
        let this_update = now - second(age);
        Checked { status: OcspStatus::Good, this_update, valid_until: this_update + second(life) }
    };
    assert_eq!(refresh(good(1000, 0), now, 0.0), second(500));
    assert_eq!(refresh(good(1000, 0), now, 1.0), second(550));
    assert_eq!(refresh(good(1000, 0), now, -9.0), second(450));
    assert_eq!(refresh(good(1000, 600), now, 0.0), second(100));
    assert_eq!(refresh(good(100, 0), now, 0.0), second(60), "never in a hurry");
    let waits: Vec<_> = [1, 2, 3, 8, 50].map(|failures| retry(failures, 0.0).as_secs()).into();
    assert_eq!(waits, [30, 60, 120, 3600, 3600]);
}
