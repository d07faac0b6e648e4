//! Configs good and bad: what is read, and what is said of what cannot be.

mod access_log;
mod authorizer;
mod clients;
mod forward;
mod health;
mod limits;
mod names;
mod persistence;
mod pool;
mod refresh;
mod routes;
mod tls;

use super::*;
use crate::admin::SocketAccess;
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};
use tls_worker::api::{Mode, PathMatch, TlsVersion};

/// A directory with a certificate, its key, and another key.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["www.example.com".into(), "*.example.org".into()]).unwrap();
        std::fs::write(dir.path().join("web.pem"), made.cert.pem()).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (name, text) in [("web.key", made.signing_key.serialize_pem()), ("other.key", other)] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path, mode).unwrap();
        }
        Self(dir)
    }

    fn parse(&self, text: &str) -> Result<Loaded, LoadError> {
        parse(text, &self.0.path().join("edge.toml"), &host())
    }

    /// Problems of a text that is refused or taken.
    fn views(&self, text: &str) -> Vec<ProblemView> {
        match self.parse(text) {
            Ok(loaded) => loaded.warnings.views(),
            Err(LoadError::Invalid(problems)) => problems.views(),
            Err(e) => panic!("{e}"),
        }
    }

    /// The one problem of a text.
    fn only(&self, text: &str) -> ProblemView {
        let views = self.views(text);
        assert_eq!(views.len(), 1, "{views:#?}");
        views.into_iter().next().unwrap()
    }
}

fn host() -> Host {
    Host {
        now: UNIX_EPOCH + Duration::from_secs(1_750_000_000),
        interfaces: vec!["eth0".into(), "eth1".into(), "lo".into()],
        cpus: vec![0, 1],
        open_files: 1_048_576,
        user_exists: |name| name == "bailey",
        group_exists: |name| name == "bailey",
        state_directory: None,
    }
}

const GOOD: &str = r#"
[edge]
name = "front"
datapath = "native"
interfaces = ["eth0", "eth1"]
steering = "hash"
cpus = [1]
user = "bailey"
worker_binary = "bin/bailey-worker"
max_services = 16
max_addresses = 32
max_health_checks = 500
log = "info,lb_user=debug"
packet_log_sample = 100

[admin]
socket = "admin.sock"
metrics = "127.0.0.1:9100"

[certificate.web]
chain = "web.pem"
key = "web.key"

[service.web]
addresses = ["192.0.2.1:443", "[2001:db8::1]:443", "192.0.2.2:*", "192.0.2.2:8443"]
mode = "https"
certificates = ["web"]
min_tls = "1.3"
http2 = false
pool = "app"
served_by_header = "X-Served-By"
max_connections = 1000
timeouts.handshake = "5s"
timeouts.header = "6s"
timeouts.idle = "1m"

[[service.web.routes]]
name = "api"
hosts = ["www.example.com"]
path = "/api/"
pool = "api"

[service.plain]
addresses = ["192.0.2.1:80"]
mode = "http"
pool = "app"

[pool.app]
backends = ["198.51.100.1:8080", { address = "198.51.100.2:8080", weight = 3 }]
balance = "least_connections"
max_idle = 8
timeouts.connect = "1s"
timeouts.response = "2s"
timeouts.idle = "3s"
timeouts.keepalive = "4s"
tls.ca = "web.pem"
tls.server_name = "www.example.com"
tls.verify = true

[pool.app.health]
type = "http"
path = "/health?full=1"
host = "www.example.com"
codes = [200, "300-399"]
interval = "1s"
timeout = "500ms"
rise = 2
fall = 5

[pool.api]
backends = ["198.51.100.3:8080"]
health.type = "tcp"
"#;

