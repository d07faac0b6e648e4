//! The journal against a model, with a medium that fails and dies; the directory on a real disk; what is damaged.

use super::entry::{Damage, Entry};
use super::testing::{Fault, Memory};
use super::*;
use crate::reconcile::{Change, Delta, Overlay, PoolChange, PrefixChange, ServiceIds, testing};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

fn record(number: u64, delta: Delta) -> Arc<Record> {
    let what = vec![format!("change {number}")];
    Arc::new(Record { number, unix_ms: 5, who: Who::named("me"), what, generation: number + 1, delta })
}

/// An overlay with one backend more for each bit.
fn overlay(bits: u8) -> Overlay {
    let config = testing::config(&["a"], [([10, 0, 0, 1], 80).into()].map(|address| (address, 1)).into());
    let mut overlay = Overlay::default();
    for bit in (0..8).filter(|bit| bits & (1 << bit) != 0) {
        let address = ([10, 0, 0, 2 + bit], 80).into();
        overlay = overlay.with(&config, "p", address, PoolChange::Add { weight: Some(u16::from(bit) + 1) }).unwrap();
        let network = format!("10.{bit}.0.0/16").parse().unwrap();
        let seconds = (bit % 2 == 0).then_some(3600);
        let rule = PrefixChange::Add { service: None, network, allow: bit > 4, seconds };
        overlay = overlay.with_rule(&config, rule, SystemTime::UNIX_EPOCH).unwrap();
    }
    overlay
}

fn open(memory: &Memory, keep: usize) -> (Journal<Memory>, Found) {
    let bytes = memory.bytes();
    let found = read(&bytes);
    let (journal, ready) = Journal::open(memory.clone(), &bytes, &found, keep);
    ready.unwrap();
    (journal, found)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Made(u8),
    Refused(u8),
    Numbers(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Made),
        2 => any::<u8>().prop_map(Step::Refused),
        1 => (1u32..9).prop_map(Step::Numbers),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    (0usize..12, 1usize..4, any::<usize>(), any::<bool>()).prop_map(|(at, count, part, dies)| Fault {
        at,
        count,
        part,
        dies,
    })
}

proptest! {
    /// Whatever fails or dies, and wherever: what was answered is there, what was refused is not, unless the disk failed in
    /// refusing it, too, and nothing was written since.
    #[test]
    fn what_was_answered_is_found_again(
        runs in prop::collection::vec((prop::collection::vec(step(), 1..12), fault()), 1..5),
        keep in 1usize..6,
    ) {
        let memory = Memory::default();
        let (mut model, mut number, mut last_ids) = (Overlay::default(), 0, 0);
        for (steps, fault) in runs {
            memory.fail(None);
            let (mut journal, found) = open(&memory, keep);
            prop_assert_eq!(found.history.overlay(), &model);
            memory.fail(Some(fault));
            // What may lie there instead, because the disk failed.
            let mut unsure = vec![];
            let mut history = found.history.clone();
            for step in steps {
                match step {
                    Step::Made(bits) | Step::Refused(bits) => {
                        let next = overlay(bits);
                        let record = record(history.last() + 1, history.overlay().delta(&next));
                        let written = journal.record(Arc::clone(&record));
                        let done = match (written, step) {
                            (Ok(()), Step::Made(_)) => {
                                history.push(record);
                                model = next.clone();
                                true
                            }
                            (Ok(()), _) => journal.take_back(record.number).is_ok(),
                            (Err(_), _) => false,
                        };
                        if done { unsure.clear() } else { unsure.push(next) }
                    }
                    Step::Numbers(id) => {
                        if journal.numbers(ServiceIds::of(&[("a", id)]), u64::from(id)).is_ok() {
                            last_ids = id;
                            unsure.clear();
                        }
                    }
                }
                if memory.dead() {
                    break;
                }
            }
            let found = read(&memory.bytes());
            let there = found.history.overlay().clone();
            prop_assert!(there == model || unsure.contains(&there), "{:?}", found.damage);
            prop_assert!(!found.lost(), "{:?}", found.damage);
            if last_ids > 0 {
                prop_assert!(found.ids.id("a").is_some());
            }
            prop_assert!(found.history.last() >= number || !unsure.is_empty());
            number = found.history.last();
            model = there;
        }
    }

    /// Any bytes, and any damage to good ones: read to the last good line, never a panic.
    #[test]
    fn damage_is_found_and_what_is_before_it_holds(at in any::<usize>(), with in 1u8..=255, cut in any::<bool>()) {
        let memory = Memory::default();
        let (mut journal, _) = open(&memory, 100);
        let mut history = History::default();
        for number in 1..6u64 {
            let record = record(number, history.overlay().delta(&overlay(number as u8)));
            history.push(Arc::clone(&record));
            journal.record(record).unwrap();
        }
        let whole = memory.bytes();
        let mut bytes = whole.clone();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] ^= with }
        let found = read(&bytes);
        prop_assert!(found.good <= at);
        prop_assert!(found.damage.is_some() || found.good == at);
        let line_start = whole[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        prop_assert_eq!(found.good, line_start);
        if found.history.last() > 0 {
            prop_assert_eq!(found.history.overlay(), &history.at(found.history.last()).unwrap());
        }
    }

    #[test]
    fn a_delta_leads_from_any_overlay_to_any_other(a in any::<u8>(), b in any::<u8>()) {
        let (mut from, to) = (overlay(a), overlay(b));
        let delta = from.delta(&to);
        let text = serde_json::to_string(&delta).unwrap();
        let read: Delta = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &delta);
        from.apply(&read);
        prop_assert_eq!(&from, &to);
        prop_assert_eq!(delta.is_empty(), a == b);
    }
}

