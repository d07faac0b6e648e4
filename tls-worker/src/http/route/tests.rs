//! Which route takes a request, by examples and by definition.

use super::*;
use crate::api::{Condition, FieldMatch, PathMatch, Route, Subject, TextMatch};
use proptest::prelude::*;

fn route(hosts: &[&str], path: Option<&str>) -> Route {
    let path = path.map_or(PathMatch::Any, |path| PathMatch::Prefix(path.into()));
    Route { hosts: hosts.iter().map(|h| h.to_string()).collect(), path, ..Route::default() }
}

fn sample(host: &str, path: &str) -> Sample {
    Sample {
        host: host.into(),
        method: "GET".into(),
        path: path.into(),
        query: None,
        headers: Vec::new(),
        client: [192, 0, 2, 1].into(),
        sni: None,
    }
}

fn found(routes: &[Route], host: &str, path: &str) -> Option<usize> {
    find(routes, &sample(host, path)).unwrap()
}

fn field(name: &str, is: TextMatch) -> FieldMatch {
    FieldMatch { name: name.into(), is }
}

#[test]
fn the_most_specific_host_then_the_longest_path_wins() {
    let routes = [
        route(&[], None),
        route(&["*.example.com"], Some("/")),
        route(&["*.b.example.com"], None),
        route(&["a.example.com"], None),
        route(&["a.example.com"], Some("/api")),
        route(&["a.example.com"], Some("/api/v2/")),
        route(&["only.example.com"], Some("/x")),
    ];
    for (host, path, want) in [
        ("other.org", "/", 0),
        ("example.com", "/", 0),
        ("x.example.com", "/", 1),
        ("x.y.example.com", "/", 1),
        ("x.b.example.com", "/", 2),
        ("b.example.com", "/", 1),
        ("a.example.com", "/", 3),
        ("A.Example.COM", "/", 3),
        ("a.example.com.", "/apix", 3),
        ("a.example.com", "/api", 4),
        ("a.example.com", "/api/", 4),
        ("a.example.com", "/api/v2", 5),
        ("a.example.com", "/api/v2/x", 5),
        ("a.example.com", "/api/v22", 4),
        ("only.example.com", "/x", 6),
        // The exact host has no route for the path: the next specific one takes it.
        ("only.example.com", "/y", 1),
        (".example.com", "/", 0),
    ] {
        assert_eq!(found(&routes, host, path), Some(want), "{host}{path}");
    }
}

#[test]
fn of_equal_routes_the_first_is_taken_and_without_any_none() {
    let routes = [route(&["h"], Some("/a")), route(&["h"], Some("/a"))];
    assert_eq!(found(&routes, "h", "/a"), Some(0));
    assert_eq!(found(&routes, "h", "/b"), None);
    assert_eq!(found(&routes, "i", "/a"), None);
}

#[test]
fn exact_before_prefix_before_expression_then_method_headers_and_query() {
    let path = |path| Route { path, ..Route::default() };
    let methods = || vec!["GET".to_owned(), "PUT".to_owned()];
    let header = || field("x-a", TextMatch::Present);
    let routes = [
        path(PathMatch::Any),
        path(PathMatch::Regex("^/a/[0-9]+$".into())),
        path(PathMatch::Prefix("/a/1".into())),
        path(PathMatch::Exact("/a/1".into())),
        Route { query: vec![field("q", TextMatch::Exact("x y".into()))], ..Route::default() },
        Route { headers: vec![header()], ..Route::default() },
        Route { headers: vec![header(), field("X-B", TextMatch::Suffix("z".into()))], ..Route::default() },
        Route { methods: methods(), headers: vec![field("x-c", TextMatch::Present)], ..Route::default() },
        Route { methods: vec!["POST".into()], priority: 1, ..Route::default() },
    ];
    let plain = || sample("h", "/");
    let headers = |list: &[(&str, &str)]| list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    for (asked, want) in [
        (plain(), 0),
        (sample("h", "/a/1"), 3),
        (sample("h", "/a/1/"), 2),
        (sample("h", "/a/12"), 1),
        (sample("h", "/b/a/12"), 0),
        (Sample { query: Some("a=b&q=x+y".into()), ..plain() }, 4),
        (Sample { query: Some("q=x".into()), ..plain() }, 0),
        (Sample { query: Some("q=x%20y".into()), headers: headers(&[("x-a", "")]), ..plain() }, 5),
        (Sample { headers: headers(&[("X-A", "1"), ("x-b", "y"), ("x-b", "xyz")]), ..plain() }, 6),
        (Sample { headers: headers(&[("x-a", "1"), ("x-b", "z"), ("x-c", "1")]), ..plain() }, 7),
        (Sample { method: "POST".into(), ..sample("h", "/a/1") }, 8),
        (Sample { method: "post".into(), ..plain() }, 0),
    ] {
        assert_eq!(find(&routes, &asked).unwrap(), Some(want), "{asked:?}");
    }
}

#[test]
fn clients_names_and_texts_are_conditions() {
    let when = |when| Route { when: Some(when), ..Route::default() };
    let text = |of: &str, is| Condition::Value { of: Subject::Text(of.into()), is };
    let routes = [
        when(Condition::Client(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()])),
        when(Condition::Sni(vec!["a.test".into(), "*.B.test".into()])),
        when(text("${before(request.path, '.')}", TextMatch::Exact("/x".into()))),
        when(Condition::Not(Box::new(Condition::Host(vec!["h".into()])))),
    ];
    for (asked, want) in [
        (Sample { client: "10.1.2.3".parse().unwrap(), ..sample("h", "/") }, Some(0)),
        (Sample { client: "::ffff:10.1.2.3".parse().unwrap(), ..sample("h", "/") }, Some(0)),
        (Sample { client: "2001:db8::1".parse().unwrap(), ..sample("h", "/") }, Some(0)),
        (Sample { sni: Some("x.b.test".into()), ..sample("h", "/") }, Some(1)),
        (Sample { sni: Some("b.test".into()), ..sample("h", "/") }, None),
        (sample("h", "/x.html"), Some(2)),
        (sample("i", "/"), Some(3)),
    ] {
        assert_eq!(find(&routes, &asked).unwrap(), want, "{asked:?}");
    }
}