#[test]
fn a_good_config_is_taken_whole() {
    let files = Files::new();
    let Loaded { config, warnings } = files.parse(GOOD).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.views(), []);
    assert_eq!(config.edge.cpus, [1]);
    assert_eq!(config.edge.worker_binary.as_deref(), Some(&*files.0.path().join("bin/bailey-worker")));
    assert_eq!(config.certificates[0].certificate.names, ["www.example.com", "*.example.org"]);
    let web = &config.services[0];
    assert_eq!((web.name.as_str(), web.mode), ("web", Mode::Https));
    assert_eq!(web.tls.as_ref().unwrap().policies[0].protocol.min_version, TlsVersion::V13);
    assert_eq!(web.routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["api", DEFAULT_ROUTE]);
    assert_eq!(web.routes[0].path, PathMatch::Prefix("/api".into()));
    assert_eq!(config.pools[web.routes[0].pool].name, "api");
    let app = config.pool("app").unwrap();
    assert_eq!(app.backends.values().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(app.tls.as_ref().unwrap().roots.len(), 1);
    let health = app.health.as_ref().unwrap();
    assert_eq!((health.rise, health.fall, health.timeout), (2, 5, Duration::from_millis(500)));
    assert!(matches!(&health.probe, Probe::Http(http) if http.codes == [(200, 200), (300, 399)]));
}

#[test]
fn the_defaults_are_those_of_the_docs() {
    let text = "[edge]\ndatapath = \"sockets\"\n[service.s]\naddresses = [\"127.0.0.1:8080\"]\nmode = \"http\"\npool = \"p\"\n[pool.p]\nbackends = [\"127.0.0.1:1\"]\nhealth.type = \"http\"\n";
    let Loaded { config, warnings } = Files::new().parse(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.views(), []);
    assert_eq!(config.edge.name, "edge");
    assert_eq!(config.edge.cpus, [0, 1]);
    assert_eq!((config.edge.max_services, config.edge.max_addresses), (1024, 16384));
    assert_eq!(config.edge.max_health_checks, 1024);
    let admin = Admin {
        socket: "/run/bailey/admin.sock".into(),
        access: SocketAccess { group: None, mode: 0o660 },
        read_only: None,
        max_connections: 32,
        metrics: None,
    };
    assert_eq!(config.admin, admin);
    let service = &config.services[0];
    assert_eq!(service.timeouts.idle, Duration::from_secs(180));
    assert_eq!(service.max_connections_per_thread, 65536);
    let pool = &config.pools[0];
    assert_eq!((pool.max_idle, pool.timeouts.response), (64, Duration::from_secs(60)));
    let health = pool.health.as_ref().unwrap();
    assert_eq!((health.interval, health.timeout), (Duration::from_secs(5), Duration::from_secs(2)));
    assert_eq!((health.rise, health.fall), (1, 3));
    assert!(matches!(&health.probe, Probe::Http(http) if *http == HttpProbe::default()));
}

