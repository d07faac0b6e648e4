//! Which headers pass, which go, which are made.

use super::*;
use proptest::prelude::*;

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

#[test]
fn only_a_real_upgrade_is_one() {
    let asks = |connection, upgrade| upgrade_of(&request("/", &[("connection", connection), ("upgrade", upgrade)]));
    assert_eq!(asks("keep-alive, Upgrade", "websocket").unwrap(), "websocket");
    assert!(asks("keep-alive", "websocket").is_none());
    assert!(asks("upgrade, http2-settings", "h2c").is_none());
    assert!(asks("upgrade", "websocket, H2C").is_none());
    let mut old = request("/", &[("connection", "upgrade"), ("upgrade", "websocket")]);
    *old.version_mut() = Version::HTTP_10;
    assert!(upgrade_of(&old).is_none());
}

#[test]
fn what_belongs_to_one_connection_is_removed() {
    let mut headers = request(
        "/",
        &[
            ("connection", "close, X-Secret , te"),
            ("connection", "host, content-length"),
            ("keep-alive", "5"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("x-secret", "1"),
            ("x-secret", "2"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=1"),
            ("host", "a"),
            ("content-length", "3"),
            ("x-kept", "1"),
        ],
    )
    .headers()
    .clone();
    remove_hop_by_hop(&mut headers, |n| n == "forwarded" || n.starts_with("x-forwarded-"));
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["content-length", "host", "x-kept"]);
}

#[test]
fn what_a_backend_may_take_for_the_edges_own_is_its_own() {
    for name in ["x-forwarded-for", "x_forwarded_for", "x-forwarded_proto", "x_real_ip", "content_length"] {
        assert!(is_edges_own(name), "{name}");
    }
    for name in ["content-length", "x_request_id", "my_x_forwarded"] {
        assert!(!is_edges_own(name), "{name}");
    }
}

#[test]
fn crumbs_of_cookies_are_joined() {
    let mut headers = request("/", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]).headers().clone();
    join_cookies(&mut headers);
    assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    let mut none = HeaderMap::new();
    join_cookies(&mut none);
    assert!(none.is_empty());
}

proptest! {
    #[test]
    fn nothing_that_connection_names_is_left(
        names in proptest::collection::vec("[a-z]{1,3}(-[a-z]{1,3})?", 1..8),
        named in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for n in &names {
            headers.append(HeaderName::from_bytes(n.as_bytes()).unwrap(), HeaderValue::from_static("v"));
        }
        let named: Vec<_> = named.iter().map(|i| i.get(&names).to_uppercase()).collect();
        headers.insert(header::CONNECTION, HeaderValue::from_str(&named.join(" ,, ")).unwrap());
        remove_hop_by_hop(&mut headers, |_| false);
        for n in &named {
            prop_assert!(!headers.contains_key(n.to_lowercase()));
        }
        prop_assert!(!headers.contains_key(header::CONNECTION));
        for n in names.iter().filter(|n| !named.contains(&n.to_uppercase()) && *n != "te") {
            prop_assert!(headers.contains_key(n.as_str()));
        }
    }
}
