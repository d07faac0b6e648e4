//! Which route takes a request: Gateway API's order, made ready once for a snapshot. An exact host goes before a
//! wildcard (the longest first), a wildcard before none; within the same host the longest path prefix goes first;
//! what is equal is tried in the order it is written in.

use crate::api;
use std::borrow::Cow;
use std::collections::HashMap;

/// The routes of one service. Routes are known by their place in [`api::Service::routes`].
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<Box<str>, Vec<PathRoute>>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<Box<str>, Vec<PathRoute>>,
    any: Vec<PathRoute>,
}

#[derive(Debug)]
struct PathRoute {
    /// Without its last slash; empty takes every path.
    prefix: Box<str>,
    route: usize,
}

impl Router {
    pub(crate) fn new(routes: &[api::Route]) -> Self {
        let mut router = Router::default();
        for (index, route) in routes.iter().enumerate() {
            let prefix: Box<str> = route.path_prefix.as_deref().unwrap_or("").trim_end_matches('/').into();
            let entry = || PathRoute { prefix: prefix.clone(), route: index };
            if route.hosts.is_empty() {
                router.any.push(entry());
            }
            for host in &route.hosts {
                let host = host.to_ascii_lowercase();
                match host.strip_prefix('*') {
                    Some("") => router.any.push(entry()),
                    Some(suffix) => router.wildcard.entry(suffix.into()).or_default().push(entry()),
                    None => router.exact.entry(host.into()).or_default().push(entry()),
                }
            }
        }
        let lists = router.exact.values_mut().chain(router.wildcard.values_mut());
        for list in lists.chain([&mut router.any]) {
            // Stable: equal prefixes stay in the order of the config.
            list.sort_by_key(|r| std::cmp::Reverse(r.prefix.len()));
        }
        router
    }

    /// The route of a request; `host` without its port.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<usize> {
        let host = normal_host(host);
        if !self.exact.is_empty()
            && let Some(route) = self.exact.get(&*host).and_then(|list| first(list, path))
        {
            return Some(route);
        }
        if !self.wildcard.is_empty() {
            // The suffix at the first dot is the longest that a wildcard can have.
            for (at, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(route) = self.wildcard.get(&host[at..]).and_then(|list| first(list, path)) {
                    return Some(route);
                }
            }
        }
        first(&self.any, path)
    }
}

fn first(list: &[PathRoute], path: &str) -> Option<usize> {
    list.iter().find(|r| has_prefix(path, &r.prefix)).map(|r| r.route)
}

/// Whole elements: `/a` is a prefix of `/a` and `/a/b`, not of `/ab`.
fn has_prefix(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.is_empty() || rest.starts_with('/'))
}

/// Lower case, without the root's dot; borrowed where it is already so.
pub(super) fn normal_host(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(hosts: &[&str], path: Option<&str>) -> api::Route {
        api::Route {
            name: String::new(),
            hosts: hosts.iter().map(|h| h.to_string()).collect(),
            path_prefix: path.map(str::to_owned),
            ..api::Route::default()
        }
    }

    #[test]
    fn the_most_specific_host_then_the_longest_path_wins() {
        let router = Router::new(&[
            route(&[], None),
            route(&["*.example.com"], Some("/")),
            route(&["*.b.example.com"], None),
            route(&["a.example.com"], None),
            route(&["a.example.com"], Some("/api")),
            route(&["a.example.com"], Some("/api/v2/")),
            route(&["only.example.com"], Some("/x")),
        ]);
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
            assert_eq!(router.find(host, path), Some(want), "{host}{path}");
        }
    }

    #[test]
    fn of_equal_routes_the_first_is_taken_and_without_any_none() {
        let router = Router::new(&[route(&["h"], Some("/a")), route(&["h"], Some("/a"))]);
        assert_eq!(router.find("h", "/a"), Some(0));
        assert_eq!(router.find("h", "/b"), None);
        assert_eq!(router.find("i", "/a"), None);
    }

    /// The definition, slow: every candidate that matches, the best by (kind of host, its length, prefix length).
    fn by_definition(routes: &[api::Route], host: &str, path: &str) -> Option<usize> {
        let mut best: Option<((u8, usize, usize), usize)> = None;
        for (i, r) in routes.iter().enumerate() {
            let p = r.path_prefix.as_deref().unwrap_or("").trim_end_matches('/');
            let elements = |s: &str| s.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
            if !elements(path).starts_with(&elements(p)) {
                continue;
            }
            let any = [String::from("*")];
            for h in if r.hosts.is_empty() { &any[..] } else { &r.hosts[..] } {
                let rank = match h.strip_prefix('*') {
                    Some("") => (0, 0, p.len()),
                    Some(s) if host.len() > s.len() && host.ends_with(s) => (1, s.len(), p.len()),
                    None if h == host => (2, 0, p.len()),
                    _ => continue,
                };
                if best.is_none_or(|(b, _)| rank > b) {
                    best = Some((rank, i));
                }
            }
        }
        best.map(|(_, i)| i)
    }

    proptest! {
        #[test]
        fn the_router_agrees_with_the_definition(
            routes in proptest::collection::vec(
                (proptest::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..3), proptest::option::of("(/[ab]{1,2}){0,3}/?")),
                0..8),
            host in "[ab](\\.[ab]){0,3}",
            path in "/([ab]{1,2}(/[ab]{1,2}){0,3})?",
        ) {
            let routes: Vec<_> = routes.iter()
                .map(|(h, p)| route(&h.iter().map(String::as_str).collect::<Vec<_>>(), p.as_deref()))
                .collect();
            prop_assert_eq!(Router::new(&routes).find(&host, &path), by_definition(&routes, &host, &path));
        }
    }
}
