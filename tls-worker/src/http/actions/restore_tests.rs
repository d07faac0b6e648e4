//! Addresses and cookies of answers, changed back.

use super::super::locations::Moved;
use super::*;
use crate::api::{PathChange, PathMatch, Rewrite};
use proptest::prelude::*;

fn moved(prefix: Option<(&str, &str)>) -> Moved {
    let path = prefix.map(|(_, to)| PathChange::Prefix(to.into()));
    let matched = prefix.map_or(PathMatch::Any, |(from, _)| PathMatch::Prefix(from.into()));
    Moved::new(&Rewrite { path, ..Rewrite::default() }, &matched)
}

fn sides<'a>(moved: &'a Moved, scheme: &'a str, client: &'a str, asked: &'a str, clear: bool) -> Sides<'a> {
    let backend = "10.0.0.5:8080".parse().unwrap();
    Sides { moved, client_scheme: scheme, client_authority: client, asked, clear, backend }
}

#[test]
fn a_clear_text_backend_behind_https_sends_its_clients_to_https() {
    let moved = moved(None);
    let sides = sides(&moved, "https", "a.test", "a.test", true);
    for (from, to) in [
        ("http://a.test/x?y#z", Some("https://a.test/x?y#z")),
        ("HTTP://A.TEST", Some("https://a.test")),
        ("http://a.test:80/", Some("https://a.test/")),
        ("http://a.test:8080/", Some("https://a.test/")),
        ("http://10.0.0.5:8080/x", Some("https://a.test/x")),
        ("https://a.test/x", None),
        ("http://a.test:9999/", None),
        ("http://b.test/", None),
        ("http://a.test@b.test/", None),
        ("http://a.test.b.test/", None),
        ("//a.test/x", None),
        ("/x", None),
        ("x", None),
        ("ftp://a.test/", None),
        ("", None),
    ] {
        assert_eq!(sides.location(from).as_deref(), to, "{from}");
    }
}

#[test]
fn nothing_is_weakened_and_what_a_backend_over_tls_says_stands() {
    let moved = moved(None);
    let to_tls = sides(&moved, "https", "a.test", "a.test", false);
    assert_eq!(to_tls.location("http://a.test/"), None);
    let plain = sides(&moved, "http", "a.test:8000", "a.test:8000", true);
    assert_eq!(plain.location("https://a.test/x"), None);
    assert_eq!(plain.location("http://a.test:8080/x").as_deref(), Some("http://a.test:8000/x"));
    // Asked for another name, it named its own.
    let renamed = sides(&moved, "http", "a.test", "b.internal", false);
    assert_eq!(renamed.location("https://b.internal/x").as_deref(), Some("http://a.test/x"));
    let wants_tls = sides(&moved, "http", "a.test:8000", "b.internal", true);
    assert_eq!(wants_tls.location("https://b.internal/x").as_deref(), Some("https://a.test/x"));
}

#[test]
fn a_prefix_and_a_name_are_changed_back() {
    let moved_ = moved(Some(("/shop", "/v1")));
    let one = sides(&moved_, "https", "a.test:8443", "b.internal", true);
    for (from, to) in [
        ("http://b.internal/v1/cart?x=/v1", Some("https://a.test:8443/shop/cart?x=/v1")),
        ("https://b.internal/v1", Some("https://a.test:8443/shop")),
        ("https://b.internal/v12", Some("https://a.test:8443/v12")),
        ("//b.internal/v1/", Some("//a.test:8443/shop/")),
        ("/v1/cart", Some("/shop/cart")),
        ("/v12", None),
    ] {
        assert_eq!(one.location(from).as_deref(), to, "{from}");
    }
    assert_eq!(one.refresh("5; url=http://b.internal/v1").as_deref(), Some("5; url=https://a.test:8443/shop"));
    assert_eq!(one.refresh("0;URL='/v1/x'").as_deref(), Some("0;URL='/shop/x'"));
    assert_eq!(one.refresh("5"), None);
    // The whole tree is moved; who knows it is not moved twice.
    let root = moved(Some(("/app", "/")));
    let one = sides(&root, "http", "a.test", "a.test", true);
    assert_eq!(one.location("/login").as_deref(), Some("/app/login"));
    assert_eq!(one.location("/app/login"), None);
    let up = moved(Some(("/", "/app")));
    let one = sides(&up, "http", "a.test", "a.test", true);
    assert_eq!(one.location("/app").as_deref(), Some("/"));
    assert_eq!(one.location("/app?x").as_deref(), Some("/?x"));
}

