//! `[[service.NAME.routes]]`: what goes where, in the order of matching.

use super::http::actions::Actions;
use super::http::compression::compression;
use super::http::matches::{self, Matches};
use super::http::order::{self, Placed};
use super::http::resilience;
use super::http::{HTTP, ROUTE_KEYS};
use super::problem::{Problem, Problems};
use super::refs::Refs;
use super::scalar;
use super::section::Section;
use super::tls::service::not_here;
use super::tls::{client_cert_headers, words};
use std::ops::Range;
use tls_worker::api::{ClientCertHeader, Compression, EdgeAnswer, HeaderAction, Mode, Route};
use toml_span::Value;

/// Name of the route to a service's own pool, in metrics.
pub const DEFAULT_ROUTE: &str = "default";
/// Most routes of a service.
const MAX_ROUTES: usize = 1024;

/// What a service says for all its routes.
pub(super) struct Common<'a> {
    /// None: it could not be read, and every key is right.
    pub(super) mode: Option<Mode>,
    /// What the service offers by ALPN, of mode `tls`.
    pub(super) alpn: &'a [String],
    pub(super) client_cert: &'a [ClientCertHeader],
    /// Some client is asked for a certificate, or the service could not be read.
    pub(super) asks_certificate: bool,
    pub(super) authorizer: Option<usize>,
    pub(super) compression: Option<&'a Compression>,
}

/// `authorizer = "NAME"` of a service or a route; `"none"` takes away what the service says.
pub(super) fn authorizer(
    section: &mut Section<'_>,
    p: &mut Problems,
    of_service: Option<usize>,
    authorizers: &mut Refs,
) -> Option<usize> {
    match section.string(p, "authorizer") {
        None => of_service,
        Some(at) if at.value == "none" => None,
        Some(at) => authorizers.resolve(&at, p),
    }
}

pub(super) fn routes(
    section: &mut Section<'_>,
    p: &mut Problems,
    common: &Common<'_>,
    pools: &mut Refs,
    authorizers: &mut Refs,
) -> Vec<Route> {
    let Some(list) = section.list(p, "routes") else { return Vec::new() };
    if list.len() > MAX_ROUTES {
        p.push(
            Problem::error(section.span_of("routes"), format!("{} routes are too many", list.len()))
                .help(format!("a service has at most {MAX_ROUTES}")),
        );
        return Vec::new();
    }
    let mut routes: Vec<(Range<usize>, Route)> = Vec::new();
    for (place, value) in list.iter().enumerate() {
        let Some((span, route)) = route(place + 1, value, p, common, pools, authorizers) else { continue };
        if let Some((first, _)) = routes.iter().find(|(_, other)| other.name == route.name) {
            p.push(
                Problem::error(span, format!("route {:?} stands in {} twice", route.name, section.title))
                    .label("again")
                    .also(first.clone(), "first here")
                    .help("give one of them another `name`"),
            );
            continue;
        }
        routes.push((span, route));
    }
    let placed: Vec<_> = routes.iter().map(|(span, route)| Placed { route, span: span.clone() }).collect();
    order::check(&placed, p);
    routes.into_iter().map(|(_, route)| route).collect()
}

fn route(
    number: usize,
    value: &Value<'_>,
    p: &mut Problems,
    common: &Common<'_>,
    pools: &mut Refs,
    authorizers: &mut Refs,
) -> Option<(Range<usize>, Route)> {
    let mut section = Section::of(p, format!("route {number}"), value.span.into(), value)?;
    let name = section.parsed(p, "name", |text| {
        if text == DEFAULT_ROUTE {
            let help = "it stands for the service's own `pool`: give the route another one";
            return Err(scalar::Wrong::new(format!("{text:?} cannot be a route's name"), help));
        }
        scalar::name(text)
    });
    let mut matches = Matches::read(&mut section, p);
    matches::asks_certificate(&section, common.asks_certificate, p);
    let priority = section.integer(p, "priority", 1..=65_535).unwrap_or(0);
    let actions = Actions::read(&mut section, &matches.path, pools, p);
    let alpn = alpn(&mut section, p, common);
    let client_cert = client_cert_headers(&mut section, p).unwrap_or_else(|| common.client_cert.to_vec());
    let retry = resilience::of_route(section.section(p, "retry"), p);
    let authorizer = authorizer(&mut section, p, common.authorizer, authorizers);
    let compression = compression(&mut section, p, common.compression);
    if let Some(mode) = common.mode {
        let http = ROUTE_KEYS.iter().map(|key| (*key, HTTP));
        for (key, modes) in
            KEYS.into_iter().chain(http).filter(|(key, modes)| !modes.contains(&mode) && section.has(key))
        {
            p.push(not_here(&section, key, modes, mode));
        }
    }
    let (name, span) = match name {
        Some(at) => (at.value, at.span),
        None => (number.to_string(), section.span.clone()),
    };
    let changed = section.span_of("request_headers");
    section.finish(p);
    let actions = actions?;
    let told = |action: &&HeaderAction| client_cert.iter().any(|header| header.name == action.name);
    if let Some(action) = actions.request_headers.iter().find(told) {
        p.push(
            Problem::error(changed, format!("`client_cert_headers` sets {:?} already", action.name))
                .help("give one of the two another name: what tells of a certificate comes from nowhere else"),
        );
    }
    let route = Route {
        name,
        when: matches.when(),
        hosts: matches.hosts,
        path: matches.path,
        methods: matches.methods,
        headers: matches.headers,
        query: matches.query,
        priority,
        alpn,
        pool: actions.pool,
        split: actions.split,
        answer: actions.answer,
        mirror: actions.mirror,
        rewrite: actions.rewrite,
        request_headers: actions.request_headers,
        response_headers: actions.response_headers,
        max_body: actions.max_body,
        timeout: actions.timeout,
        response_timeout: actions.response_timeout,
        client_cert,
        authorizer,
        compression,
        retry,
    };
    Some((span, route))
}

