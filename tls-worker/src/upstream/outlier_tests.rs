//! When a backend is left out, for how long, and when not.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn rules() -> Outliers {
    let seconds = Duration::from_secs;
    Outliers {
        errors: Some(4),
        gateway_errors: Some(3),
        connect_failures: Some(2),
        ejection: seconds(30),
        max_ejection: seconds(70),
        max_percent: 50,
        ..Outliers::default()
    }
}

#[test]
fn causes_are_in_a_row_and_a_good_answer_ends_the_row() {
    use Outcome::*;
    for (outcomes, cause) in [
        (&[Connect, Connect][..], Some(Ejection::ConnectFailures)),
        (&[Connect, Gateway, Connect], Some(Ejection::GatewayErrors)),
        (&[Gateway, Gateway, Good, Gateway, Gateway], None),
        (&[Error, Gateway, Gateway, Error], Some(Ejection::Errors)),
        (&[Error, Error, Error, Good, Error], None),
    ] {
        let record = Record::default();
        let last = outcomes.iter().map(|outcome| record.note(*outcome, &rules())).last().unwrap();
        assert_eq!(last, cause, "{outcomes:?}");
    }
}

#[test]
fn it_stays_out_longer_each_time_and_is_forgiven_in_good_intervals() {
    let (record, court, rules) = (Record::default(), Court::default(), rules());
    let mut now = 1_000_000;
    for seconds in [30, 60, 70, 70] {
        let ejected = eject(&[&record], 0, Ejection::Errors, &rules, now).unwrap();
        assert_eq!(ejected.long, seconds * 1000);
        assert!(record.is_out(now + seconds * 1000 - 1) && !record.returns(now + seconds * 1000 - 1));
        now += seconds * 1000;
        assert!(record.returns(now) && !record.returns(now) && !record.is_out(now));
    }
    for _ in 0..5 {
        record.note(Outcome::Good, &rules);
        court.judge(&[&record], &rules, now);
        now += 10_000;
    }
    assert_eq!(eject(&[&record], 0, Ejection::Errors, &rules, now).unwrap().long, 30_000);
}

#[test]
fn no_more_are_out_than_may_be() {
    let records: Vec<Record> = (0..5).map(|_| Record::default()).collect();
    let all: Vec<&Record> = records.iter().collect();
    let out = |place| eject(&all, place, Ejection::Errors, &rules(), 10).is_some();
    assert_eq!([0, 0, 1, 2, 3].map(out), [true, false, true, false, false]);
    let strict = Outliers { max_percent: 0, ..rules() };
    assert!(eject(&[&Record::default()], 0, Ejection::Errors, &strict, 10).is_some(), "one may be in any case");
}

#[test]
fn the_one_whose_share_stands_out_is_left_out() {
    let rules = Outliers { stdev_factor: Some(1500), min_requests: 10, ..rules() };
    let records: Vec<Record> = (0..6).map(|_| Record::default()).collect();
    let all: Vec<&Record> = records.iter().collect();
    let court = Court::default();
    assert_eq!(court.judge(&all, &rules, 1000), []);
    let ask = |place: usize, good: u32, bad: u32| {
        let note = |outcome| records[place].note(outcome, &Outliers::default());
        for n in 0..good + bad {
            assert_eq!(note(if n < good { Outcome::Good } else { Outcome::Error }), None);
        }
    };
    (0..5).for_each(|place| ask(place, 19, 1));
    // Bad, but of too few requests to say.
    ask(5, 1, 8);
    assert_eq!(court.judge(&all, &rules, 11_000), []);
    (0..5).for_each(|place| ask(place, 19, 1));
    ask(5, 12, 8);
    assert_eq!(court.judge(&all, &rules, 15_000), [], "the interval is not over");
    let expected = Ejected { place: 5, cause: Ejection::SuccessRate, long: 30_000 };
    assert_eq!(court.judge(&all, &rules, 21_000), [expected]);
}

proptest! {
    #[test]
    fn a_backend_that_is_out_always_comes_back(
        outcomes in prop::collection::vec((0u8..4, 0u64..5_000), 1..300),
        percent in 0u8..=100,
    ) {
        let rules = Outliers { max_percent: percent, stdev_factor: Some(1000), min_requests: 5, ..rules() };
        let records: Vec<Record> = (0..4).map(|_| Record::default()).collect();
        let all: Vec<&Record> = records.iter().collect();
        let court = Court::default();
        let mut now = 1;
        for (n, (outcome, pass)) in outcomes.into_iter().enumerate() {
            now += pass;
            let outcome = [Outcome::Good, Outcome::Error, Outcome::Gateway, Outcome::Connect][usize::from(outcome)];
            let returned = all.iter().filter(|record| record.returns(now)).count();
            prop_assert!(returned <= all.len());
            if let Some(cause) = records[n % 4].note(outcome, &rules) {
                eject(&all, n % 4, cause, &rules, now);
            }
            court.judge(&all, &rules, now);
            let out = all.iter().filter(|record| record.is_out(now)).count();
            prop_assert!(out <= (4 * usize::from(percent) / 100).max(1));
            prop_assert!(all.iter().all(|record| !record.is_out(now + 70_000)));
        }
    }
}
