//! Both sides over a socket pair, and a stored offer of the first release.

use super::new::hear;
use super::old::{Broken, Talk};
use super::words::{HANDOVER_VERSION, HandoverError, Offer, ToNew, ToOld};
use crate::datapath::Listener;
use crate::reconcile::{Handed, Note, ServiceIds};
use crate::supervisor::Sessions;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::wire;
use tokio::net::UnixStream;
use tokio::time::timeout;

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn handed(listeners: u64) -> Handed {
    let listener = |id| Listener { id, worker: id as u32 % 2, address: None, socket: Arc::new(null()) };
    let note = Note {
        edge: "edge".into(),
        generation: 7,
        ids: ServiceIds::of(&[("web", 1)]),
        health: Vec::new(),
        tickets: None,
        datapath: serde_json::json!({ "maps": 3 }),
    };
    Handed { note, listeners: (0..listeners).map(listener).collect(), sessions: Sessions::default() }
}

fn offer(version: u32) -> Offer {
    Offer {
        version,
        release: "9.9".into(),
        edge: "edge".into(),
        note: handed(0).note.write(),
        sockets: vec!["admin".into()],
    }
}

fn pair() -> (Talk, wire::Sender, wire::Receiver) {
    let (a, b) = UnixStream::pair().unwrap();
    let (sender, receiver) = wire::split(a);
    let (theirs, hears) = wire::split(b);
    (Talk { sender, receiver }, theirs, hears)
}

#[tokio::test]
async fn everything_that_stands_is_heard_and_the_edge_changes_hands() {
    let (mut talk, mut says, mut hears) = pair();
    let old = tokio::spawn(async move {
        // More than fit on one frame.
        let handed = handed(250);
        let ready = talk.until_ready(offer(HANDOVER_VERSION), &[("admin", null())], &handed).await.unwrap();
        talk.commit().await.unwrap();
        ready
    });
    let (offer, sockets, listeners, _) = hear(&mut hears).await.unwrap();
    assert_eq!(listeners.iter().map(|listener| listener.id).collect::<Vec<_>>(), (0..250).collect::<Vec<_>>());
    assert!(sockets.contains_key("admin"));
    assert_eq!(Note::read(&offer.note, "edge").unwrap(), handed(0).note);
    says.send(&ToOld::Ready { pid: 5, release: "9.9".into(), generation: 8 }, &[]).await.unwrap();
    assert!(matches!(hears.receive().await.unwrap().0, ToNew::Commit));
    says.send(&ToOld::Serving, &[]).await.unwrap();
    assert_eq!(old.await.unwrap().generation, 8);
}

#[tokio::test]
async fn an_offer_of_another_version_is_refused_with_the_reason() {
    let (mut talk, _says, mut hears) = pair();
    let old = tokio::spawn(async move { talk.until_ready(offer(2), &[], &handed(0)).await.map(drop) });
    let refused = hear(&mut hears).await.unwrap_err();
    assert!(matches!(refused, HandoverError::Version { theirs: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("restart bailey"));
    drop((hears, _says));
    assert!(matches!(old.await.unwrap(), Err(Broken::Wire(_))));
}

#[tokio::test]
async fn a_new_one_that_refuses_dies_or_says_nothing_takes_nothing() {
    let (mut talk, mut says, _hears) = pair();
    says.send(&ToOld::Refused { reason: "not today".into() }, &[]).await.unwrap();
    let refused = talk.until_ready(offer(1), &[], &handed(0)).await.unwrap_err();
    assert!(matches!(refused, Broken::Refused(ref why) if why == "not today"), "{refused:?}");
    let (mut talk, says, hears) = pair();
    drop((says, hears));
    assert!(matches!(talk.until_ready(offer(1), &[], &handed(0)).await, Err(Broken::Wire(_))));
    let (mut talk, _says, _hears) = pair();
    let handed = handed(0);
    let waiting = talk.until_ready(offer(1), &[], &handed);
    assert!(timeout(Duration::from_millis(50), waiting).await.is_err());
}

#[test]
fn what_the_first_release_offered_is_understood() {
    let message: ToNew = serde_json::from_str(include_str!("offer_v1.json")).unwrap();
    let ToNew::Offer(offer) = message else { panic!("{message:?}") };
    assert_eq!((offer.version, offer.sockets.len()), (HANDOVER_VERSION, 2));
    let note = Note::read(&offer.note, &offer.edge).unwrap();
    assert_eq!(note.generation, 7);
}
