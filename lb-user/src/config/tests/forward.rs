//! Forwarded services and the shield: what is read, and what is said of what cannot be.

use super::*;
use crate::datapath::{ForwardHash, ForwardMode, Protocol, Rate, SynCookies, Tuning};

const L4: &str = r#"
[edge]
name = "front"
interfaces = ["eth0"]
max_addresses = 4000
max_backends = 8
max_flows = 2048
max_sources = 4096
max_prefixes = 100
hash_seed = "anycast"
ipip_source_v4 = "198.19.0.0/24"
ipip_source_v6 = "100::/96"
events_per_second = 0
icmp_per_second = 5

[shield]
deny = ["192.0.2.0/24", "2001:db8:1::/48"]
allow = ["192.0.2.7"]
deny_files = ["deny.txt"]

[service.dns]
mode = "l4"
addresses = ["198.51.100.53:53", "[2001:db8::53]:53"]
protocols = ["udp", "tcp"]
pool = "dns"
forward = "nat"
hash = "source"
table_size = 251
drain = "5m"
udp_idle = "30s"

[service.dns.shield]
deny = ["203.0.113.9"]
source_packets = { rate = 10000, burst = 20000 }
connections = 50
source_prefix_v4 = 24
source_prefix_v6 = 56

[service.games]
mode = "l4"
addresses = ["198.51.100.54:1000-2000", "198.51.100.55:*"]
protocols = ["udp"]
pool = "games"
forward = "ipip"
outer_mtu = 1400

[service.web]
mode = "http"
addresses = ["198.51.100.55:80"]
pool = "web"

[service.web.shield]
syn_flood = { on = 100, off = 50, hold = "1s" }

[pool.dns]
backends = ["10.0.0.1:53", "[fd00::1]:53"]

[pool.games]
backends = ["10.0.0.2:1", "10.0.0.3:1"]

[pool.web]
backends = ["10.0.0.4:80"]
"#;

fn files() -> Files {
    let files = Files::new();
    std::fs::write(files.0.path().join("deny.txt"), "# theirs\n10.9.0.0/16\n192.0.2.0/24 # again\n").unwrap();
    files
}

#[test]
fn every_key_has_its_place() {
    let Loaded { config, warnings } = files().parse(L4).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.views(), []);
    let tuning = &config.edge.tuning;
    assert_eq!((tuning.max_backends, tuning.max_flows, tuning.max_sources, tuning.max_prefixes), (8, 2048, 4096, 100));
    assert_eq!((tuning.outer_v4.to_string(), tuning.outer_v6.to_string()), ("198.19.0.0/24".into(), "100::/96".into()));
    assert_eq!((tuning.events_per_second, tuning.icmp_per_second), (0, 5));
    let dns = &config.forwards[0];
    assert_eq!((dns.mode, dns.hash, dns.slots), (ForwardMode::Nat, ForwardHash::Source, 251));
    assert_eq!(dns.protocols, [Protocol::Tcp, Protocol::Udp]);
    assert_eq!((dns.drain, dns.udp_idle), (Duration::from_secs(300), Duration::from_secs(30)));
    assert_eq!(config.pools[dns.pool].name, "dns");
    let games = &config.forwards[1];
    assert_eq!((games.hash, games.slots, games.outer_mtu), (ForwardHash::Flow, 65_537, Some(1400)));
    let limits = &config.limits["dns"];
    assert_eq!(limits.source_packets, Some(Rate { per_second: 10_000, burst: 20_000 }));
    assert_eq!(limits.connections, Some(Rate { per_second: 50, burst: 50 }));
    assert_eq!((limits.source_v4, limits.source_v6, limits.syn_cookies), (24, 56, SynCookies::Never));
    assert!(!config.limits.contains_key("games"));
    let flood = SynCookies::Auto { on: 100, off: 50, hold: Duration::from_secs(1) };
    assert_eq!(config.limits["web"].syn_cookies, flood);
    let rules = |service: Option<&str>| {
        let rules = &config.prefixes[&service.map(str::to_owned)];
        rules.iter().map(|(network, allow)| format!("{network} {allow}")).collect::<Vec<_>>()
    };
    assert_eq!(rules(None), ["10.9.0.0/16 false", "192.0.2.0/24 false", "192.0.2.7/32 true", "2001:db8:1::/48 false"]);
    assert_eq!(rules(Some("dns")), ["203.0.113.9/32 false"]);
}

