//! Tests of [`super::Table`]: the clock is the test's.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { timeout: 1_000, max: 8 };

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

fn key(n: u32) -> Arc<str> {
    n.to_string().into()
}

#[test]
fn the_first_to_come_decides_until_the_entry_is_old() {
    let table = Table::default();
    assert_eq!(table.find("1", 0, 1_000), None);
    assert_eq!(table.pin(&key(1), at(1), None, 0, LIMITS), Some(at(1)));
    assert_eq!(table.pin(&key(1), at(2), None, 10, LIMITS), Some(at(1)));
    assert_eq!(table.find("1", 900, 1_000), Some(at(1)));
    assert_eq!(table.find("1", 1_900, 1_000), Some(at(1)), "a use makes it young");
    assert_eq!(table.find("1", 2_901, 1_000), None);
    assert_eq!(table.pin(&key(1), at(2), None, 2_901, LIMITS), Some(at(2)), "old");
}

#[test]
fn who_may_not_stay_goes_to_the_first_new_place() {
    let table = Table::default();
    table.pin(&key(1), at(1), None, 0, LIMITS);
    assert_eq!(table.pin(&key(1), at(2), Some(at(1)), 1, LIMITS), Some(at(2)));
    // Another thread saw the same backend fall.
    assert_eq!(table.pin(&key(1), at(3), Some(at(1)), 1, LIMITS), Some(at(2)));
}

#[test]
fn a_full_table_takes_nobody_until_the_longest_unused_are_out() {
    let table = Table::default();
    for n in 0..8 {
        assert!(table.pin(&key(n), at(1), None, u64::from(n), LIMITS).is_some());
    }
    assert_eq!(table.pin(&key(9), at(1), None, 9, LIMITS), None);
    assert_eq!(table.pin(&key(3), at(2), None, 9, LIMITS), Some(at(1)), "who is in it is served");
    table.sweep(9, LIMITS);
    assert_eq!((table.len(), table.evicted.load(Relaxed)), (7, 1));
    assert_eq!(table.find("0", 9, 1_000), None, "the oldest");
    assert_eq!(table.pin(&key(9), at(1), None, 9, LIMITS), Some(at(1)));
    table.sweep(5_000, LIMITS);
    assert_eq!((table.len(), table.expired.load(Relaxed)), (0, 8));
}

#[test]
fn changes_are_told_once_and_a_use_in_time() {
    let table = Table::default();
    table.pin(&key(1), at(1), None, 0, LIMITS);
    table.pin(&key(2), at(1), None, 0, LIMITS);
    let told = table.changes(100).unwrap();
    assert_eq!((told.set.len(), told.set[0].idle_ms, told.removed.len()), (2, 100, 0));
    assert_eq!(table.changes(100), None);
    table.find("1", 200, 1_000);
    assert_eq!(table.changes(200), None, "told not long ago");
    table.find("1", 400, 1_000);
    let again = table.changes(400).unwrap();
    assert_eq!(again.set, [Session { key: "1".into(), backend: at(1), idle_ms: 0 }]);
    table.not_told(again.clone());
    assert_eq!(table.changes(400), Some(again));
    assert_eq!(table.clear(&ClearSessions::Key("2".into())), 1);
    assert_eq!(table.changes(400).unwrap().removed, ["2"]);
}

#[test]
fn what_an_earlier_worker_knew_stands_behind_what_is_known() {
    let (old, new) = (Table::default(), Table::default());
    old.pin(&key(1), at(1), None, 0, LIMITS);
    old.pin(&key(2), at(1), None, 0, LIMITS);
    let mut told = old.changes(100).unwrap().set;
    told.push(Session { key: "3".into(), backend: at(1), idle_ms: 1_001 });
    new.pin(&key(2), at(2), None, 5_000, LIMITS);
    new.restore(told, 5_000, LIMITS);
    assert_eq!(new.find("1", 5_900, 1_000), Some(at(1)));
    assert_eq!(new.find("2", 5_000, 1_000), Some(at(2)));
    assert_eq!(new.find("3", 5_000, 1_000), None, "too old");
    assert_eq!(new.clear(&ClearSessions::Backend(at(2))), 1);
    assert_eq!(new.clear(&ClearSessions::All), 1);
    assert_eq!(new.cleared.load(Relaxed), 2);
}

#[test]
fn a_credential_is_cleared_by_itself_or_as_it_is_listed() {
    let table = Table::default();
    for _ in 0..2 {
        let kept = super::super::key(b"secret", true);
        table.pin(&kept, at(1), None, 0, LIMITS);
        assert_eq!(table.clear(&ClearSessions::Key("secret".into())), 1);
        table.pin(&kept, at(1), None, 0, LIMITS);
        assert_eq!(table.clear(&ClearSessions::Key(kept.to_string())), 1);
    }
}

#[test]
fn threads_agree() {
    let table = Arc::new(Table::default());
    let limits = Limits { timeout: 1_000_000, max: 10_000 };
    let threads: Vec<_> = (0..4u8)
        .map(|thread| {
            let table = table.clone();
            std::thread::spawn(move || (0..2_000).map(|n| table.pin(&key(n), at(thread), None, 0, limits)).collect())
        })
        .collect();
    let seen: Vec<Vec<Option<SocketAddr>>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(seen.iter().all(|one| *one == seen[0]));
}

proptest! {
    /// Against a plain model: whoever is in the table, and not old, stays where it is; bounds hold.
    #[test]
    fn a_client_stays_and_bounds_hold(steps in prop::collection::vec((0u32..12, 0u8..3, 0u64..400, any::<bool>()), 1..120)) {
        let table = Table::default();
        let mut model = std::collections::HashMap::<u32, (SocketAddr, u64)>::new();
        let mut now = 0;
        for (client, backend, wait, sweep) in steps {
            now += wait;
            if sweep {
                table.sweep(now, LIMITS);
            }
            let found = table.find(&client.to_string(), now, LIMITS.timeout);
            if let Some(found) = found {
                let (pinned, used) = model[&client];
                prop_assert_eq!(found, pinned);
                // Uses are noted a quarter of a second apart.
                prop_assert!(now - used <= LIMITS.timeout + NOTED_EVERY);
            }
            let pinned = table.pin(&key(client), at(backend), None, now, LIMITS);
            if let Some(found) = found {
                prop_assert_eq!(pinned, Some(found));
            }
            match pinned {
                Some(pinned) => {
                    model.insert(client, (pinned, now));
                }
                None => prop_assert!(table.is_full(LIMITS.max)),
            }
            prop_assert!(table.len() <= LIMITS.max);
        }
    }
}
