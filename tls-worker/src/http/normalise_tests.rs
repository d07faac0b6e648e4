//! Whom a request asks, and what is refused for it.

use super::*;
use proptest::prelude::*;

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn rejection<T: std::fmt::Debug>(result: Result<T, Fault>) -> Option<Rejection> {
    match result {
        Ok(_) => None,
        Err(Fault::Rejected(reason)) => Some(reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn exactly_one_agreeing_host_is_needed() {
    let bad = Some(Rejection::Host);
    for (uri, hosts, expected) in [
        ("/", &["a.test"][..], None),
        ("/", &[], bad),
        ("/", &["a.test", "a.test"], bad),
        ("http://A.test/", &["a.test"], None),
        ("http://b.test/", &["a.test"], bad),
        ("http://a.test/", &[], bad),
    ] {
        let headers: Vec<_> = hosts.iter().map(|h| ("host", *h)).collect();
        assert_eq!(rejection(check(&request(uri, &headers))), expected, "{uri} {hosts:?}");
    }
    let mut h2 = request("https://a.test/", &[]);
    *h2.version_mut() = Version::HTTP_2;
    assert_eq!(check(&h2).unwrap(), "a.test");
    h2.headers_mut().insert(header::HOST, HeaderValue::from_static("b.test"));
    assert_eq!(rejection(check(&h2)), bad);
}

#[test]
fn connect_trace_and_strange_targets_are_refused() {
    let with = |method, uri| {
        let mut r = request(uri, &[("host", "a")]);
        *r.method_mut() = method;
        rejection(check(&r))
    };
    assert_eq!(with(Method::TRACE, "/"), Some(Rejection::Method));
    assert_eq!(with(Method::CONNECT, "a:443"), Some(Rejection::Method));
    assert_eq!(with(Method::OPTIONS, "*"), None);
    assert_eq!(with(Method::GET, "*"), Some(Rejection::Target));
}

#[test]
fn the_host_of_an_authority() {
    for (text, host) in [
        ("a.test", Some("a.test")),
        ("a.test:8443", Some("a.test")),
        ("[2001:db8::1]", Some("2001:db8::1")),
        ("[2001:db8::1]:443", Some("2001:db8::1")),
        ("", None),
        (":80", None),
        ("a.test:", Some("a.test")),
        ("a.test:http", None),
        ("a.test:123456", None),
        ("user@a.test", None),
        ("a.test/x", None),
        ("a b", None),
        ("a.test,b.test", None),
        ("[::1", None),
        ("[::1]x", None),
    ] {
        assert_eq!(host_of(&HeaderValue::from_str(text).unwrap()).ok(), host, "{text:?}");
    }
}

#[test]
fn what_is_forwarded_has_the_path_that_was_looked_at() {
    let asked = |uri: &str, headers: &[(&str, &str)]| {
        let mut request = request(uri, headers);
        let asked = normalise(&mut request, &PathPolicy::default(), &HttpLimits::default());
        (asked.map(|asked| asked.host.into_string()), request.uri().to_string())
    };
    let host = [("host", "A.test:80")];
    assert_eq!(asked("/a/../b?x=/../y", &host), (Ok("a.test".into()), "/b?x=/../y".into()));
    assert_eq!(asked("http://A.test:80//c", &host), (Ok("a.test".into()), "http://A.test:80/c".into()));
    assert_eq!(asked("/..", &host).0, Err(Fault::Rejected(Rejection::Path)));
}

#[test]
fn http2_has_the_same_bounds() {
    let limits = HttpLimits { header_fields: 1, uri_bytes: 5, ..HttpLimits::default() };
    let ask = |uri: &str, headers: &[(&str, &str)]| {
        let mut request = request(uri, headers);
        *request.version_mut() = Version::HTTP_2;
        rejection(normalise(&mut request, &PathPolicy::default(), &limits))
    };
    assert_eq!(ask("https://a.test/1234", &[]), None);
    assert_eq!(ask("https://a.test/12345", &[]), Some(Rejection::UriLength));
    assert_eq!(ask("https://a.test/", &[("a", "1"), ("b", "2")]), Some(Rejection::HeaderCount));
    assert_eq!(ask("https://a.test/\u{e4}", &[]), Some(Rejection::Target));
}

proptest! {
    #[test]
    fn no_authority_makes_host_of_panic_or_give_a_strange_host(text in "[ -~]{0,40}") {
        if let Ok(value) = HeaderValue::from_str(&text) && let Ok(host) = host_of(&value) {
            prop_assert!(!host.is_empty() && !host.contains(['/', '@', ' ', ',']));
        }
    }
}