/// Keys that not every mode has.
const KEYS: [(&str, &[Mode]); 3] = [
    ("client_cert", &[Mode::Https]),
    ("alpn", &[Mode::Tls, Mode::Passthrough]),
    ("client_cert_headers", &[Mode::Https]),
];

fn alpn(section: &mut Section<'_>, p: &mut Problems, common: &Common<'_>) -> Vec<String> {
    let list = section.parsed_list(p, "alpn", words::alpn).unwrap_or_default();
    // Of a passthrough service the backend offers what it will.
    if common.mode == Some(Mode::Tls) {
        for at in list.iter().filter(|at| !common.alpn.contains(&at.value)) {
            p.push(
                Problem::error(
                    at.span.clone(),
                    format!("{:?} is never agreed on: the service does not offer it", at.value),
                )
                .help("add it to the service's `alpn`"),
            );
        }
    }
    list.into_iter().map(|at| at.value).collect()
}

/// Routes in the order of matching, the service's own last. A route whose hosts are of different rank stands there once for
/// each rank.
pub(super) fn in_order(routes: Vec<Route>, own: Option<Route>) -> Vec<Route> {
    let mut ranked = Vec::new();
    for route in routes {
        if route.hosts.is_empty() {
            ranked.push((route.rank(None), route));
            continue;
        }
        let mut hosts = route.hosts.clone();
        let rank = |host: &str| route.rank(Some(host));
        hosts.sort_by_key(|host| rank(host));
        for group in hosts.chunk_by(|a, b| rank(a) == rank(b)) {
            ranked.push((rank(&group[0]), Route { hosts: group.to_vec(), ..route.clone() }));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, route)| route).chain(own).collect()
}

/// The route of what no other one takes: a service's own `pool`, or an answer of the edge's.
pub(super) fn own_route(pool: Option<usize>, answer: Option<EdgeAnswer>, common: &Common<'_>) -> Option<Route> {
    let route = Route { name: DEFAULT_ROUTE.into(), ..Route::default() };
    if answer.is_some() {
        return Some(Route { answer, ..route });
    }
    Some(Route {
        pool: pool?,
        client_cert: common.client_cert.to_vec(),
        authorizer: common.authorizer,
        compression: common.compression.cloned(),
        ..route
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tls_worker::api::PathMatch;

    fn route(name: &str, hosts: &[&str], path: Option<&str>) -> Route {
        let hosts = hosts.iter().map(|h| h.to_string()).collect();
        Route {
            name: name.into(),
            hosts,
            path: path.map_or(PathMatch::Any, |path| PathMatch::Prefix(path.into())),
            ..Route::default()
        }
    }

    #[test]
    fn the_more_special_route_is_tried_first() {
        let order = in_order(
            vec![
                route("all", &[], None),
                route("api", &[], Some("/api")),
                route("wild", &["*.example.com"], Some("/api/v2")),
                route("mixed", &["*.a.example.com", "www.example.com"], None),
                route("deep", &["www.example.com"], Some("/api/v2")),
                Route { alpn: vec!["h2".into()], ..route("spoken", &["www.example.com"], None) },
            ],
            Some(Route { name: DEFAULT_ROUTE.into(), ..Route::default() }),
        );
        let names: Vec<_> = order.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["deep", "spoken", "mixed", "mixed", "wild", "api", "all", "default"]);
        assert_eq!(order[3].hosts, ["*.a.example.com"]);
    }

    proptest! {
        #[test]
        fn no_route_or_host_is_lost(lists in prop::collection::vec(prop::collection::vec("(\\*\\.)?[ab]{1,3}", 0..4), 0..6)) {
            let routes: Vec<Route> = lists.iter().enumerate()
                .map(|(i, hosts)| Route { hosts: hosts.clone(), pool: i, ..route(&i.to_string(), &[], None) })
                .collect();
            let order = in_order(routes.clone(), None);
            for before in &routes {
                let mut after: Vec<_> = order.iter().filter(|r| r.name == before.name).flat_map(|r| r.hosts.clone()).collect();
                let mut hosts = before.hosts.clone();
                hosts.sort();
                after.sort();
                prop_assert_eq!(hosts, after);
                prop_assert!(order.iter().any(|r| r.name == before.name));
            }
            let exact_after_wild = order.windows(2).any(|w| {
                let wild = |r: &Route| r.hosts.iter().any(|h| h.starts_with('*')) || r.hosts.is_empty();
                wild(&w[0]) && !wild(&w[1])
            });
            prop_assert!(!exact_after_wild);
        }
    }
}
