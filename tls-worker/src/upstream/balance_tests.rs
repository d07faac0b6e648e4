//! Shares of every way, and what each promises of load.

use super::*;
use proptest::prelude::*;
use std::net::SocketAddr;

#[derive(Debug, Default)]
struct Fake {
    place: usize,
    weight: u32,
    active: Cell<u64>,
    credit: Cell<i64>,
    chosen: Cell<u64>,
    cost: Option<f64>,
}

impl Candidate for Fake {
    fn weight(&self) -> u32 {
        self.weight
    }
    fn active(&self) -> u64 {
        self.active.get()
    }
    fn credit(&self) -> &Cell<i64> {
        &self.credit
    }
    fn cost(&self, _now: Millis) -> Option<f64> {
        self.cost
    }
    fn place(&self) -> usize {
        self.place
    }
}

fn fakes(weights: &[u32]) -> Vec<Fake> {
    let fake = |(place, weight): (usize, &u32)| Fake { place, weight: *weight, ..Default::default() };
    weights.iter().enumerate().map(fake).collect()
}

fn table(fakes: &[Fake]) -> Maglev {
    let address = |f: &Fake| (SocketAddr::from(([10, 0, 0, f.place as u8], 80)), f.weight as u16);
    Maglev::new(&fakes.iter().map(address).collect::<Vec<_>>())
}

/// Chance that is the same each time.
fn chance() -> impl FnMut(u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(7);
    move |below| rng.u64(..below)
}

#[test]
fn round_robin_is_smooth() {
    let all = fakes(&[5, 1, 1]);
    let turn: Vec<_> = (0..7).map(|_| round_robin(all.iter()).unwrap().place).collect();
    assert_eq!(turn, [0, 0, 1, 0, 2, 0, 0]);
    assert!(round_robin([].iter().map(|f: &Fake| f)).is_none());
}

#[test]
fn least_connections_goes_round_among_equals_and_to_the_least_else() {
    let all = fakes(&[1, 1, 1]);
    let turn: Vec<_> = (0..6).map(|_| least_connections(all.iter()).unwrap().place).collect();
    assert_eq!(turn, [0, 1, 2, 0, 1, 2]);
    all[0].active.set(2);
    all[2].active.set(1);
    assert_eq!(least_connections(all.iter()).unwrap().place, 1);
}

#[test]
fn the_slower_of_two_is_avoided_and_an_unknown_one_is_tried_once_at_a_time() {
    let mut all = fakes(&[1, 1]);
    (all[0].cost, all[1].cost) = (Some(50.0), Some(10.0));
    assert!((0..20).all(|_| peak_ewma(all.iter(), 0, chance()).unwrap().place == 1));
    all[1].active.set(6);
    assert!((0..20).all(|_| peak_ewma(all.iter(), 0, chance()).unwrap().place == 0));
    all[1].cost = None;
    assert!((0..20).all(|_| peak_ewma(all.iter(), 0, chance()).unwrap().place == 0));
    all[1].active.set(0);
    assert!((0..20).all(|_| peak_ewma(all.iter(), 0, chance()).unwrap().place == 1));
}

#[test]
fn a_key_goes_on_to_the_next_while_its_backend_is_none_and_then_comes_back() {
    let all = fakes(&[1, 1, 1, 1]);
    let table = table(&all);
    let mut elsewhere = [0; 4];
    for key in (0..4000).map(|n: u64| super::super::maglev::mix(n)) {
        let first = hash(all.iter(), &table, key, None).unwrap().place;
        assert_eq!(hash(all.iter(), &table, key, None).unwrap().place, first);
        let without = hash(all.iter().filter(|f| f.place != 2), &table, key, None).unwrap().place;
        if first == 2 {
            elsewhere[without] += 1;
        } else {
            assert_eq!(without, first, "only the keys of the one that is out move");
        }
    }
    assert!(elsewhere[2] == 0 && [0, 1, 3].iter().all(|i| (200..480).contains(&elsewhere[*i])), "{elsewhere:?}");
    // One of many in the table: found all the same.
    let many = fakes(&[1; 200]);
    let big = self::table(&many);
    assert_eq!(hash(many.iter().filter(|f| f.place == 77), &big, 5, Some(100)).unwrap().place, 77);
}

proptest! {
    #[test]
    fn round_robin_gives_each_exactly_its_share(weights in prop::collection::vec(1u32..=256, 1..12)) {
        let all = fakes(&weights);
        let total: u32 = weights.iter().sum();
        for _ in 0..2 * total {
            let one = round_robin(all.iter()).unwrap();
            one.chosen.set(one.chosen.get() + 1);
        }
        for f in &all {
            prop_assert_eq!(f.chosen.get(), 2 * u64::from(f.weight));
        }
    }

    #[test]
    fn least_connections_never_takes_a_more_loaded_one(
        given in prop::collection::vec((1u32..=256, 0u64..1000), 1..12)
    ) {
        let all: Vec<_> = given.iter()
            .map(|(w, a)| Fake { weight: *w, active: Cell::new(*a), ..Default::default() }).collect();
        let one = least_connections(all.iter()).unwrap();
        for f in &all {
            prop_assert!((one.active() + 1) * u64::from(f.weight) <= (f.active() + 1) * u64::from(one.weight));
        }
    }

    #[test]
    fn chance_gives_each_about_its_share(weights in prop::collection::vec(1u32..=8, 1..6), of_two: bool) {
        let all = fakes(&weights);
        let total: u32 = weights.iter().sum();
        let mut chance = chance();
        let n = 4000;
        for _ in 0..n {
            let one = match of_two {
                true => least_requests(all.iter(), &mut chance),
                false => random(all.iter(), &mut chance),
            };
            let one = one.unwrap();
            one.chosen.set(one.chosen.get() + 1);
        }
        for f in &all {
            let fair = f64::from(n) * f64::from(f.weight) / f64::from(total);
            // Five times the standard deviation of a binomial is below this.
            let room = 5.0 * fair.sqrt();
            prop_assert!((f.chosen.get() as f64 - fair).abs() <= room, "{} for {fair}", f.chosen.get());
        }
    }

    #[test]
    fn of_two_the_lighter_is_taken_so_load_stays_level(n in 2usize..30, seed: u64) {
        let all = fakes(&vec![1; n]);
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..50 * n {
            let one = least_requests(all.iter(), |below| rng.u64(..below)).unwrap();
            one.active.set(one.active.get() + 1);
        }
        let (least, most) = all.iter().fold((u64::MAX, 0), |(l, m), f| (l.min(f.active()), m.max(f.active())));
        // log log n above the mean, whatever the number of requests (Mitzenmacher); by chance alone it would be ±20.
        prop_assert!(most - least <= 12, "{least} to {most}");
    }

    #[test]
    fn bounded_load_holds_for_any_keys(
        weights in prop::collection::vec(1u32..=4, 2..10),
        keys in prop::collection::vec(0u64..4, 1..300),
        percent in 100u16..=200,
    ) {
        let all = fakes(&weights);
        let table = table(&all);
        let sum: u32 = weights.iter().sum();
        for (in_flight, key) in keys.iter().enumerate() {
            let one = hash(all.iter(), &table, super::super::maglev::mix(*key), Some(percent)).unwrap();
            one.active.set(one.active.get() + 1);
            let share = f64::from(percent) / 100.0 * (in_flight + 1) as f64 * f64::from(one.weight) / f64::from(sum);
            prop_assert!(one.active() as f64 <= share.ceil(), "{} for {share}", one.active());
        }
    }
}
