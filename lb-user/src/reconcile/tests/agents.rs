//! Staples, files that change, ticket keys.

use super::*;
use crate::ocsp::staple::{Fingerprint, Staple, fingerprint};
use crate::reconcile::testing;
use std::path::Path;
use std::time::Duration;
use tls_worker::api::Der;

/// The same but for what is named.
fn like(snapshot: &Snapshot, change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    let mut snapshot = snapshot.clone();
    change(&mut snapshot);
    snapshot
}

#[tokio::test(start_paused = true)]
async fn ticket_keys_are_turned_over_and_nothing_else_changes() {
    let edge = Edge::start().await;
    let before = edge.world.snapshot.lock().unwrap().clone();
    assert_eq!(before.tickets.keys.len(), 2);
    let since = edge.state().await.tls.tickets_since.unwrap();
    edge.world.take();
    tokio::time::sleep(Duration::from_secs(u64::from(before.tickets.lifetime_seconds) + 2)).await;
    let after = edge.world.snapshot.lock().unwrap().clone();
    assert_eq!(edge.world.take(), [Seen::Published(2)], "the datapath has nothing to do");
    assert_eq!(after.tickets.keys.len(), 3);
    assert_eq!(after.tickets.keys[0], before.tickets.keys[1], "what waited encrypts");
    assert_eq!(after.tickets.keys[2], before.tickets.keys[0], "what encrypted still decrypts");
    let same = like(&before, |s| (s.generation, s.tickets) = (2, after.tickets.clone()));
    assert_eq!(after, same);
    assert!(edge.state().await.tls.tickets_since.unwrap() >= since);
    // A reload makes no new keys.
    edge.reload(&with_service_b()).await.unwrap();
    assert_eq!(edge.world.snapshot.lock().unwrap().tickets, after.tickets);
}

#[tokio::test]
async fn a_staple_is_served_once_it_is_there_and_no_longer_when_it_is_gone() {
    let mut config = Config::clone(&testing::ending_tls().config);
    config.edge.datapath = config::DatapathKind::Sockets;
    let of = fingerprint(&config.certificates[1].certificate);
    let dir = tempfile::tempdir().unwrap();
    let edge = Edge::start_of(config, dir.path().join("edge.toml"), dir).await;
    let staples = || -> Vec<Option<Der>> {
        edge.world.snapshot.lock().unwrap().certificates.iter().map(|one| one.staple.clone()).collect()
    };
    let tell = async |fingerprint: Fingerprint, staple: Staple| {
        edge.events.send(Event::Staple { fingerprint, staple }).await.unwrap();
        edge.state().await
    };
    assert_eq!(staples(), [None, None]);
    edge.world.take();
    let good = Staple { response: Some(Der(vec![7])), ..Staple::default() };
    tell([9; 32], good.clone()).await;
    assert_eq!(edge.world.take(), [], "a certificate that is gone");
    let state = tell(of, good.clone()).await;
    assert_eq!(staples(), [None, Some(Der(vec![7]))]);
    assert_eq!((edge.world.take(), state.generation), (vec![Seen::Published(2)], 2));
    // What is known beside the response is no news to the worker.
    let state = tell(of, Staple { problem: Some("slow".into()), ..good }).await;
    assert_eq!((edge.world.take(), state.tls.staples[&of].problem.as_deref()), (vec![], Some("slow")));
    tell(of, Staple::default()).await;
    assert_eq!(staples(), [None, None]);
    // A worker that refuses today is told tomorrow.
    *edge.world.worker_refuses.lock().unwrap() = true;
    tell(of, Staple { response: Some(Der(vec![8])), ..Staple::default() }).await;
    assert_eq!(staples(), [None, None]);
    *edge.world.worker_refuses.lock().unwrap() = false;
    edge.news.send_modify(|view| view.restarts += 1);
    while staples()[1] != Some(Der(vec![8])) {
        edge.state().await;
    }
}

/// Chain and key for a name, in a directory.
fn write_certificate(dir: &Path, name: &str) -> Der {
    let made = rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
    std::fs::write(dir.join("a.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("a.key"), made.signing_key.serialize_pem()).unwrap();
    Der(made.cert.der().to_vec())
}

#[tokio::test]
async fn files_are_read_again_and_the_last_good_ones_serve_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let file = path.join("edge.toml");
    let text = "[edge]\ndatapath = \"sockets\"\n[certificate.a]\nchain = \"a.pem\"\nkey = \"a.key\"\n\
                [service.a]\naddresses = [\"127.0.0.1:8001\"]\nmode = \"https\"\ncertificates = [\"a\"]\npool = \"p\"\n\
                [pool.p]\nbackends = [\"10.0.0.1:80\"]\n";
    std::fs::write(&file, text).unwrap();
    write_certificate(&path, "first.example");
    let config = config::load(&file).unwrap().config;
    let edge = Edge::start_of(config, file, dir).await;
    edge.world.take();
    let refresh = || edge.ask(|reply| Event::Refresh { reply: Some(reply) });
    let serves = || edge.world.snapshot.lock().unwrap().certificates[0].chain[0].clone();

    let nothing = refresh().await.unwrap();
    assert!(nothing.changed.is_empty() && nothing.stale.is_empty());
    assert_eq!(edge.world.take(), []);

    let second = write_certificate(&path, "second.example");
    let changed = refresh().await.unwrap();
    assert_eq!((changed.changed.as_slice(), changed.generation), (&["certificate a".to_owned()][..], 2));
    assert_eq!((serves(), edge.world.take()), (second.clone(), vec![Seen::Published(2)]));

    std::fs::write(path.join("a.pem"), "half a file").unwrap();
    let bad = refresh().await.unwrap();
    assert_eq!((bad.stale[0].kind, bad.stale[0].name.as_str()), (config::FileKind::Certificate, "a"));
    assert!(bad.stale[0].problem.to_string().contains("a.pem"), "{}", bad.stale[0].problem);
    assert_eq!((serves(), edge.world.take(), bad.changed.len()), (second.clone(), vec![], 0));
    let state = edge.state().await;
    assert_eq!((state.tls.refreshes, state.tls.stale.len()), ((2, 1), 1));
    assert!(crate::admin::view::status(&state).troubles.iter().any(|trouble| trouble.contains("a.pem")));

    // What the worker refuses changes nothing either.
    write_certificate(&path, "third.example");
    *edge.world.worker_refuses.lock().unwrap() = true;
    assert!(matches!(refresh().await, Err(Refusal::Worker(_))));
    let state = edge.state().await;
    assert_eq!(serves(), second);
    assert!(state.tls.refused.is_some() && state.config.certificates[0].facts.names == ["second.example"]);
    *edge.world.worker_refuses.lock().unwrap() = false;
    let third = refresh().await.unwrap();
    assert!(third.stale.is_empty() && third.changed == ["certificate a"]);
    let state = edge.state().await;
    assert_eq!((state.tls.refused, state.tls.stale.len(), state.tls.refreshes), (None, 0, (3, 2)));
}
