//! Answers of every kind, in every order, told to the machine of one name.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> config::Dns {
    config::Dns {
        min_ttl: 2 * SECOND,
        max_ttl: 60 * SECOND,
        retry: 5 * SECOND,
        hold: 30 * SECOND,
        ..Default::default()
    }
}

fn set(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn found(list: &[&str], ttl: u64) -> Option<Heard> {
    Some(Heard::Addresses(set(list), ttl as u32 * SECOND))
}

fn failed() -> Option<Heard> {
    Some(Heard::Failed("no answer".into()))
}

#[test]
fn an_answer_holds_as_long_as_it_says_within_bounds() {
    let now = Instant::now();
    let mut machine = Machine::new(rules(), BTreeSet::new(), now);
    assert_eq!(machine.due(), now);
    for (ttl, expected) in [(0, 2), (1, 2), (7, 7), (60, 60), (86_400, 60)] {
        machine.hear([found(&["192.0.2.1"], ttl), None], now);
        assert_eq!(machine.due(), now + expected * SECOND, "{ttl}");
    }
    // The shorter of the two.
    machine.hear([found(&["192.0.2.1"], 50), found(&["2001:db8::1"], 9)], now);
    assert_eq!((machine.due(), machine.current()), (now + 9 * SECOND, &set(&["192.0.2.1", "2001:db8::1"])));
}

#[test]
fn what_fails_leaves_what_there_was() {
    let now = Instant::now();
    let mut machine = Machine::new(rules(), set(&["192.0.2.9"]), now);
    for days in 0..5 {
        let said = machine.hear([failed(), failed()], now + days * 86_400 * SECOND);
        assert_eq!(said.result, Outcome::Failed("no answer".into()));
        assert_eq!(machine.current(), &set(&["192.0.2.9"]));
    }
    assert_eq!(machine.due(), now + (4 * 86_400 + 5) * SECOND);
    // One family alone.
    machine.hear([found(&["192.0.2.1"], 9), found(&["2001:db8::1"], 9)], now);
    machine.hear([found(&["192.0.2.2"], 9), failed()], now);
    assert_eq!(machine.current(), &set(&["192.0.2.2", "2001:db8::1"]));
    assert_eq!(machine.due(), now + 5 * SECOND);
    machine.hear([Some(Heard::Nothing(None)), failed()], now);
    assert_eq!(machine.current(), &set(&["2001:db8::1"]));
}

#[test]
fn a_name_that_has_none_any_more_keeps_them_for_a_while() {
    let now = Instant::now();
    let nothing = || [Some(Heard::Nothing(Some(20 * SECOND))), Some(Heard::Nothing(None))];
    let mut machine = Machine::new(rules(), set(&["192.0.2.9"]), now);
    assert_eq!(machine.hear(nothing(), now).result, Outcome::Nothing);
    assert_eq!((machine.current().len(), machine.due()), (1, now + 5 * SECOND));
    machine.hear(nothing(), now + 29 * SECOND);
    assert_eq!((machine.current().len(), machine.due()), (1, now + 30 * SECOND));
    // What failed says nothing about that.
    machine.hear([failed(), failed()], now + 29 * SECOND);
    assert_eq!(machine.current().len(), 1);
    machine.hear(nothing(), now + 30 * SECOND);
    assert_eq!(machine.current().len(), 0);
    // It comes back, and the time begins anew.
    machine.hear([found(&["192.0.2.9"], 9), None], now + 40 * SECOND);
    machine.hear(nothing(), now + 50 * SECOND);
    assert_eq!(machine.current().len(), 1);
}

#[test]
fn addresses_that_no_backend_can_have_are_none() {
    let now = Instant::now();
    let mut machine = Machine::new(rules(), set(&["192.0.2.9"]), now);
    let bad = ["0.0.0.0", "224.0.0.1", "255.255.255.255"];
    let said = machine.hear([found(&bad, 9), found(&["::", "ff02::1", "::ffff:0.0.0.0"], 9)], now);
    assert!(matches!(said.result, Outcome::Failed(_)) && said.rejected == 6, "{said:?}");
    assert_eq!(machine.current(), &set(&["192.0.2.9"]));
    let said = machine.hear([found(&["192.0.2.1", "0.0.0.0"], 9), None], now);
    assert_eq!((said.result, said.rejected), (Outcome::Addresses, 1));
    let many: BTreeSet<IpAddr> = (0..500u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect();
    let said = machine.hear([Some(Heard::Addresses(many, SECOND)), None], now);
    assert_eq!((said.rejected, machine.current().len()), (500 - MAX_ADDRESSES, MAX_ADDRESSES));
}

proptest! {
    #[test]
    fn who_had_addresses_loses_the_last_only_when_dns_says_so_for_a_while(
        steps in prop::collection::vec((0usize..3, 0usize..3, 1u64..20), 1..60),
    ) {
        let begin = Instant::now();
        let mut machine = Machine::new(rules(), BTreeSet::new(), begin);
        let mut now = begin;
        let mut last_good = None;
        for (v4, v6, seconds) in steps {
            now += seconds as u32 * SECOND;
            let answer = |kind, ip| match kind {
                0 => found(&[ip], seconds),
                1 => Some(Heard::Nothing(None)),
                _ => failed(),
            };
            let had = !machine.current().is_empty();
            machine.hear([answer(v4, "192.0.2.1"), answer(v6, "2001:db8::1")], now);
            if v4 == 0 || v6 == 0 {
                last_good = Some(now);
            }
            prop_assert!(machine.due() > now && machine.due() <= now + 60 * SECOND);
            if had && machine.current().is_empty() {
                prop_assert!(v4 != 0 && v6 != 0);
                prop_assert!(now - last_good.unwrap() >= Duration::ZERO);
            }
            if v4 == 0 || v6 == 0 {
                prop_assert!(!machine.current().is_empty());
            }
            if v4 == 2 && v6 == 2 {
                prop_assert_eq!(had, !machine.current().is_empty());
            }
        }
    }
}