#[test]
fn the_defaults_of_forwarding_are_those_of_the_docs() {
    let keys =
        ["max_backends", "max_flows", "max_sources", "max_prefixes", "hash_seed", "ipip", "events_per", "icmp_per"];
    let plain: String = L4
        .lines()
        .filter(|line| !keys.iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    let read = |text: &str| files().parse(text).unwrap_or_else(|e| panic!("{e}")).config;
    let tuning = read(&plain).edge.tuning;
    assert_eq!(tuning, Tuning { hash_seed: tuning.hash_seed, ..Tuning::default() });
    assert_ne!(tuning.hash_seed, read(&plain.replace("name = \"front\"", "name = \"other\"")).edge.tuning.hash_seed);
    assert_eq!(tuning.hash_seed, read(&plain).edge.tuning.hash_seed);
    let web = read(&plain.replace("syn_flood", "# ")).limits["web"];
    assert_eq!(web.syn_cookies, SynCookies::Auto { on: 20_000, off: 10_000, hold: Duration::from_secs(10) });
}

#[test]
fn each_mistake_of_forwarding_is_told() {
    let files = files();
    std::fs::write(files.0.path().join("bad.txt"), "10.0.0.0/8\nnobody\n").unwrap();
    // (text, what stands instead, part of message, part of help)
    let table = [
        ("forward = \"nat\"", "forward = \"nta\"", "none of", "\"nat\""),
        ("forward = \"nat\"\n", "", "lacks the key `forward`", "\"ipip\""),
        ("table_size = 251", "table_size = 250", "no prime", "251"),
        ("table_size = 251", "table_size = 2", "out of bounds", "3 to 1048573"),
        ("drain = \"5m\"", "drain = \"25h\"", "out of bounds", "86400s"),
        ("drain = \"5m\"", "darin = \"5m\"", "unknown key", "`drain`"),
        ("drain = \"5m\"", "timeouts.idle = \"5s\"", "`timeouts` belongs to modes", "remove `timeouts`"),
        ("drain = \"5m\"", "max_connections = 5", "`max_connections` belongs to modes", "without a look"),
        ("drain = \"5m\"", "outer_mtu = 1400", "belongs to forward = \"ipip\"", "remove it"),
        ("outer_mtu = 1400", "outer_mtu = 600\naddresses = []", "duplicate", "one of the two"),
        ("hash = \"source\"", "hash = \"src\"", "none of", "\"source\""),
        ("[\"udp\", \"tcp\"]", "[\"udp\", \"sctp\"]", "no protocol", "\"udp\""),
        ("[\"udp\", \"tcp\"]", "[]", "at least one protocol", "[\"tcp\"]"),
        (":1000-2000", ":2000-1000", "no range of ports", "lower one first"),
        ("198.51.100.54:1000-2000", "198.51.100.53:50-60", "198.51.100.53 port 53 belongs", "protocol"),
        ("198.51.100.54:1000-2000", "198.51.100.54:1-9\", \"198.51.100.54:9", "port 9 stands twice", "remove one"),
        ("max_addresses = 4000", "max_addresses = 10", "over the bound of 10", "`max_addresses`"),
        ("max_backends = 8", "max_backends = 3", "over the bound of 3", "`max_backends`"),
        ("max_prefixes = 100", "max_prefixes = 1", "over the bound of 1", "`max_prefixes`"),
        ("max_flows = 2048", "max_flows = 1", "out of bounds", "1024"),
        ("198.19.0.0/24", "100::/64", "no IPv4 network", "198.18.0.0/16"),
        ("\"[2001:db8::53]:53\"]", "\"[2001:db8::53]:54\"]", "same ports", "without memory"),
        ("\"[2001:db8::53]:53\"]", "\"198.51.100.99:53\"]", "one address of each family", "service of its own"),
        ("\"10.0.0.1:53\"", "\"198.51.100.53:99\"", "has an address of service \"dns\"", "own address"),
        ("\"10.0.0.2:1\"", "\"10.0.0.3:2\"", "are one host", "once"),
        ("outer_mtu = 1400", "outer_mtu = 595", "out of bounds", "596"),
        ("source_prefix_v4 = 24", "source_prefix_v4 = 23", "out of bounds", "24 to 32"),
        ("source_prefix_v4 = 24", "syn_cookies = \"always\"", "cannot be had with mode \"l4\"", "ends no TCP"),
        ("connections = 50", "connections = 0", "out of bounds", "1 to 1000000000"),
        ("connections = 50", "connections = { burst = 1 }", "lacks the key `rate`", "rate = 10000"),
        ("syn_flood = { on = 100", "syn_flood = { on = 40", "would end above", "not above"),
        ("syn_flood =", "syn_cookies = \"never\"\nsyn_flood =", "belongs to syn_cookies", "remove `syn_flood`"),
        (
            "pool = \"web\"",
            "pool = \"web\"\nudp_idle = \"5s\"",
            "`udp_idle` belongs to mode \"l4\"",
            "remove `udp_idle`",
        ),
        ("allow = [\"192.0.2.7\"]", "allow = [\"192.0.2.7/24\"]", "bits of a host", "192.0.2.0/24"),
        ("allow = [\"192.0.2.7\"]", "allow = [\"10.9.0.0/16\"]", "is denied and allowed", "longer prefix"),
        ("\"deny.txt\"", "\"bad.txt\"", "bad.txt:2: \"nobody\" is no network", "prefix a line"),
        ("\"deny.txt\"", "\"gone.txt\"", "cannot read \"gone.txt\"", "relative"),
    ];
    for (good, bad, message, help) in table {
        assert_eq!(L4.matches(good).count(), 1, "the test names one place: {good}");
        let views = files.views(&L4.replace(good, bad));
        let told = views.iter().any(|view| {
            (view.message.contains(message) && view.help.as_deref().unwrap_or_default().contains(help)) && view.line > 0
        });
        assert!(told, "{bad}: {views:#?}");
        assert!(views.iter().all(|view| view.severity == Severity::Error), "{bad}: {views:#?}");
    }
}

#[test]
fn two_nat_services_never_share_a_backends_port() {
    let more = |port: u16, protocols: &str| {
        let service =
            "\n[service.more]\nmode = \"l4\"\naddresses = [\"198.51.100.60:5\"]\nforward = \"nat\"\npool = \"more\"";
        format!("{L4}{service}\nprotocols = [\"{protocols}\"]\n[pool.more]\nbackends = [\"10.0.0.1:{port}\"]\n")
    };
    let view = files().only(&more(53, "udp"));
    assert!(view.message.contains("\"dns\" and \"more\"") && view.message.contains("(udp)"), "{view:?}");
    assert_eq!(files().views(&more(54, "udp")), []);
}

#[test]
fn families_without_a_backend_are_warned_of() {
    let text = L4.replace(", \"[fd00::1]:53\"]", "]");
    let view = files().only(&text);
    assert_eq!(view.severity, Severity::Warning);
    assert!(view.message.contains("IPv6 address") && view.help.unwrap().contains("no_backend"));
    // The other way round nothing could be translated.
    let view = files().only(&L4.replace(", \"[2001:db8::53]:53\"]", "]"));
    assert!(view.message.contains("of no family") && view.severity == Severity::Error);
}

#[test]
fn an_outer_packet_holds_the_least_that_hosts_send() {
    let with = |mtu: u32, address: &str| {
        let text =
            L4.replace("198.51.100.54:1000-2000", address).replace("outer_mtu = 1400", &format!("outer_mtu = {mtu}"));
        files().views(&text).into_iter().filter(|view| view.severity == Severity::Error).count()
    };
    assert_eq!(
        (with(596, "198.51.100.54:5"), with(1319, "[2001:db8::54]:5"), with(1320, "[2001:db8::54]:5")),
        (0, 1, 0)
    );
}

#[test]
fn without_xdp_nothing_is_forwarded_or_filtered() {
    let text = L4.replace("interfaces = [\"eth0\"]", "datapath = \"sockets\"");
    let views = files().views(&text);
    for part in
        ["mode \"l4\" needs XDP", "[shield] needs XDP", "[service.web.shield] needs XDP", "`max_flows` is not used"]
    {
        assert!(views.iter().any(|view| view.message.contains(part)), "{part}: {views:#?}");
    }
}