#[test]
fn what_cannot_be_made_ready_is_named() {
    let deep = (0..20).fold(Condition::Any(vec![]), |inner, _| Condition::Not(Box::new(inner)));
    for (route, problem) in [
        (Route { path: PathMatch::Regex("(".into()), ..Route::default() }, "unclosed group"),
        (Route { methods: vec!["A B".into()], ..Route::default() }, "no method"),
        (Route { headers: vec![field("a b", TextMatch::Present)], ..Route::default() }, "no header name"),
        (Route { when: Some(deep), ..Route::default() }, "nest deeper"),
    ] {
        let error = find(&[Route { name: "r".into(), ..route }], &sample("h", "/")).unwrap_err();
        assert!(error.contains("route \"r\"") && error.contains(problem), "{error}");
    }
}

/// The definition, slow: every candidate that matches, the least by rank and place.
fn by_definition(routes: &[Route], host: &str, path: &str) -> Option<usize> {
    let mut best: Option<((api::Rank, usize), usize)> = None;
    for (i, r) in routes.iter().enumerate() {
        let matches = match &r.path {
            PathMatch::Exact(exact) => path == exact,
            other => {
                let prefix = other.prefix().unwrap();
                let elements = |s: &str| s.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
                elements(path).starts_with(&elements(prefix))
            }
        };
        for h in r.each_host().filter(|_| matches) {
            let rank = (r.rank(h), i);
            if h.is_none_or(|h| host_in(host, h)) && best.is_none_or(|(b, _)| rank < b) {
                best = Some((rank, i));
            }
        }
    }
    best.map(|(_, i)| i)
}

fn any_route() -> impl Strategy<Value = Route> {
    let hosts = proptest::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..3);
    let path = proptest::option::of("(/[ab]{1,2}){0,3}/?");
    (hosts, path, any::<bool>(), 0u32..3).prop_map(|(hosts, path, exact, priority)| {
        let path = match path {
            None => PathMatch::Any,
            Some(path) if exact => PathMatch::Exact(path),
            Some(path) => PathMatch::Prefix(path),
        };
        Route { hosts, path, priority, ..Route::default() }
    })
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        "/[ab]?".prop_map(|p| Condition::Path(PathMatch::Prefix(p))),
        Just(Condition::Method(vec!["GET".into()])),
        Just(Condition::Method(vec!["PUT".into()])),
        "[a-c]".prop_map(|h| Condition::Host(vec![h])),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Condition::All),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Condition::Any),
            inner.prop_map(|one| Condition::Not(Box::new(one))),
        ]
    })
}

fn holds(condition: &Condition, asked: &Sample) -> bool {
    Test::new(condition, &mut Patterns::default()).unwrap().holds(asked)
}

fn not(condition: &Condition) -> Condition {
    Condition::Not(Box::new(condition.clone()))
}

proptest! {
    #[test]
    fn the_router_agrees_with_the_definition(
        routes in proptest::collection::vec(any_route(), 0..8),
        host in "[ab](\\.[ab]){0,3}",
        path in "/([ab]{1,2}(/[ab]{1,2}){0,3})?",
    ) {
        prop_assert_eq!(found(&routes, &host, &path), by_definition(&routes, &host, &path));
    }

    /// In whatever order the config has them: routes of different rank are tried alike.
    #[test]
    fn the_order_is_total(routes in proptest::collection::vec(any_route(), 1..8), host in "[ab]", path in "/[ab]{0,2}") {
        let mut turned: Vec<Route> = routes.clone();
        turned.reverse();
        let (one, other) = (found(&routes, &host, &path), found(&turned, &host, &path));
        prop_assert_eq!(one.is_some(), other.is_some());
        if let (Some(one), Some(other)) = (one, other) {
            let best = |r: &Route| r.each_host().filter(|h| h.is_none_or(|h| host_in(&host, h))).map(|h| r.rank(h)).min();
            prop_assert_eq!(best(&routes[one]), best(&turned[other]));
        }
    }

    #[test]
    fn conditions_are_a_boolean_algebra(a in any_condition(), b in any_condition(), host in "[a-c]", path in "/[ab]?") {
        let asked = sample(&host, &path);
        let (x, y) = (holds(&a, &asked), holds(&b, &asked));
        prop_assert_eq!(holds(&not(&a), &asked), !x);
        prop_assert_eq!(holds(&Condition::All(vec![a.clone(), b.clone()]), &asked), x && y);
        prop_assert_eq!(holds(&Condition::Any(vec![a.clone(), b.clone()]), &asked), x || y);
        // De Morgan, and the middle is excluded.
        let both = not(&Condition::All(vec![a.clone(), b.clone()]));
        prop_assert_eq!(holds(&both, &asked), holds(&Condition::Any(vec![not(&a), not(&b)]), &asked));
        prop_assert!(holds(&Condition::Any(vec![a.clone(), not(&a)]), &asked));
        prop_assert!(!holds(&Condition::All(vec![a.clone(), not(&a)]), &asked));
    }
}
