//! Health checks: what each type says, and what is said of what it cannot say.

use super::*;
use std::net::IpAddr;

fn with(health: &str) -> String {
    let start = GOOD.find("[pool.api]").unwrap();
    format!("{}[pool.api]\nbackends = [\"198.51.100.3:80\"]\n[pool.api.health]\n{health}\n", &GOOD[..start])
}

fn check(health: &str) -> HealthCheck {
    let Loaded { config, .. } = Files::new().parse(&with(health)).unwrap_or_else(|e| panic!("{health}: {e}"));
    HealthCheck::clone(config.pool("api").unwrap().health.as_ref().unwrap())
}

#[test]
fn every_type_says_what_it_asks() {
    for (text, words) in [
        ("type = \"tcp\"", "tcp every 5s, rise 1, fall 3"),
        ("type = \"tls\"\ntls = { verify = false }", "tls every 5s, rise 1, fall 3"),
        (
            "type = \"http\"\nmethod = \"HEAD\"\npath = \"/up\"\nport = 8081\nsource = \"192.0.2.9\"\nreverse = true",
            "http HEAD /up at port 8081 from 192.0.2.9 every 5s, rise 1, fall 3, reversed",
        ),
        ("type = \"https\"\ntls = { verify = false }", "http GET / over TLS every 5s, rise 1, fall 3"),
        ("type = \"text\"\nexpect = \"\"", "text every 5s, rise 1, fall 3"),
        (
            "type = \"text\"\ntransport = \"udp\"\nsend = \"a\"\nexpect = \"b\"",
            "text over UDP every 5s, rise 1, fall 3",
        ),
        ("type = \"dns\"\nquery = \"a.example.\"\nrecord = \"AAAA\"", "dns a.example AAAA every 5s, rise 1, fall 3"),
        ("type = \"icmp\"\naddress = \"192.0.2.1\"", "icmp at 192.0.2.1 every 5s, rise 1, fall 3"),
        (
            "type = \"ldap\"\ninterval = \"2s\"\ndown_interval = \"30s\"",
            "ldap, anonymous every 2s (30s while down), rise 1, fall 3",
        ),
        ("type = \"grpc\"\nservice = \"a.B\"\nrise = 2\nfall = 5", "grpc a.B every 5s, rise 2, fall 5"),
        ("type = \"script\"\ncommand = [\"/bin/true\", \"x\"]", "script /bin/true every 5s, rise 1, fall 3"),
    ] {
        assert_eq!(check(text).words(), words);
    }
}

#[test]
fn keys_have_their_place() {
    let http = check(
        "type = \"http\"\nheaders = { authorization = \"Basic eDp5\", user-agent = \"probe\" }\nbody = \"ok\"\n\
         protocol = \"h2\"\njitter = 0\naddress = \"2001:db8::1\"\nsource = \"2001:db8::2\"",
    );
    let Probe::Http(probe) = &http.probe else { panic!("{http:?}") };
    assert_eq!(probe.headers[0], ("authorization".into(), "Basic eDp5".into()));
    assert_eq!((probe.headers.len(), probe.body.as_deref(), probe.http2, http.jitter), (2, Some("ok"), true, 0));
    assert_eq!(http.source, Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2])));
    assert_eq!(http.destination("10.0.0.1:80".parse().unwrap()), "[2001:db8::1]:80".parse().unwrap());

    let text = check(
        r#"type = "text"
        send = 'PING\r\n\x00\\'
        expect = "+PONG""#,
    );
    let expected = TextProbe { udp: false, send: b"PING\r\n\0\\".to_vec(), expect: b"+PONG".to_vec() };
    assert_eq!(text.probe, Probe::Text(expected));
    let script = check("type = \"script\"\ncommand = \"/bin/true\"\nuser = \"bailey\"");
    assert!(matches!(script.probe, Probe::Script(script) if script.user == "bailey" && script.arguments.is_empty()));
}

#[test]
fn a_check_is_made_as_its_pool_is_met_unless_it_says_otherwise() {
    let of = |pool: &str, health: &str| {
        let start = GOOD.find("[pool.api]").unwrap();
        let pool = format!("[pool.api]\nbackends = [\"198.51.100.3:80\"]\n{pool}\nhealth = {health}\n");
        let text = format!("{}{pool}", &GOOD[..start]);
        let Loaded { config, .. } = Files::new().parse(&text).unwrap_or_else(|e| panic!("{pool}: {e}"));
        HealthCheck::clone(config.pool("api").unwrap().health.as_ref().unwrap())
    };
    let tls = "tls = { verify = false, server_name = \"pool.example\" }";
    let name = |check: HealthCheck| check.tls.and_then(|tls| tls.server_name);
    assert_eq!(name(of(tls, "{ type = \"http\" }")).as_deref(), Some("pool.example"));
    assert_eq!(name(of(tls, "{ type = \"ldap\" }")).as_deref(), Some("pool.example"));
    assert_eq!(of(tls, "{ type = \"http\", tls = false }").tls, None);
    assert_eq!(of(tls, "{ type = \"tcp\" }").tls, None);
    let own = "{ type = \"tls\", tls = { verify = false, server_name = \"own.example\" } }";
    assert_eq!(name(of(tls, own)).as_deref(), Some("own.example"));
    assert!(of("", "{ type = \"https\" }").tls.is_some_and(|tls| tls.verify));
    let h2c = of("protocol = \"h2c\"", "{ type = \"http\" }");
    assert!(matches!(h2c.probe, Probe::Http(http) if http.http2));
}