#[test]
fn cookies_keep_what_is_not_known() {
    let cookie = |sides: &Sides<'_>, text: &str| sides.cookie(text.as_bytes()).map(|c| String::from_utf8(c).unwrap());
    let none = moved(None);
    let tls = sides(&none, "https", "a.test", "a.test", true);
    for (from, to) in [
        ("a=1", Some("a=1; Secure")),
        ("a=1; Path=/; Priority=High;Partitioned", Some("a=1; Path=/; Priority=High;Partitioned; Secure")),
        ("a=\"x;y\"; HttpOnly", Some("a=\"x;y\"; HttpOnly; Secure")),
        ("a=1; SECURE", None),
        ("a=secure", Some("a=secure; Secure")),
    ] {
        assert_eq!(cookie(&tls, from).as_deref(), to, "{from}");
    }
    let to_tls = sides(&none, "https", "a.test", "a.test", false);
    assert_eq!(cookie(&to_tls, "a=1"), None);
    let shop = moved(Some(("/shop", "/v1")));
    let renamed = sides(&shop, "http", "www.a.test", "app.b.internal:8080", true);
    for (from, to) in [
        ("a=1; Domain=app.b.internal; Path=/v1", Some("a=1; Domain=www.a.test; Path=/shop")),
        ("a=1; domain=.b.internal; X=y", Some("a=1; X=y")),
        ("a=1; Domain=a.test", None),
        ("a=1; Domain=other.test", None),
        ("a=1; Path=/v12", None),
        ("a=1; Path", None),
    ] {
        assert_eq!(cookie(&renamed, from).as_deref(), to, "{from}");
    }
    let address = sides(&none, "http", "192.0.2.1", "b.internal", true);
    assert_eq!(cookie(&address, "a=1; Domain=b.internal").as_deref(), Some("a=1"));
}

#[test]
fn every_cookie_of_an_answer_is_changed_in_its_place() {
    let moved = moved(None);
    let mut headers = HeaderMap::new();
    for text in ["a=1", "b=2; Secure", "c=3"] {
        headers.append(header::SET_COOKIE, HeaderValue::from_static(text));
    }
    headers.insert(header::LOCATION, HeaderValue::from_static("http://a.test/"));
    restore(&mut headers, &sides(&moved, "https", "a.test", "a.test", true));
    let all: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(all, ["a=1; Secure", "b=2; Secure", "c=3; Secure"]);
    assert_eq!(headers[header::LOCATION], "https://a.test/");
}

proptest! {
    /// Any text: no panic, and what is changed is not changed again.
    #[test]
    fn what_is_restored_is_restored(
        value in "(http://|https://|//)?(a\\.test|b\\.internal|c)?(:80|:443)?(/v1|/shop|/x)?[!-~]{0,8}",
        scheme in prop::sample::select(vec!["http", "https"]),
        clear: bool,
    ) {
        let moved = moved(Some(("/shop", "/v1")));
        let one = sides(&moved, scheme, "a.test", "b.internal", clear);
        if let Some(new) = one.location(&value) {
            prop_assert!(!new.contains("b.internal/"), "{new}");
            prop_assert_eq!(one.location(&new).filter(|again| !again.starts_with('/')), None);
        }
        let _ = one.refresh(&value);
        if let Some(new) = one.cookie(value.as_bytes()) {
            prop_assert_eq!(one.cookie(&new), None);
        }
    }
}
