//! Which prefixes come and go between two lists, and what they are in the kernel. Pure.

use std::cmp::Ordering;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use lb_common::abi::{Address, PREFIX_ALLOW, PREFIX_DENY, PrefixV4, PrefixV6, PrefixValue};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::datapath::PrefixRule;

/// `prefixlen` and [`PrefixV4`].
pub(super) type KeyV4 = [u8; 12];
/// `prefixlen` and [`PrefixV6`].
pub(super) type KeyV6 = [u8; 28];
/// [`PrefixValue`].
pub(super) type Value = [u8; size_of::<PrefixValue>()];

/// Writes of a family.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Writes<K> {
    pub(super) keys: Vec<K>,
    pub(super) values: Vec<Value>,
    /// Those of [`Self::keys`] that replace another rule.
    pub(super) replaced: usize,
    pub(super) gone: Vec<K>,
}

/// From one list to another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) v4: Writes<KeyV4>,
    pub(super) v6: Writes<KeyV6>,
}

/// The clocks of a moment: rules end by one, the kernel half reads the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) time: SystemTime,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) monotonic: u64,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { time: SystemTime::now(), monotonic: crate::datapath::kernel::monotonic() }
    }
}

impl Change {
    /// Both lists are sorted by service and network.
    pub(super) fn between(from: &[PrefixRule], to: &[PrefixRule], now: Now) -> Self {
        let mut change = Self { v4: Writes::new(), v6: Writes::new() };
        let (mut old, mut new) = (from.iter().peekable(), to.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return change,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => (a.service, a.network).cmp(&(b.service, b.network)),
            };
            match order {
                Ordering::Less => old.next().into_iter().for_each(|rule| change.remove(rule)),
                Ordering::Greater => new.next().into_iter().for_each(|rule| change.add(rule, now, false)),
                Ordering::Equal => {
                    if let (Some(before), Some(rule)) = (old.next(), new.next())
                        && before != rule
                    {
                        change.add(rule, now, true);
                    }
                }
            }
        }
    }

    fn add(&mut self, rule: &PrefixRule, now: Now, replaces: bool) {
        let value = value(rule, now);
        match rule.network {
            IpNet::V4(_) => self.v4.add(key_v4(rule), value, replaces),
            IpNet::V6(_) => self.v6.add(key_v6(rule), value, replaces),
        }
    }

    fn remove(&mut self, rule: &PrefixRule) {
        match rule.network {
            IpNet::V4(_) => self.v4.gone.push(key_v4(rule)),
            IpNet::V6(_) => self.v6.gone.push(key_v6(rule)),
        }
    }
}

impl<K> Writes<K> {
    fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new(), replaced: 0, gone: Vec::new() }
    }

    fn add(&mut self, key: K, value: Value, replaces: bool) {
        self.keys.push(key);
        self.values.push(value);
        self.replaced += usize::from(replaces);
    }
}

/// Whether a rule has run out.
pub(super) fn over(rule: &PrefixRule, time: SystemTime) -> bool {
    rule.until.is_some_and(|until| until <= time)
}

/// The rule of an element; none where there is no such prefix.
pub(super) fn rule_v4(key: KeyV4, value: Value, now: Now) -> Option<PrefixRule> {
    let (prefix, value): (PrefixV4, PrefixValue) =
        (PrefixV4::read_from_bytes(&key[4..]).ok()?, zerocopy::transmute!(value));
    let network = ipnet::Ipv4Net::new(prefix.address.into(), u8::try_from(value.length).ok()?).ok()?;
    Some(rule(prefix.service, network.into(), value, now))
}

/// The same of the other family.
pub(super) fn rule_v6(key: KeyV6, value: Value, now: Now) -> Option<PrefixRule> {
    let (prefix, value): (PrefixV6, PrefixValue) =
        (PrefixV6::read_from_bytes(&key[4..]).ok()?, zerocopy::transmute!(value));
    let network = ipnet::Ipv6Net::new(prefix.address.0.into(), u8::try_from(value.length).ok()?).ok()?;
    Some(rule(prefix.service, network.into(), value, now))
}

fn rule(service: u32, network: IpNet, value: PrefixValue, now: Now) -> PrefixRule {
    let left = value.until.saturating_sub(now.monotonic);
    let until = (value.until != 0).then(|| now.time.checked_add(Duration::from_nanos(left)).unwrap_or(now.time));
    PrefixRule { service, network, allow: value.action == PREFIX_ALLOW, until }
}

fn value(rule: &PrefixRule, now: Now) -> Value {
    let left = |until: SystemTime| until.duration_since(now.time).unwrap_or(Duration::ZERO).as_nanos();
    let until = rule
        .until
        .map_or(0, |until| now.monotonic.saturating_add(u64::try_from(left(until)).unwrap_or(u64::MAX)).max(1));
    let action = if rule.allow { PREFIX_ALLOW } else { PREFIX_DENY };
    zerocopy::transmute!(PrefixValue { until, action, length: rule.network.prefix_len().into() })
}

