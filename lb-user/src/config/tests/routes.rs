//! Routes: what is read, and what is said of what cannot be.

use super::*;
use tls_worker::api::{
    ClientCertField, Condition, EdgeAnswer, FieldMatch, HeaderChange, PathChange, Subject, TextMatch,
};

const ROUTES: &str = r#"
[edge]
datapath = "sockets"

[certificate.web]
chain = "web.pem"
key = "web.key"

[service.http]
addresses = ["127.0.0.1:80"]
mode = "http"
redirect_https = { code = 301, port = 8443 }

[service.web]
addresses = ["127.0.0.1:443"]
mode = "https"
certificates = ["web"]
client_cert = { mode = "optional", ca = "web.pem" }

[[service.web.routes]]
name = "first"
hosts = ["a.test"]
path = "/shop"
methods = ["GET", "POST"]
headers = { "X-A" = "1", "x-gone" = { present = false } }
query = { v = { prefix = "2" } }
clients = ["10.0.0.0/8", "2001:db8::1"]
client_cert = { subject = { contains = "OU=A" } }
any = [{ cookies = { c = ["1", "2"] } }, { not = { path_regex = '^/x\d$', methods = ["PUT"] } }]
pools = { one = 9, two = 1 }
mirror = { pool = "two", percent = 10, max_body = "1KiB", max_in_flight = 3, timeout = "1s" }
rewrite = { host = "b.test:8080", path_prefix = "/v1", cookies = false }
request_headers = { set = { "x-ip" = "${client.ip}" }, remove = ["x-c"] }
response_headers.add = { "x-by" = "${backend}" }
timeout = "3s"
response_timeout = "1s"
max_body = "2MiB"

[[service.web.routes]]
name = "second"
priority = 7
path_exact = "/old"
redirect = "https://new.test${request.uri}"

[[service.web.routes]]
name = "third"
path = "/down"
respond = { status = 503, body = "later" }

[[service.web.routes]]
name = "fourth"
pool = "one"

[pool.one]
backends = ["127.0.0.1:1"]

[pool.two]
backends = ["127.0.0.1:2"]
"#;

#[test]
fn routes_are_read_whole() {
    let Loaded { config, warnings } = Files::new().parse(ROUTES).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.views(), []);
    let [http, web] = &config.services[..] else { panic!("{:?}", config.services) };
    let Some(EdgeAnswer::Redirect(https)) = &http.routes[0].answer else { panic!("{:?}", http.routes) };
    assert_eq!((https.scheme.as_deref(), https.port, https.code), (Some("https"), Some(8443), 301));
    let names: Vec<_> = web.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["second", "first", "third", "fourth"]);
    let first = &web.routes[1];
    assert_eq!(first.headers, [FieldMatch { name: "x-a".into(), is: TextMatch::Exact("1".into()) }]);
    assert_eq!(first.query, [FieldMatch { name: "v".into(), is: TextMatch::Prefix("2".into()) }]);
    let value = |of, is| Condition::Value { of, is };
    let not = |one| Condition::Not(Box::new(one));
    let cookie = |text: &str| value(Subject::Cookie("c".into()), TextMatch::Exact(text.into()));
    let cert = |field, is| value(Subject::ClientCert(field), is);
    let inner = Condition::All(vec![
        Condition::Path(PathMatch::Regex(r"^/x\d$".into())),
        Condition::Method(vec!["PUT".into()]),
    ]);
    let when = Condition::All(vec![
        not(value(Subject::Header("x-gone".into()), TextMatch::Present)),
        Condition::Client(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()]),
        cert(ClientCertField::Verify, TextMatch::Exact("SUCCESS".into())),
        cert(ClientCertField::Subject, TextMatch::Contains("OU=A".into())),
        Condition::Any(vec![Condition::Any(vec![cookie("1"), cookie("2")]), not(inner)]),
    ]);
    assert_eq!(first.when, Some(when));
    assert_eq!(first.split.iter().map(|share| (share.pool, share.weight)).collect::<Vec<_>>(), [(0, 9), (1, 1)]);
    let mirror = first.mirror.as_ref().unwrap();
    assert_eq!((mirror.pool, mirror.percent, mirror.max_body, mirror.max_in_flight), (1, 10, 1024, 3));
    assert_eq!(first.rewrite.path, Some(PathChange::Prefix("/v1".into())));
    assert!(first.rewrite.keep_cookies && !first.rewrite.keep_locations);
    assert_eq!(first.request_headers[0].change, HeaderChange::Remove);
    assert_eq!(first.request_headers[1].change, HeaderChange::Set("${client.ip}".into()));
    assert_eq!(first.max_body, Some(2 << 20));
    assert_eq!((first.timeout, first.response_timeout), (Some(Duration::from_secs(3)), Some(Duration::from_secs(1))));
}

