//! Backends with names: what is read, and the config with the addresses that DNS has.

use super::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::time::Instant;

fn with(pool: &str) -> String {
    let start = GOOD.find("[pool.api]").unwrap();
    format!("{}[pool.api]\n{pool}\n", &GOOD[..start])
}

#[test]
fn every_key_of_names_has_its_place() {
    let text = with(
        r#"
backends = ["198.51.100.3:80", "App.Internal:8080", { address = "db.internal.:5432", weight = 7, backup = true }]
drain_timeout = "0s"
min_up = 9
[dns]
servers = ["192.0.2.53", "[2001:db8::53]:5353"]
families = "ipv6"
min_ttl = "2s"
max_ttl = "20s"
retry = "3s"
hold = "0s"
timeout = "1s"
tries = 3
"#,
    );
    let loaded = Files::new().parse(&text).unwrap();
    let pool = loaded.config.pool("api").unwrap();
    assert_eq!(
        pool.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["app.internal:8080", "db.internal.:5432"]
    );
    assert_eq!((pool.names[1].weight, pool.names[1].role.backup, pool.drain_timeout), (7, true, Duration::ZERO));
    let dns = &loaded.config.dns;
    assert_eq!(
        dns.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.53:53", "[2001:db8::53]:5353"]
    );
    assert_eq!((dns.families, dns.tries, dns.deadline()), (Families::V6, 3, Duration::from_secs(3)));
    assert_eq!([dns.min_ttl, dns.max_ttl, dns.retry, dns.hold].map(|time| time.as_secs()), [2, 20, 3, 0]);
    assert!(
        loaded.warnings.views().iter().all(|view| !view.message.contains("min_up")),
        "how many there are nobody knows"
    );
}

#[test]
fn mistakes_with_names_are_told() {
    for (text, message, help) in [
        ("backends = [\"app.internal\"]", "has no port", "\"app.internal:8080\""),
        ("backends = [\"app..internal:80\"]", "no host name", "write labels"),
        ("backends = [\"a.b:80\", \"A.B:80\"]", "backend a.b:80 stands here twice", "name it once"),
        ("backends = []\n[dns]\nservers = []", "0 servers", "/etc/resolv.conf"),
        ("backends = []\n[dns]\nservers = [\"dns.test\"]", "no IP address", ""),
        ("backends = []\n[dns]\nmin_ttl = \"1m\"\nmax_ttl = \"1s\"", "`min_ttl` is above", ""),
        ("backends = []\n[dns]\nttl = \"1m\"", "unknown key `ttl`", "`min_ttl`"),
    ] {
        let views = Files::new().views(&with(text));
        let view = views.iter().find(|view| view.message.contains(message));
        let view = view.unwrap_or_else(|| panic!("{text}: {views:#?}"));
        assert!(view.help.as_deref().unwrap_or_default().contains(help), "{text}: {view:#?}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("\"h{n}.test:80\"")).collect();
    let views = Files::new().views(&with(&format!("backends = [{}]", many.join(", "))));
    assert!(views.iter().any(|view| view.message.contains("65 names of backends are too many")), "{views:#?}");
}

fn named() -> Arc<Config> {
    let text = with(
        "backends = [\"198.51.100.3:80\", { address = \"a.test:80\", weight = 3 }, \"b.test:80\"]\ntls.verify = false\nhealth.type = \"tls\"\n",
    );
    Arc::new(Files::new().parse(&text).unwrap().config)
}

fn ip(last: u8) -> IpAddr {
    [198, 51, 100, last].into()
}

#[test]
fn a_backend_is_verified_by_the_name_that_found_it() {
    let mut resolved = Resolved::default();
    let now = Instant::now();
    resolved.hear("a.test", [ip(3), ip(4)].into(), now);
    resolved.hear("b.test", [ip(4), ip(5)].into(), now);
    let file = named();
    let config = file.with_resolved(&resolved, now);
    let pool = config.pool("api").unwrap();
    let at = |last| SocketAddr::new(ip(last), 80);
    // What the file names itself is the file's; of two names the first has it.
    let names = [3, 4, 5].map(|last| pool.server_name(&at(last)));
    assert_eq!(names, [None, Some("a.test".to_owned()), Some("b.test".to_owned())]);
    assert_eq!([3, 4, 5].map(|last| pool.backends[&at(last)]), [1, 3, 1]);
    let verifies = |last| pool.check_of(&at(last)).unwrap().tls.as_ref().unwrap().server_name.clone();
    assert_eq!([verifies(3), verifies(5)], [None, Some("b.test".to_owned())]);
    // The same again is the same config.
    assert!(Arc::ptr_eq(&config, &config.with_resolved(&resolved, now)));
    let none = config.with_resolved(&Resolved::default(), now);
    assert_eq!(none.pools, file.pools);
}

proptest! {
    #[test]
    fn a_pool_has_what_dns_has_and_what_has_not_drained_yet(
        steps in prop::collection::vec((any::<bool>(), prop::collection::btree_set(1u8..9, 0..6), 0u64..200), 1..20),
    ) {
        let begin = Instant::now();
        let (mut now, mut config, mut resolved) = (begin, named(), Resolved::default());
        // When each address was last one of a name.
        let mut last: std::collections::BTreeMap<u8, Instant> = Default::default();
        let mut current = [BTreeSet::new(), BTreeSet::new()];
        for (second, addresses, seconds) in steps {
            now += Duration::from_secs(seconds);
            let name = usize::from(second);
            for gone in current.iter().flatten() {
                last.insert(*gone, now);
            }
            current[name] = addresses.clone();
            resolved.hear(["a.test", "b.test"][name], addresses.iter().map(|last| ip(*last)).collect(), now);
            resolved.forget(&config, now);
            config = config.with_resolved(&resolved, now);
            let pool = config.pool("api").unwrap();
            for address in 1u8..9 {
                let at = SocketAddr::new(ip(address), 80);
                let has = current.iter().any(|set| set.contains(&address));
                let drains = last.get(&address).is_some_and(|at| now - *at < pool.drain_timeout);
                let fixed = address == 3;
                prop_assert_eq!(pool.backends.contains_key(&at), has || drains || fixed, "{}", address);
                prop_assert_eq!(pool.is_leaving(&at), drains && !has && !fixed, "{}", address);
                prop_assert_eq!(pool.is_fixed(&at), fixed);
            }
        }
    }
}
