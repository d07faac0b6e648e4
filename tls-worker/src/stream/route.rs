//! Which pool takes a connection without HTTP: by the name that the client asks for and by application protocol, the
//! first route that matches in the snapshot's order.

use crate::api;
use std::collections::HashMap;

/// The routes of one service. Routes are known by their place in [`api::Service::routes`].
#[derive(Debug, Default)]
pub(crate) struct StreamRouter {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    any: Vec<usize>,
    /// By route: names, one of which is needed; empty: none is.
    alpn: Vec<Vec<Box<[u8]>>>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// This route.
    Route(usize),
    /// There are routes for the name, but none for the protocols.
    NoProtocol,
    /// No route is for the name.
    NoName,
}

impl StreamRouter {
    pub(crate) fn new(routes: &[api::Route]) -> Self {
        let mut router = StreamRouter::default();
        for (index, route) in routes.iter().enumerate() {
            router.alpn.push(route.alpn.iter().map(|name| name.as_bytes().into()).collect());
            if route.hosts.is_empty() {
                router.any.push(index);
            }
            for host in &route.hosts {
                let host = host.to_ascii_lowercase();
                match host.strip_prefix('*') {
                    Some("") => router.any.push(index),
                    Some(suffix) => router.wildcard.entry(suffix.into()).or_default().push(index),
                    None => router.exact.entry(host.into()).or_default().push(index),
                }
            }
        }
        router
    }

    /// The route of a connection; `name` in lower case.
    pub(crate) fn find<'a>(&self, name: Option<&str>, protocols: impl Iterator<Item = &'a [u8]> + Clone) -> Found {
        let name = name.unwrap_or_default();
        // A wildcard stands for one label or more: every suffix is looked up.
        let suffixes = name.match_indices('.').filter(|(at, _)| *at > 0);
        let wildcards = suffixes.filter_map(|(at, _)| self.wildcard.get(&name[at..]));
        let lists = self.exact.get(name).into_iter().chain(wildcards).chain([&self.any]);
        let speaks = |route: &&usize| {
            let needed = &self.alpn[**route];
            needed.is_empty() || protocols.clone().any(|p| needed.iter().any(|n| **n == *p))
        };
        let (mut first, mut named) = (None, false);
        for list in lists {
            named |= !list.is_empty();
            let of_list = list.iter().find(speaks).copied();
            first = first.into_iter().chain(of_list).min();
        }
        match first {
            Some(route) => Found::Route(route),
            None if named => Found::NoProtocol,
            None => Found::NoName,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hosts: &[&str], alpn: &[&str]) -> api::Route {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        api::Route { hosts: own(hosts), alpn: own(alpn), ..api::Route::default() }
    }

    #[test]
    fn the_first_route_with_name_and_protocol_is_taken() {
        let router = StreamRouter::new(&[
            route(&["a.test"], &["imap"]),
            route(&["a.test", "b.test"], &[]),
            route(&["*.c.test"], &["h2", "x"]),
            route(&["*.test"], &["y"]),
            route(&[], &["z"]),
        ]);
        for (name, protocols, want) in [
            (Some("a.test"), &["imap"][..], Found::Route(0)),
            (Some("a.test"), &["smtp"], Found::Route(1)),
            (Some("a.test"), &[], Found::Route(1)),
            (Some("b.test"), &["y", "z"], Found::Route(1)),
            (Some("e.d.c.test"), &["q", "x"], Found::Route(2)),
            (Some("d.c.test"), &["z", "y"], Found::Route(3)),
            (Some("c.test"), &["h2", "y"], Found::Route(3)),
            (Some("d.c.test"), &["q"], Found::NoProtocol),
            (Some("other"), &["z"], Found::Route(4)),
            (None, &["z"], Found::Route(4)),
            (None, &[], Found::NoProtocol),
        ] {
            assert_eq!(router.find(name, protocols.iter().map(|p| p.as_bytes())), want, "{name:?} {protocols:?}");
        }
        let strict = StreamRouter::new(&[route(&["a.test"], &[])]);
        assert_eq!(strict.find(None, [].into_iter()), Found::NoName);
        assert_eq!(strict.find(Some("b.test"), [].into_iter()), Found::NoName);
        assert_eq!(StreamRouter::new(&[route(&["*"], &[])]).find(Some("x"), [].into_iter()), Found::Route(0));
    }
}