#[test]
fn each_mistake_in_a_route_has_its_place_and_what_to_write() {
    let files = Files::new();
    let fourth = "name = \"fourth\"";
    let add = |text: &str| format!("{fourth}\n{text}");
    // (text, what stands instead, offending text, part of message, part of help)
    let table = [
        ("'^/x\\d$'", "'^/x(\\d$'".to_owned(), "(", "unclosed group", "single quotes"),
        ("'^/x\\d$'", "'^/(?=x)'".to_owned(), "(?=", "look-around", "look-around"),
        ("${client.ip}", "${client.pi}".to_owned(), "client.pi", "no variable", "client.ip"),
        ("${client.ip}", "${backend}".to_owned(), "${backend}", "none of yet", "the request"),
        ("{ \"x-ip\"", "{ \"host\"".to_owned(), "host", "cannot be changed", "remove"),
        ("{ \"x-ip\"", "{ \"X-Forwarded-For\"".to_owned(), "X-Forwarded-For", "own word", "remove"),
        ("one = 9, two = 1", "one = 0, two = 0".to_owned(), "{ one", "no pool has a share", "not all"),
        ("one = 9, two = 1", "one = 9, tow = 1".to_owned(), "tow", "no pool \"tow\"", "\"two\""),
        ("{ pool = \"two\"", "{ pool = \"three\"".to_owned(), "three", "no pool \"three\"", "two"),
        ("path_prefix = \"/v1\"", "path_prefix = \"v1\"".to_owned(), "v1", "no path", "\"/v1\""),
        (
            "path_exact = \"/old\"",
            "path_exact = \"/old\"\npool = \"one\"".to_owned(),
            "https://new",
            "no `redirect`",
            "keep one",
        ),
        ("path_exact = \"/old\"", "path_exact = \"/old\"\ntimeout = \"1s\"".to_owned(), "1s", "for backends", "remove"),
        (
            "path_exact = \"/old\"",
            "path_exact = \"/old\"\npath = \"/x\"".to_owned(),
            "/old",
            "does not go with `path`",
            "keep one",
        ),
        ("https://new.test$", "new.test$".to_owned(), "new.test", "no address", "https://"),
        ("status = 503", "status = 204".to_owned(), "later", "has no body", "another status"),
        ("code = 301", "code = 305".to_owned(), "305", "no code of redirects", "308"),
        ("clients = [\"10.0.0.0/8\"", "clients = [\"10.0.0.0/33\"".to_owned(), "10.0.0.0/33", "", ""),
        ("methods = [\"GET\"", "methods = [\"get\"".to_owned(), "get", "no method", "capital"),
        (
            "timeout = \"3s\"",
            "client_cert_headers = { x-ip = \"pem\" }".to_owned(),
            "{ set",
            "sets \"x-ip\" already",
            "another name",
        ),
        (fourth, add("not = {}"), "{}", "asks nothing", "name a path"),
        (fourth, add("any = []"), "[]", "no request is so", "remove `any`"),
        (
            fourth,
            add("headers = { x = { exact = \"1\", prefix = \"2\" } }"),
            "2",
            "does not go with `exact`",
            "keep one",
        ),
        (fourth, add("headers = { x = 1 }"), "1", "not understood", "\"text\""),
        (fourth, add("priority = 7\nhosts = [\"b.test\"]"), "fourth", "priority 7 stands here twice", "highest"),
        (fourth, add("path_regex = '^/down/x'"), "fourth", "takes no request: \"third\"", "`priority`"),
        (
            fourth,
            add(
                "path = \"/down\"\nmethods = [\"GET\"]\npriority = 1\npool = \"one\"\n[[service.web.routes]]\nname = \"x\"\npath = \"/down/y\"\nmethods = [\"GET\"]",
            ),
            "x",
            "takes no request: \"fourth\"",
            "ask more",
        ),
    ];
    for (good, bad, text, message, help) in table {
        assert_eq!(ROUTES.matches(good).count(), 1, "the test names one place: {good}");
        let view = files.only(&ROUTES.replace(good, &bad));
        assert!(view.text.contains(text), "{bad}: {view:#?}");
        assert!(view.message.contains(message), "{bad}: {view:#?}");
        assert!(view.help.as_deref().unwrap_or_default().contains(help), "{bad}: {view:#?}");
    }
}