#[test]
fn each_mistake_of_a_check_is_told_at_its_place() {
    let files = Files::new();
    std::fs::write(files.0.path().join("two.txt"), "a\nb\n").unwrap();
    for (health, span, message, help) in [
        ("type = \"ftp\"", "ftp", "none of \"tcp\"", "write one of"),
        ("interval = \"5s\"", "health", "lacks the key `type`", "type = \"tcp\""),
        (
            "type = \"tcp\"\npath = \"/\"",
            "/",
            "`path` does not belong to checks of type \"tcp\"",
            "\"http\", \"https\"",
        ),
        ("type = \"icmp\"\nport = 1", "1", "`port` does not belong", "remove it"),
        ("type = \"tcp\"\njitter = 60", "60", "out of bounds", "0 to 50"),
        ("type = \"http\"\nmethod = \"HEAD\"\nbody = \"x\"", "x", "HEAD has no body", "GET"),
        ("type = \"http\"\nheaders = { host = \"x\" }", "host", "has a key of its own", "`host`"),
        ("type = \"http\"\nheaders = { a = \"x\\n\" }", "x\\n", "cannot be the value", "one line"),
        ("type = \"text\"", "health", "lacks the key `expect`", "type = \"tcp\""),
        ("type = \"text\"\ntransport = \"udp\"\nexpect = \"\"", "health", "lacks the key `send`", "over UDP"),
        ("type = \"text\"\nexpect = 'a\\q'", "a\\q", "begins nothing", "single quotes"),
        (
            "type = \"text\"\nsend = \"a\"\nexpect = \"\"\ntransport = \"udp\"\ntls = true",
            "true",
            "no TLS over UDP",
            "remove",
        ),
        ("type = \"tls\"\ntls = false", "false", "another check", "type = \"tcp\""),
        ("type = \"dns\"", "health", "lacks the key `query`", "example.com"),
        ("type = \"dns\"\nquery = \"a\"\nrecord = \"Q\"", "Q", "no type of record", "\"A\""),
        ("type = \"dns\"\nquery = \"a..b\"", "a..b", "no DNS name", "example.com"),
        ("type = \"ldap\"\nbind_dn = \"cn=a\"", "cn=a", "without `password_file`", "anonymous"),
        ("type = \"ldap\"\nbind_dn = \"cn=a\"\npassword_file = \"two.txt\"", "two.txt", "not one line", "alone"),
        ("type = \"grpc\"\nservice = \"a b\"", "a b", "no service of gRPC", "package.Service"),
        ("type = \"script\"", "health", "lacks the key `command`", "/usr/local"),
        ("type = \"script\"\ncommand = [\"check\"]", "check", "no absolute path", "no shell"),
        ("type = \"script\"\ncommand = []", "[]", "no program", "absolute"),
        ("type = \"script\"\ncommand = \"/bin/true\"\nuser = \"nobody-here\"", "nobody-here", "no user", "useradd"),
        ("type = \"tcp\"\nsource = \"0.0.0.0\"", "0.0.0.0", "no address of a host", "192.0.2.10"),
        ("type = \"tcp\"\nsource = \"192.0.2.1\"\naddress = \"2001:db8::1\"", "192.0.2.1", "two families", "source"),
    ] {
        let text = with(health);
        let views: Vec<ProblemView> =
            files.views(&text).into_iter().filter(|view| view.severity == Severity::Error).collect();
        assert_eq!(views.len(), 1, "{health}: {views:#?}");
        let said = views[0].help.clone().unwrap_or_default();
        let good = views[0].message.contains(message) && said.contains(help) && views[0].text.contains(span);
        assert!(good, "{health}: {:?}", views[0]);
    }
    let warned = files.only(&with("type = \"script\"\ncommand = \"/nonexistent/check\""));
    assert!(warned.severity == Severity::Warning && warned.message.contains("no program"), "{warned:?}");
}

proptest! {
    #[test]
    fn no_text_of_a_check_makes_it_panic(send in "\\PC{0,20}", query in "\\PC{0,20}") {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let (send, query) = (quote(&send), quote(&query));
        let files = Files::new();
        files.views(&with(&format!("type = \"text\"\nsend = \"{send}\"\nexpect = \"\"")));
        files.views(&with(&format!("type = \"dns\"\nquery = \"{query}\"\nrecord = \"{query}\"")));
    }
}
