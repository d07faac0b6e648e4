//! Which route takes a request: [`crate::api::Route::rank`]'s order, made ready once for a snapshot. The host is looked
//! up; what is for it, for its wildcards and for every host is then tried in that order, until the first that matches.

mod condition;
mod pattern;
mod sample;

pub(crate) use condition::{Patterns, has_prefix};
pub(crate) use pattern::Pattern;
pub use pattern::{PatternError, check_pattern};
pub use sample::{Sample, find};

use crate::api;
use crate::vars::Lookup;
use condition::{PathTest, Test, methods};
use http::Method;
use std::borrow::Cow;
use std::collections::HashMap;

/// The routes of one service. Routes are known by their place in [`api::Service::routes`].
#[derive(Debug, Default)]
pub(crate) struct Router {
    /// Places in `order`, rising.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    any: Vec<usize>,
    /// Routes, once for each host, as they are tried.
    order: Vec<usize>,
    /// By route.
    needs: Vec<Need>,
}

/// What a route asks beside the host.
#[derive(Debug)]
struct Need {
    path: PathTest,
    /// Empty: any.
    methods: Box<[Method]>,
    tests: Box<[Test]>,
}

impl Need {
    fn new(route: &api::Route, patterns: &mut Patterns) -> Result<Need, String> {
        let mut tests = Vec::new();
        for (fields, query) in [(&route.headers, false), (&route.query, true)] {
            for field in fields {
                tests.push(Test::of_field(field, query, patterns)?);
            }
        }
        if let Some(condition) = &route.when {
            tests.push(Test::new(condition, patterns)?);
        }
        Ok(Need { path: PathTest::new(&route.path, patterns)?, methods: methods(&route.methods)?, tests: tests.into() })
    }

    fn holds(&self, path: &str, method: &Method, asked: &dyn Lookup) -> bool {
        self.path.holds(path)
            && (self.methods.is_empty() || self.methods.contains(method))
            && self.tests.iter().all(|test| test.holds(asked))
    }
}

impl Router {
    pub(crate) fn new(routes: &[api::Route], patterns: &mut Patterns) -> Result<Router, String> {
        let need = |route: &api::Route| {
            Need::new(route, patterns).map_err(|problem| format!("route {:?}: {problem}", route.name))
        };
        let mut router = Router { needs: routes.iter().map(need).collect::<Result<_, _>>()?, ..Router::default() };
        let each = |(index, route)| api::Route::each_host(route).map(move |host| (route.rank(host), index, host));
        let mut entries: Vec<(api::Rank, usize, Option<&str>)> = routes.iter().enumerate().flat_map(each).collect();
        // Stable: what is equal stays in the order of the config.
        entries.sort_by_key(|(rank, index, _)| (*rank, *index));
        for (place, (_, index, host)) in entries.into_iter().enumerate() {
            router.order.push(index);
            let host = host.unwrap_or("*").to_ascii_lowercase();
            let list = match host.strip_prefix('*') {
                Some("") => &mut router.any,
                Some(suffix) => router.wildcard.entry(suffix.into()).or_default(),
                None => router.exact.entry(host.into()).or_default(),
            };
            list.push(place);
        }
        Ok(router)
    }

    /// The route of a request; `host` without its port.
    pub(crate) fn find(&self, host: &str, path: &str, method: &Method, asked: &dyn Lookup) -> Option<usize> {
        let host = normal_host(host);
        let mut best = self.order.len();
        let mut seek = |list: &[usize]| {
            let mut before = list.iter().copied().take_while(|place| *place < best);
            let found = before.find(|place| self.needs[self.order[*place]].holds(path, method, asked));
            best = found.unwrap_or(best);
        };
        if !self.exact.is_empty()
            && let Some(list) = self.exact.get(&*host)
        {
            seek(list);
        }
        if !self.wildcard.is_empty() {
            // The suffix at the first dot is the longest that a wildcard can have.
            for (at, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(list) = self.wildcard.get(&host[at..]) {
                    seek(list);
                }
            }
        }
        seek(&self.any);
        self.order.get(best).copied()
    }
}

/// Whether a host is one that a pattern stands for.
fn host_in(host: &str, pattern: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => host == pattern,
    }
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
mod tests;