#[test]
fn it_is_rewritten_when_it_grew_and_forgets_the_oldest() {
    let memory = Memory::default();
    let (mut journal, _) = open(&memory, 10);
    let mut history = History::default();
    for number in 1..=200u64 {
        let record = record(number, history.overlay().delta(&overlay(number as u8)));
        history.push(Arc::clone(&record));
        journal.record(record).unwrap();
    }
    let found = read(&memory.bytes());
    assert!((10..=21).contains(&found.history.records().len()), "{}", found.history.records().len());
    assert_eq!((found.history.last(), found.history.overlay()), (200, &overlay(200)));
    assert_eq!(found.history.at(195).unwrap(), overlay(195));
    assert!(matches!(found.history.at(5), Err(Forgotten { number: 5, last: 200, .. })));
    assert!(found.history.at(201).is_err());
    assert!(memory.bytes().len() < 50_000, "{}", memory.bytes().len());
}

#[test]
fn what_is_damaged_is_set_aside_and_told() {
    let memory = Memory::default();
    let (mut journal, _) = open(&memory, 10);
    for number in 1..=3 {
        journal.record(record(number, Overlay::default().delta(&overlay(number as u8)))).unwrap();
    }
    let good = memory.bytes();
    let text = String::from_utf8(good.clone()).unwrap();
    // A digit of the second change is another one.
    let bad = Memory::of(text.replace("change 2", "change 7").as_bytes());
    let opened = Book::over(bad.clone(), Path::new("/state"), 10).unwrap();
    assert_eq!(opened.found.history.last(), 1);
    let lost = opened.book.notes().lost.unwrap();
    assert!(lost.contains("after change 1 is lost") && lost.contains("line 5"), "{lost}");
    assert!(String::from_utf8(bad.aside()).unwrap().contains("change 3"));
    assert_eq!(read(&bad.bytes()).damage, None);
    // A line that is missing is as bad as one that is changed.
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.remove(4);
    assert_eq!(read(lines.concat().as_bytes()).damage, Some((5, Damage::Checksum)));
    // Half a line was never answered, and is not missed.
    let half = Memory::of(&good[..good.len() - 3]);
    let opened = Book::over(half, Path::new("/state"), 10).unwrap();
    assert_eq!((opened.found.history.last(), opened.book.notes().lost), (2, None));
}

