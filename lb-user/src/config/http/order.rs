//! The order of routes: what no request can reach, and priorities that leave it open.

use super::super::problem::{Problem, Problems};
use std::ops::Range;
use tls_worker::api::{PathMatch, Route};

/// A route and where it stands.
pub(in crate::config) struct Placed<'r> {
    pub(in crate::config) route: &'r Route,
    pub(in crate::config) span: Range<usize>,
}

/// Tell of routes that come too late, and of priorities that stand twice.
pub(in crate::config) fn check(routes: &[Placed<'_>], p: &mut Problems) {
    for (place, later) in routes.iter().enumerate() {
        let twin =
            routes[..place].iter().find(|one| one.route.priority > 0 && one.route.priority == later.route.priority);
        if let Some(first) = twin {
            p.push(
                Problem::error(later.span.clone(), format!("priority {} stands here twice", later.route.priority))
                    .label("again")
                    .also(first.span.clone(), "first here")
                    .help("give one of them another number: the highest is tried first"),
            );
        }
        let before: Vec<(usize, &Placed<'_>)> = routes
            .iter()
            .enumerate()
            .filter(|(other, one)| *other != place && covers(one.route, later.route))
            .collect();
        let covered = |host: Option<&str>| {
            let rank = (later.route.rank(host), place);
            before.iter().find_map(|(other, one)| {
                let mut hosts = one.route.each_host();
                hosts.any(|by| host_covers(by, host) && (one.route.rank(by), *other) < rank).then_some(*one)
            })
        };
        let by: Option<Vec<&Placed<'_>>> = later.route.each_host().map(covered).collect();
        if let Some(by) = by.as_ref().and_then(|by| by.first()) {
            p.push(
                Problem::error(
                    later.span.clone(),
                    format!("route {:?} takes no request: {:?} takes them all before", later.route.name, by.route.name),
                )
                .label("never reached")
                .also(by.span.clone(), "tried first")
                .help("remove it, ask more in the other one, or give this one a `priority`"),
            );
        }
    }
}

/// Whether a host pattern stands for everything that another one stands for.
fn host_covers(by: Option<&str>, host: Option<&str>) -> bool {
    match (by, host) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(by), Some(host)) => match by.strip_prefix('*') {
            Some(suffix) => {
                by == host || host.strip_prefix('*').unwrap_or(host).len() > suffix.len() && host.ends_with(suffix)
            }
            None => by == host,
        },
    }
}

/// Whether, hosts aside, a route takes every request that another one would.
fn covers(one: &Route, other: &Route) -> bool {
    let fields =
        |of: fn(&Route) -> &[tls_worker::api::FieldMatch]| of(one).iter().all(|field| of(other).contains(field));
    let within = |all: &[String], some: &[String]| {
        all.is_empty() || !some.is_empty() && some.iter().all(|name| all.contains(name))
    };
    path_covers(&one.path, &other.path)
        && within(&one.methods, &other.methods)
        && within(&one.alpn, &other.alpn)
        && fields(|route| &route.headers)
        && fields(|route| &route.query)
        && (one.when.is_none() || one.when == other.when)
}

fn path_covers(one: &PathMatch, other: &PathMatch) -> bool {
    let has = |path: &str, prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.is_empty() || rest.starts_with('/'))
    };
    match (one.prefix(), other) {
        (Some(prefix), PathMatch::Exact(path)) => has(path, prefix),
        (Some(prefix), PathMatch::Regex(regex)) => {
            prefix.is_empty() || literal(regex).is_some_and(|begin| has(&begin, prefix))
        }
        (Some(prefix), other) => other.prefix().is_some_and(|path| has(path, prefix)),
        (None, _) => one == other,
    }
}

/// What every path begins with that an expression can be found in.
fn literal(regex: &str) -> Option<String> {
    let rest = regex.strip_prefix('^').filter(|rest| !rest.contains('|'))?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_~%".contains(c))).unwrap_or(rest.len());
    let repeats = rest[end..].starts_with(['?', '*', '{']);
    Some(rest[..end - usize::from(repeats && end > 0)].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_expression_is_known_where_it_is_fixed() {
        for (regex, begin) in [
            ("^/api/v[0-9]", Some("/api/v")),
            ("^/api?", Some("/ap")),
            ("^/a|^/b", None),
            ("/api", None),
            ("^/api$", Some("/api")),
            ("^/a.b", Some("/a")),
            ("^/a{2}", Some("/")),
            ("^", Some("")),
        ] {
            assert_eq!(literal(regex).as_deref(), begin, "{regex}");
        }
    }

    #[test]
    fn wildcards_cover_what_is_below_them() {
        for (by, host, covered) in [
            (None, None, true),
            (None, Some("a.test"), true),
            (Some("a.test"), None, false),
            (Some("*.test"), Some("a.test"), true),
            (Some("*.test"), Some("*.test"), true),
            (Some("*.test"), Some("*.a.test"), true),
            (Some("*.a.test"), Some("*.test"), false),
            (Some("*.test"), Some("test"), false),
            (Some("a.test"), Some("a.test"), true),
        ] {
            assert_eq!(host_covers(by, host), covered, "{by:?} {host:?}");
        }
    }
}