fn key_v4(rule: &PrefixRule) -> KeyV4 {
    let address = match rule.network.network() {
        std::net::IpAddr::V4(v4) => v4.octets(),
        std::net::IpAddr::V6(_) => unreachable!("of the other family"),
    };
    key(32 + u32::from(rule.network.prefix_len()), PrefixV4 { service: rule.service, address }.as_bytes())
}

fn key_v6(rule: &PrefixRule) -> KeyV6 {
    let address = match rule.network.network() {
        std::net::IpAddr::V6(v6) => Address::v6(v6.octets()),
        std::net::IpAddr::V4(_) => unreachable!("of the other family"),
    };
    let prefix = PrefixV6 { service: rule.service, pad: 0, address };
    key(64 + u32::from(rule.network.prefix_len()), prefix.as_bytes())
}

fn key<const N: usize>(length: u32, data: &[u8]) -> [u8; N] {
    let mut key = [0; N];
    key[..4].copy_from_slice(&length.to_ne_bytes());
    key[4..].copy_from_slice(data);
    key
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn now() -> Now {
        Now { time: SystemTime::UNIX_EPOCH + Duration::from_secs(1000), monotonic: 500 }
    }

    fn rules() -> impl Strategy<Value = Vec<PrefixRule>> {
        let network = prop_oneof![
            (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
                let net = ipnet::Ipv4Net::new((bits & 0xc000_0101).into(), length).unwrap();
                IpNet::V4(net.trunc())
            }),
            (any::<u128>(), 0u8..=128).prop_map(|(bits, length)| {
                let net = ipnet::Ipv6Net::new((bits & 3 << 126 | bits & 1).into(), length).unwrap();
                IpNet::V6(net.trunc())
            }),
        ];
        let until = prop_oneof![Just(None), (1001u64..1100).prop_map(Some)];
        btree_map((0u32..3, network), (any::<bool>(), until), 0..40).prop_map(|rules| {
            let rule = |((service, network), (allow, until)): (_, (_, Option<u64>))| PrefixRule {
                service,
                network,
                allow,
                until: until.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            };
            rules.into_iter().map(rule).collect()
        })
    }

    /// What the two tries hold.
    type Tries = (BTreeMap<KeyV4, Value>, BTreeMap<KeyV6, Value>);

    fn applied(mut tries: Tries, change: &Change) -> Tries {
        fn one<K: Ord + Copy>(trie: &mut BTreeMap<K, Value>, writes: &Writes<K>) {
            let before = trie.len();
            trie.extend(writes.keys.iter().copied().zip(writes.values.iter().copied()));
            assert_eq!(trie.len(), before + writes.keys.len() - writes.replaced);
            writes.gone.iter().for_each(|key| assert!(trie.remove(key).is_some()));
        }
        one(&mut tries.0, &change.v4);
        one(&mut tries.1, &change.v6);
        tries
    }

    #[test]
    fn an_element_tells_its_rule() {
        for network in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"] {
            for until in [None, Some(now().time + Duration::from_secs(5))] {
                let rule = PrefixRule { service: 3, network: network.parse().unwrap(), allow: until.is_some(), until };
                let told = match rule.network {
                    IpNet::V4(_) => rule_v4(key_v4(&rule), value(&rule, now()), now()),
                    IpNet::V6(_) => rule_v6(key_v6(&rule), value(&rule, now()), now()),
                };
                assert_eq!(told, Some(rule));
            }
        }
    }

    proptest! {
        #[test]
        fn a_change_leads_from_one_list_to_the_other(from in rules(), to in rules()) {
            let all = |rules: &[PrefixRule]| applied(Tries::default(), &Change::between(&[], rules, now()));
            let changed = applied(all(&from), &Change::between(&from, &to, now()));
            prop_assert_eq!(changed, all(&to));
        }

        #[test]
        fn no_change_writes_nothing(rules in rules()) {
            let change = Change::between(&rules, &rules, now());
            prop_assert!(change.v4 == Writes::new() && change.v6 == Writes::new());
        }
    }

    #[test]
    fn the_kernels_key_and_value() {
        let until = Some(now().time + Duration::from_nanos(7));
        let rule = PrefixRule { service: 3, network: "192.0.2.0/24".parse().unwrap(), allow: true, until };
        let change = Change::between(&[], &[rule], now());
        assert_eq!(change.v4.keys, [[56, 0, 0, 0, 3, 0, 0, 0, 192, 0, 2, 0]]);
        let value: Value = zerocopy::transmute!(PrefixValue { until: 507, action: PREFIX_ALLOW, length: 24 });
        assert_eq!(change.v4.values, [value]);
    }
}
