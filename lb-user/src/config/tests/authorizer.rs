//! `[authorizer.NAME]`: what is read, and what is said of what cannot be.

use super::*;
use tls_worker::api::{Allow, AuthorizerCache, BodyTest, Deny, TextTest};

const AUTHORIZERS: &str = r#"
[edge]
datapath = "sockets"

[authorizer.mail]
pool = "callout"
host = "callout.asfilter.internal"
path = "/services/ActiveSync/Authorize"
timeout = "3s"
fail = "open"
request_headers = ["X-User"]

[authorizer.mail.query]
user = "${before(base64_decode(after(header('authorization'), 'Basic ')), ':')}"
DeviceId = "${query('DeviceId')}"

[authorizer.mail.allow]
body_equals = "Allow"
body_first = 20

[authorizer.mail.deny]
drop = true

[authorizer.mail.cache]
key = "${header('authorization')} ${query('DeviceId')}"
ttl = "10m"
size = 500

[authorizer.site]
url = "http://127.0.0.1:9/ask"
method = "HEAD"
refusal_headers = []
deny = { redirect = "https://login.test/?${urlencode(request.url)}" }

[service.web]
addresses = ["127.0.0.1:80"]
mode = "http"
authorizer = "site"
pool = "app"

[[service.web.routes]]
name = "mail"
path = "/mail"
authorizer = "mail"
pool = "app"

[[service.web.routes]]
name = "open"
path = "/open"
authorizer = "none"
pool = "app"

[pool.app]
backends = ["127.0.0.1:1"]

[pool.callout]
backends = ["127.0.0.1:2"]
"#;

#[test]
fn what_is_written_is_read() {
    let loaded = Files::new().parse(AUTHORIZERS).unwrap();
    assert_eq!(loaded.warnings.views().len(), 0, "{:?}", loaded.warnings.views());
    let config = loaded.config;
    let [mail, site] = &config.authorizers[..] else { panic!("{:?}", config.authorizers) };
    assert_eq!((mail.pool, mail.host.as_str()), (1, "callout.asfilter.internal"));
    assert_eq!(mail.query.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["user", "DeviceId"]);
    let body = BodyTest { first: 20, test: TextTest::Equals, text: "Allow".into() };
    assert_eq!(mail.allow, Allow { status: vec![], body: Some(body) });
    assert_eq!((&mail.deny, mail.fail_open), (&Deny::Drop, true));
    assert_eq!(
        (&mail.request_headers[..], &mail.refusal_headers[..]),
        (&["x-user".to_owned()][..], &["www-authenticate".to_owned()][..])
    );
    assert_eq!(
        mail.cache,
        Some(AuthorizerCache {
            key: "${header('authorization')} ${query('DeviceId')}".into(),
            ttl: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(5),
            size: 500,
        })
    );
    // A URL is a pool of its own, after those of the file.
    assert_eq!((site.pool, site.host.as_str(), site.path.as_str()), (2, "127.0.0.1:9", "/ask"));
    assert_eq!(config.pools[2].name, "authorizer.site");
    assert_eq!(config.pools[2].backends.keys().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:9"]);
    assert!(matches!(&site.deny, Deny::Redirect { status: 302, .. }));
    assert!(!site.fail_open);
    let of = |name: &str| config.services[0].routes.iter().find(|r| r.name == name).unwrap().authorizer;
    assert_eq!((of("mail"), of("open"), of("default")), (Some(0), None, Some(1)));
    assert!(config.routed_pools().any(|pool| pool == 2));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_the_remedy() {
    // (line that is replaced, by what, words of the problem, words of the remedy, what is marked)
    let table: [(&str, &str, &str, &str, &str); 20] = [
        ("pool = \"callout\"", "pool = \"calout\"", "no pool \"calout\"", "did you mean \"callout\"?", "calout"),
        ("url = \"http://127.0.0.1:9/ask\"", "path = \"/\"", "lacks the key `pool`", "or url =", "site"),
        ("method = \"HEAD\"", "pool = \"app\"", "names a pool and a URL", "keep one", "http://127.0.0.1:9/ask"),
        (
            "http://127.0.0.1:9/ask",
            "http://ask..test/",
            "\"ask..test\" is no host name",
            "write labels",
            "http://ask..test/",
        ),
        ("http://127.0.0.1:9/ask", "http://127.0.0.1:9/?a=b", "has a query", "as `query`", "http://127.0.0.1:9/?a=b"),
        ("method = \"HEAD\"", "method = \"TRACE\"", "cannot be asked with", "write \"GET\"", "TRACE"),
        ("method = \"HEAD\"", "tls = { verify = false }", "begins with https", "ask by https", "tls"),
        ("query('DeviceId')}\"\n\n", "qery('DeviceId')}\"\n\n", "no function `qery`", "did you mean `query`?", "qery"),
        ("urlencode(request.url)", "response.status", "asks for the answer", "variables of the request", ""),
        ("path = \"/services/ActiveSync/Authorize\"", "", "lacks the key `path`", "path = \"/authorize\"", "mail"),
        ("path = \"/services/ActiveSync/Authorize\"", "path = \"/a?b\"", "is no path", "", ""),
        ("fail = \"open\"", "fail = \"opn\"", "is none of \"closed\", \"open\"", "did you mean \"open\"?", "opn"),
        ("body_first = 20", "body_prefix = \"A\"", "are both there", "keep the one", "A"),
        ("body_equals = \"Allow\"", "", "`body_first` says how much", "remove `body_first`", "20"),
        ("body_first = 20", "body_first = 3", "longer than the 3 bytes", "larger `body_first`", "Allow"),
        ("drop = true", "drop = true\nstatus = 403", "gets no answer", "remove `drop`", "403"),
        ("drop = true", "status = 302", "needs a place to go to", "add redirect", "302"),
        ("drop = true", "status = 200", "out of bounds", "from 300 to 499", "200"),
        ("${header('authorization')} ${query('DeviceId')}", "all", "the same key", "name in it all", "all"),
        (
            "authorizer = \"mail\"\npool",
            "authorizer = \"mial\"\npool",
            "no authorizer \"mial\"",
            "did you mean \"mail\"?",
            "mial",
        ),
    ];
    let files = Files::new();
    for (line, by, problem, help, marked) in table {
        assert!(AUTHORIZERS.contains(line), "{line}");
        let text = AUTHORIZERS.replacen(line, by, 1);
        let views = files.views(&text);
        let found = views.iter().find(|v| v.message.contains(problem));
        let view = found.unwrap_or_else(|| panic!("{problem}: {views:#?}"));
        let remedy = view.help.clone().unwrap_or_default();
        assert!(remedy.contains(help), "{problem}: {remedy}");
        let line = text.lines().nth(view.line - 1).unwrap_or_default();
        assert!(line[view.column - 1..].trim_start_matches('"').starts_with(marked), "{marked}: {view:?}");
    }
}

#[test]
fn an_authorizer_that_nobody_names_is_told_of() {
    let text = AUTHORIZERS.replacen("authorizer = \"mail\"\npool", "pool", 1);
    let view = Files::new().only(&text);
    assert!(view.message.contains("authorizer \"mail\" is used by no service"), "{view:?}");
}
