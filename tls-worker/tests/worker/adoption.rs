//! A worker without a control plane, and the next one.

use crate::local;
use crate::support::backend::Backend;
use crate::support::client::*;
use crate::support::process::Worker;
use crate::support::{snap, soon, until};
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tls_worker::api::wire::{self, Receiver, Sender};
use tls_worker::api::*;
use tokio::net::UnixStream;

/// Where the worker is met.
struct Place {
    dir: PathBuf,
}

impl Place {
    async fn give(worker: &mut Worker, alone_ms: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("bailey-adoption-{}", fastrand::u64(..)));
        std::fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("s")).unwrap();
        worker.send_with(Command::Meet { alone_ms }, &[listener.as_fd()]).await;
        Self { dir }
    }

    async fn connect(&self) -> (Sender, Receiver) {
        wire::split(UnixStream::connect(self.dir.join("s")).await.unwrap())
    }

    /// Ask to adopt; what it says.
    async fn adopt(&self) -> (Sender, Receiver, Event) {
        let (mut sender, mut receiver) = self.connect().await;
        sender.send(&Command::Adopt { version: WIRE_VERSION }, &[]).await.unwrap();
        let event = soon("an answer", receiver.receive()).await.unwrap().0;
        (sender, receiver, event)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn note(text: &str) -> Note {
    Note { version: 3, text: Secret::new(text.into()) }
}

#[test]
fn an_orphan_serves_on_and_tells_the_next_control_plane_everything() {
    local(async {
        let backend = Backend::says("app").await;
        let mut worker = Worker::start(2).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let place = Place::give(&mut worker, 60_000).await;
        worker.send(Command::Note(note("old"))).await;
        worker.send(Command::Note(note("new"))).await;
        worker.report().await;
        // While its control plane lives, it is not to be had.
        let (.., refused) = place.adopt().await;
        assert!(matches!(&refused, Event::Refused { reason } if reason.contains("lives")), "{refused:?}");
        let mut open = h1(at).await;
        assert_eq!(ask(&mut open, get("a.test", "/")).await.body, "app");
        worker.orphan();
        assert_eq!(once(at, "/").await.body, "app");
        let (mut sender, mut receiver) = until_adopted(&place).await;
        let Event::Listeners(infos) = receiver.2 else { panic!("{:?}", receiver.2) };
        assert_eq!((infos.len(), infos[0].address, receiver.3.len()), (1, Some(at), 1));
        let adopted = receiver.0;
        assert_eq!((adopted.version, adopted.generation, adopted.threads.len()), (WIRE_VERSION, 1, 2));
        assert_eq!(adopted.note, Some(note("new")));
        // The connection from before goes on, and the new one is obeyed.
        assert_eq!(ask(&mut open, get("a.test", "/")).await.body, "app");
        let snapshot = Snapshot { generation: 9, ..snap::http(at, &[backend.address]) };
        sender.send(&Command::Apply(Box::new(snapshot)), &[]).await.unwrap();
        let event = soon("the snapshot", receiver.1.receive::<Event>()).await.unwrap().0;
        assert!(matches!(event, Event::Applied { generation: 9 }), "{event:?}");
        sender.send(&Command::Drain { grace_ms: 100 }, &[]).await.unwrap();
        assert!(worker.ended().await.success());
    });
}

type Told = (Adopted, Receiver, Event, Vec<std::os::fd::OwnedFd>);

/// It may hear of the old one's end a moment later than we.
async fn until_adopted(place: &Place) -> (Sender, Told) {
    let mut found = None;
    until("it is adopted", async || {
        let (sender, mut receiver, event) = place.adopt().await;
        if let Event::Adopted(adopted) = event {
            let (listeners, fds) = soon("listeners", receiver.receive()).await.unwrap();
            found = Some((sender, (*adopted, receiver, listeners, fds)));
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[test]
fn an_orphan_dies_as_often_as_its_control_planes_do_not() {
    local(async {
        let backend = Backend::says("app").await;
        let mut worker = Worker::start(1).await;
        let at = worker.listen().await;
        worker.apply(&snap::http(at, &[backend.address])).await;
        let place = Place::give(&mut worker, 60_000).await;
        worker.report().await;
        worker.orphan();
        for _ in 0..3 {
            // Adopted, and left alone again.
            drop(until_adopted(&place).await);
            assert_eq!(once(at, "/").await.body, "app");
        }
        // Somebody who says nothing, or nonsense, keeps nobody out.
        let silent = place.connect().await;
        let (mut nonsense, _keep) = place.connect().await;
        nonsense.send(&Command::Report, &[]).await.unwrap();
        drop(until_adopted(&place).await);
        drop(silent);
        kill_process(Pid::from_raw(worker.id() as i32).unwrap(), Signal::TERM).unwrap();
        assert!(worker.ended().await.success());
    });
}

#[test]
fn an_orphan_that_nobody_adopts_ends_in_time() {
    local(async {
        let mut worker = Worker::start(1).await;
        worker.listen().await;
        let _place = Place::give(&mut worker, 50).await;
        worker.report().await;
        worker.orphan();
        assert!(worker.ended().await.success());
    });
}