#[test]
fn what_a_service_cannot_have_is_told() {
    let files = Files::new();
    let https = |text: &str| ROUTES.replace("mode = \"http\"\nredirect_https = { code = 301, port = 8443 }", text);
    let both = files.only(&https("mode = \"http\"\nredirect_https = true\npool = \"one\""));
    assert!(both.message.contains("sent to HTTPS"), "{both:#?}");
    let word = files.only(&https("mode = \"http\"\nredirect_https = 301"));
    assert!(word.help.unwrap().contains("{ code = 301"), "{}", word.message);
    let asked = files.only(&ROUTES.replace("client_cert = { mode = \"optional\", ca = \"web.pem\" }\n", ""));
    assert!(asked.message.contains("asks no client for a certificate"), "{asked:#?}");
    let stream = "[service.s]\naddresses = [\"127.0.0.1:99\"]\nmode = \"passthrough\"\n[[service.s.routes]]\npool = \"one\"\nmirror = { pool = \"two\" }\n[pool.one]\nbackends = []\n[pool.two]\nbackends = []\n";
    let views = files.views(&format!("[edge]\ndatapath = \"sockets\"\n{stream}"));
    assert!(views.iter().any(|v| v.message.contains("`mirror` belongs to modes \"http\" and \"https\"")), "{views:#?}");
    let deep = (0..9).fold("{ path = \"/x\" }".to_owned(), |inner, _| format!("{{ not = {inner} }}"));
    let deep = files.views(&ROUTES.replace("name = \"fourth\"", &format!("name = \"fourth\"\nnot = {deep}")));
    assert!(deep.iter().any(|view| view.message.contains("nest too deep")), "{deep:#?}");
}

/// The operator's guide shows routes that work: each example is taken as it stands there.
#[test]
fn the_guides_examples_are_good() {
    let guide = include_str!("../../../../docs/operating.md");
    let section = guide.split("\n## Routes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let examples: Vec<&str> =
        section.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 7, "{} examples", examples.len());
    let files = Files::new();
    let ca = crate::cert::testing::Authority::root("ca");
    let pem = crate::cert::blocks::to_pem("CERTIFICATE", &crate::cert::testing::der(&ca.certificate));
    std::fs::write(files.0.path().join("ca.pem"), pem.as_bytes()).unwrap();
    for example in examples {
        let mut text = String::from("[edge]\ndatapath = \"sockets\"\n");
        for pool in ["acme", "stable", "canary", "shadow", "shop", "users", "admin"] {
            text += &format!("[pool.{pool}]\nbackends = [\"127.0.0.1:1\"]\n");
        }
        text += "[certificate.web]\nchain = \"web.pem\"\nkey = \"web.key\"\n[service.web]\naddresses = [\"192.0.2.10:443\"]\n\
                 mode = \"https\"\ncertificates = [\"web\"]\npool = \"stable\"\n\
                 client_cert = { mode = \"optional\", ca = \"ca.pem\" }\n";
        let loaded = files.parse(&(text + example)).unwrap_or_else(|e| panic!("{example}\n{e}"));
        let other: Vec<_> = loaded.warnings.views();
        let other = other.into_iter().filter(|view| !view.message.contains("used by no service"));
        assert_eq!(other.collect::<Vec<_>>(), [], "{example}");
    }
}