#[test]
fn each_mistake_has_its_place_and_what_to_write() {
    let files = Files::new();
    // (text, what stands instead, offending text, part of message, part of help)
    let table = [
        ("pool = \"api\"", "pol = \"api\"", "pol", "unknown key `pol` in route 1", "`pool`"),
        ("mode = \"https\"", "mode = \"htps\"", "htps", "none of", "\"https\""),
        ("mode = \"https\"", "mode = 1", "1", "must be a string", "in quotes"),
        ("timeouts.header = \"6s\"", "timeouts.header = 6", "6", "needs a unit", "\"6s\""),
        ("timeouts.header = \"6s\"", "timeouts.header = \"six\"", "six", "no duration", "\"5s\""),
        ("timeouts.header = \"6s\"", "timeouts.header = \"25h\"", "25h", "out of bounds", "86400s"),
        ("[\"web\"]\nmin", "[\"wen\"]\nmin", "wen", "no certificate \"wen\"", "did you mean \"web\"?"),
        ("192.0.2.1:80\"", "192.0.2.1\"", "192.0.2.1", "no IP address with a port", "192.0.2.1:443"),
        ("192.0.2.1:80\"", "192.0.2.1:443\"", "192.0.2.1:443", "service \"web\" already", "one service"),
        ("192.0.2.1:80\"", "192.0.2.2:*\"", "192.0.2.2:*", "port * belongs to", "one service"),
        ("192.0.2.1:80\"", "0.0.0.0:80\"", "0.0.0.0:80", "unspecified", "clients connect"),
        ("192.0.2.1:80\"", "127.0.0.1:9100\"", "127.0.0.1:9100", "[admin] metrics", "another port"),
        ("\"eth1\"]", "\"eht1\"]", "eht1", "does not exist", "\"eth1\""),
        ("cpus = [1]", "cpus = [7]", "7", "may not run on CPU 7", "0, 1"),
        ("user = \"bailey\"", "user = \"nobodyy\"", "nobodyy", "no user", "useradd"),
        ("log = \"info,", "log = \"info,=,", "info,=,lb_user=debug", "no log filter", "\"info\""),
        ("weight = 3", "weight = 0", "0", "out of bounds", "1 to 256"),
        ("weight = 3", "weigth = 3", "weigth", "unknown key", "`weight`"),
        ("rise = 2", "rise = \"2\"", "2", "whole number", "without quotes"),
        ("http2 = false", "http2 = \"false\"", "false", "true or false", "without quotes"),
        ("path = \"/api/\"", "path = \"api\"", "api", "no path", "\"/api\""),
        ("\"300-399\"", "\"300-900\"", "300-900", "no status code", "200-299"),
        ("key = \"web.key\"", "key = \"wbe.key\"", "wbe.key", "cannot read", "there is no"),
        ("key = \"web.key\"", "key = \"other.key\"", "other.key", "does not belong", "one renewal"),
        ("key = \"web.key\"", "key = \"web.pem\"", "web.pem", "no private key", "PRIVATE KEY"),
        ("chain = \"web.pem\"", "chain = \"web.key\"", "web.key", "no certificate", "BEGIN CERTIFICATE"),
        ("tls.verify = true", "tls.verify = false", "false", "not verified", "`ca`"),
        ("name = \"front\"", "name = \"a.b\"", "a.b", "edge's name", "letters"),
        ("\"192.0.2.1:80\"", "\"www.example.com:80\"", "www.example.com:80", "no IP", "not looked up"),
        ("pool = \"app\"\n\n[pool", "\n[pool", "plain", "lacks the key `pool`", "pool = \"NAME\""),
        ("name = \"api\"\n", "name = \"default\"\n", "default", "route's name", "another one"),
        ("198.51.100.1:8080\", {", "198.51.100.2:8080\", {", "198.51.100.2:8080", "twice", "weight"),
        ("[pool.api]\n", "[pool.api]\n[edge]\n", "[edge]", "redefinition", "one table"),
        ("rise = 2", "rise = two", "two", "quoted string", "quotes"),
    ];
    for (good, bad, text, message, help) in table {
        assert_eq!(GOOD.matches(good).count(), 1, "the test names one place: {good}");
        let mutated = GOOD.replace(good, bad);
        let view = files.only(&mutated);
        let expected_line = 1 + GOOD[..GOOD.find(good).unwrap()].matches('\n').count();
        let lines = expected_line..=expected_line + 2;
        let place = view.column > 0 && (lines.contains(&view.line) || text == "plain" || text == "198.51.100.2:8080");
        assert!(place, "{bad}: {view:#?}, expected near line {expected_line}");
        assert!(view.text.contains(text), "{bad}: {view:#?}");
        assert!(view.message.contains(message), "{bad}: {view:#?}");
        assert!(view.help.as_deref().unwrap_or_default().contains(help), "{bad}: {view:#?}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let text = "[edge]\ndatapath = \"sockets\"\nintrfaces = []\n\n[service.web]\naddresses = [\"10.0.0.1:http\"]\nmode = \"https\"\npool = \"wbe\"\n\n[pool.web]\nbackends = [5]\n";
    let views = Files::new().views(text);
    let found: Vec<_> = views.iter().map(|v| (v.line, v.column, v.text.as_str())).collect();
    assert_eq!(
        found,
        [(3, 1, "intrfaces"), (5, 10, "web"), (6, 15, "10.0.0.1:http"), (8, 9, "wbe"), (11, 13, "5")],
        "{views:#?}"
    );
    let rendered = match Files::new().parse(text) {
        Err(LoadError::Invalid(problems)) => problems.render(false),
        other => panic!("{other:?}"),
    };
    for part in ["edge.toml:3:1", "unknown key `intrfaces` in [edge]", "did you mean `interfaces`?", "\"web\"?"] {
        assert!(rendered.contains(part), "{part} is missing in:\n{rendered}");
    }
}

#[test]
fn what_somebody_should_look_at_is_warned_of() {
    let files = Files::new();
    let warned = |text: &str| {
        let loaded = files.parse(text).unwrap_or_else(|e| panic!("{e}"));
        loaded.warnings.views().into_iter().map(|v| v.message).collect::<Vec<_>>().join("\n")
    };
    assert!(warned(&GOOD.replace("pool = \"api\"", "pool = \"app\"")).contains("pool \"api\" is used by no service"));
    assert!(warned(&GOOD.replace("[\"198.51.100.3:8080\"]", "[]")).contains("pool \"api\" has no backend"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(files.0.path().join("web.key"), mode).unwrap();
    assert!(warned(GOOD).contains("can be read by every user"));
    let mut params = rcgen::CertificateParams::new(vec!["old.example.com".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(files.0.path().join("web.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(files.0.path().join("web.key"), key.serialize_pem()).unwrap();
    assert!(warned(GOOD).contains("expired"));
}

/// The config reference and the parser name the same keys.
#[test]
fn the_docs_name_every_key_and_no_other() {
    let docs = include_str!("../../../docs/config.md");
    let mut documented: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    let mut title = "";
    let within = |title: &str, key: &str| format!("{}.{key}]", title.trim_start_matches('[').trim_end_matches(']'));
    for line in docs.lines() {
        if let Some(heading) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            title = heading;
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| title.starts_with('[')) {
            // A row may name several keys of one kind.
            let cell = row.split(" |").next().unwrap();
            for key in format!("`{cell}").split('`').skip(1).step_by(2) {
                let (outer, inner) = key.split_once('.').map_or((key, None), |(outer, inner)| (outer, Some(inner)));
                documented.entry(title.to_owned()).or_default().push(outer.to_owned());
                if let Some(key) = inner {
                    let table = format!("[{}", within(title, outer));
                    documented.entry(table).or_default().push(key.to_owned());
                }
            }
        }
    }
    let headings: Vec<String> = documented.keys().cloned().collect();
    for (title, mut keys) in documented {
        let header = title.replace("NAME", "a");
        // A table of a route stands within one.
        let list = if header.starts_with("[service.a.routes.") { "[[service.a.routes]]\n" } else { "" };
        let views = Files::new().views(&format!("{list}{header}\nzzzz = 1"));
        let Some(unknown) = views.iter().find(|v| v.message.contains("unknown key `zzzz`")) else {
            panic!("the table {title} is documented, and read by nobody: {views:#?}");
        };
        let help = unknown.help.as_deref().unwrap();
        let mut known: Vec<_> = help.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        // Tables within may have just a heading of their own.
        known.retain(|key| {
            let inner = within(&title, key);
            keys.contains(key) || !headings.iter().any(|heading| heading.trim_start_matches('[') == inner)
        });
        for list in [&mut known, &mut keys] {
            list.sort();
            list.dedup();
        }
        assert_eq!(known, keys, "{title}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        if let Err(LoadError::Invalid(problems)) = parse(&text, Path::new("x/edge.toml"), &host()) {
            problems.render(false);
        }
    }

    #[test]
    fn a_mutated_config_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}=\",.#a-zä\n0-9*:]{0,3}", 0usize..6), 1..6)
    ) {
        let mut text = GOOD.to_owned();
        for (at, insert, delete) in edits {
            let mut start = at.index(text.len());
            while !text.is_char_boundary(start) { start -= 1 }
            let mut end = (start + delete).min(text.len());
            while !text.is_char_boundary(end) { end += 1 }
            text.replace_range(start..end, &insert);
        }
        if let Err(LoadError::Invalid(problems)) = parse(&text, Path::new("x/edge.toml"), &host()) {
            prop_assert!(problems.has_errors());
            problems.render(false);
            for view in problems.views() {
                prop_assert!(view.line >= 1 && view.column >= 1);
            }
        }
    }
}
