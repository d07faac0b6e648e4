//! Looks at the files of certificates, authorities, revocation lists and ticket keys, and has them read again when
//! they change. Whoever renews a certificate writes two files, one after the other: a change is taken up when two
//! looks in a row have seen the same.

use crate::config::{Fingerprint, WatchedFile};
use crate::reconcile::{Event, Watched};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The agent.
#[derive(Debug)]
pub struct FilesAgent {
    /// What to look at, and how often.
    pub watched: watch::Receiver<Watched>,
    /// Takes [`Event::Refresh`].
    pub events: mpsc::Sender<Event>,
}

impl FilesAgent {
    /// Until nobody says what to look at, or takes events, any more.
    pub async fn run(mut self) {
        let mut watched = self.watched.borrow_and_update().clone();
        let mut change = Change::new(&watched.files);
        let mut next = watched.every.map(|every| Instant::now() + every);
        loop {
            tokio::select! {
                changed = self.watched.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    watched = self.watched.borrow_and_update().clone();
                    change = Change::new(&watched.files);
                    next = watched.every.map(|every| Instant::now() + every);
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let paths: Vec<PathBuf> = watched.files.iter().map(|file| file.path.clone()).collect();
                    // A file on a filesystem that hangs holds up this task alone.
                    let looked = tokio::task::spawn_blocking(move || look(paths)).await;
                    if looked.is_ok_and(|seen| change.seen(seen))
                        && self.events.send(Event::Refresh { reply: None }).await.is_err()
                    {
                        return;
                    }
                    next = watched.every.map(|every| Instant::now() + every);
                }
            }
        }
    }
}

type Seen = BTreeMap<PathBuf, Option<Fingerprint>>;

fn look(paths: Vec<PathBuf>) -> Seen {
    let fingerprint = |path: PathBuf| {
        let fingerprint = Fingerprint::of(&path);
        (path, fingerprint)
    };
    paths.into_iter().map(fingerprint).collect()
}

/// Decides what is a change. Pure.
#[derive(Debug)]
struct Change {
    /// As the files were when they were read, or when they were asked to be read.
    known: Seen,
    last: Seen,
}

impl Change {
    fn new(files: &[WatchedFile]) -> Self {
        let known: Seen = files.iter().map(|file| (file.path.clone(), file.fingerprint)).collect();
        Self { last: known.clone(), known }
    }

    /// Whether the files are to be read again: they differ from what is known, and have come to rest. Once for each
    /// change, whatever comes of the reading.
    fn seen(&mut self, now: Seen) -> bool {
        let rests = now == self.last;
        let differs = now != self.known;
        if rests && differs {
            self.known.clone_from(&now);
        }
        self.last = now;
        rests && differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn file(path: &std::path::Path) -> WatchedFile {
        WatchedFile { path: path.to_owned(), fingerprint: Fingerprint::of(path) }
    }

    #[test]
    fn a_change_counts_once_it_rests_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            look(vec![path.clone()])
        };
        let first = write("1");
        let mut change = Change::new(&[file(&path)]);
        assert!(!change.seen(first.clone()), "as it was read");
        let second = write("22");
        assert!(!change.seen(second.clone()), "it may be changing still");
        let third = write("333");
        assert!(!change.seen(third.clone()), "it was");
        assert!(change.seen(third.clone()));
        assert!(!change.seen(third), "it was asked for, whatever came of it");
        std::fs::remove_file(&path).unwrap();
        let gone = look(vec![path]);
        assert!(!change.seen(gone.clone()));
        assert!(change.seen(gone), "a file that is gone has changed");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        std::fs::write(&path, "old").unwrap();
        let every = Duration::from_millis(5);
        let watched = Watched { every: Some(every), files: vec![file(&path)] };
        let (targets, receiver) = watch::channel(watched);
        let (events, mut asked) = mpsc::channel(1);
        let agent = tokio::spawn(FilesAgent { watched: receiver, events }.run());
        assert!(timeout(every * 20, asked.recv()).await.is_err(), "nothing changed");
        std::fs::write(dir.path().join("new"), "new").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        let event = timeout(Duration::from_secs(30), asked.recv()).await.expect("it is seen");
        assert!(matches!(event, Some(Event::Refresh { reply: None })));
        assert!(timeout(every * 20, asked.recv()).await.is_err(), "once");
        drop(targets);
        agent.await.unwrap();
    }
}