#[test]
fn a_later_version_is_not_read_and_not_written() {
    let (line, _) = Entry::Head { format: FORMAT + 1, release: "9.0.0".into() }.line(0);
    let memory = Memory::of(&[line.clone(), b"0123abcd what nobody knows yet\n".to_vec()].concat());
    let error = Book::over(memory.clone(), Path::new("/state"), 10).unwrap_err().to_string();
    assert!(
        error.contains("bailey 9.0.0") && error.contains("format 2") && error.contains("/state/journal"),
        "{error}"
    );
    assert!(memory.bytes().starts_with(&line));
}

/// As release 0.1.0 writes it: what a later one must read.
const STORED: &str = include_str!("stored-1.journal");

#[test]
fn a_stored_journal_of_format_1_is_read() {
    let found = read(STORED.as_bytes());
    assert_eq!((found.damage, found.other), (None, None));
    assert_eq!((found.history.last(), found.generation, found.ids.id("web")), (3, 1004, Some(1)));
    let config = testing::config(&["web"], [(([10, 0, 0, 1], 80).into(), 1)].into());
    let backends = found.history.overlay().effective(&config.pools[0]);
    assert_eq!((backends.len(), backends[1].weight), (2, 3));
    assert_eq!(found.history.overlay().rules().len(), 1);
    let words: Vec<_> = found.history.records().map(|record| record.what.concat()).collect();
    assert_eq!(
        words[0],
        Change::Pool {
            pool: "p".into(),
            address: ([10, 0, 0, 2], 80).into(),
            change: PoolChange::Add { weight: Some(3) }
        }
        .words()
    );
}

#[tokio::test]
async fn a_directory_is_one_edges_and_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/state");
    let mut book = Book::open(Some(&path), 10).unwrap().book;
    let delta = Overlay::default().delta(&overlay(3));
    book.record(Record::clone(&record(1, delta))).await.unwrap();
    book.note(&ServiceIds::of(&[("web", 4)]), 7);
    let error = Book::open(Some(&path), 10).unwrap_err();
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    book.close(7).await;
    assert!(book.record(Record::clone(&record(2, Delta::default()))).await.is_err(), "let go of");
    let opened = Book::open(Some(&path), 10).unwrap();
    assert_eq!(opened.found.history.overlay(), &overlay(3));
    assert_eq!((opened.found.ids.id("web"), opened.found.generation), (Some(4), 7));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path.join("journal")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The one that let go takes it again when the other is gone.
    drop(opened);
    let mut tries = 0;
    while book.reopen().is_err() {
        tries += 1;
        assert!(tries < 5_000, "the other one's thread ends");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    book.record(Record::clone(&record(2, Delta::default()))).await.unwrap();
    book.close(8).await;
    assert_eq!(Book::open(Some(&path), 10).unwrap().found.history.last(), 2);
}

#[tokio::test]
async fn a_directory_that_is_removed_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut book = Book::open(Some(&path), 10).unwrap().book;
    let delta = Overlay::default().delta(&overlay(1));
    book.record(Record::clone(&record(1, delta))).await.unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let error = book.record(Record::clone(&record(2, Delta::default()))).await.unwrap_err();
    assert!(error.to_string().contains("removed"), "{error}");
    book.record(Record::clone(&record(2, Delta::default()))).await.unwrap();
    book.close(5).await;
    let found = Book::open(Some(&path), 10).unwrap().found;
    assert_eq!((found.history.last(), found.history.overlay()), (2, &overlay(1)));
}

#[tokio::test]
async fn a_disk_that_fails_refuses_changes_until_it_is_well() {
    let memory = Memory::default();
    let mut book = Book::over(memory.clone(), Path::new("/state"), 10).unwrap().book;
    memory.fail(Some(Fault { at: 0, count: 2, part: 3, dies: false }));
    let error = book.record(Record::clone(&record(1, Delta::default()))).await.unwrap_err();
    assert!(error.to_string().contains("/state"), "{error}");
    assert!(book.notes().trouble.is_some());
    book.mend();
    while book.notes().trouble.is_some() {
        tokio::task::yield_now().await;
    }
    book.record(Record::clone(&record(1, Delta::default()))).await.unwrap();
    assert_eq!(read(&memory.bytes()).history.last(), 1);
}
