//! `[[service.NAME.routes]]`: what goes to which pool, in the order of matching.

use super::http::compression::compression;
use super::problem::{Problem, Problems};
use super::refs::Refs;
use super::scalar;
use super::section::{At, Section};
use super::tls::service::not_here;
use super::tls::{client_cert_headers, words};
use std::ops::Range;
use tls_worker::api::{ClientCertHeader, Compression, Mode, Route};
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
    let mut routes: Vec<(At<()>, Route)> = Vec::new();
    for (place, value) in list.iter().enumerate() {
        let Some((span, route)) = route(place + 1, value, p, common, pools, authorizers) else { continue };
        if let Some((first, _)) = routes.iter().find(|(_, other)| other.name == route.name) {
            p.push(
                Problem::error(span, format!("route {:?} stands in {} twice", route.name, section.title))
                    .label("again")
                    .also(first.span.clone(), "first here")
                    .help("give one of them another `name`"),
            );
            continue;
        }
        routes.push((At { value: (), span }, route));
    }
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
    let hosts = section.parsed_list(p, "hosts", scalar::host_pattern).unwrap_or_default();
    let path_prefix = section.parsed(p, "path", scalar::path_prefix).and_then(|at| at.value);
    let pool = section.string(p, "pool");
    if !section.has("pool") {
        section.missing("pool", "write pool = \"NAME\"");
    }
    let pool = pool.and_then(|at| pools.resolve(&at, p));
    let alpn = alpn(&mut section, p, common);
    let client_cert = client_cert_headers(&mut section, p).unwrap_or_else(|| common.client_cert.to_vec());
    let authorizer = authorizer(&mut section, p, common.authorizer, authorizers);
    let compression = compression(&mut section, p, common.compression);
    if let Some(mode) = common.mode {
        for (key, modes) in KEYS.iter().filter(|(key, modes)| !modes.contains(&mode) && section.has(key)) {
            p.push(not_here(&section, key, modes, mode));
        }
    }
    let (name, span) = match name {
        Some(at) => (at.value, at.span),
        None => (number.to_string(), section.span.clone()),
    };
    section.finish(p);
    let hosts = hosts.into_iter().map(|at| at.value).collect();
    Some((span, Route { name, hosts, path_prefix, alpn, pool: pool?, client_cert, authorizer, compression }))
}

/// Keys that not every mode has.
const KEYS: [(&str, &[Mode]); 5] = [
    ("compression", &[Mode::Http, Mode::Https]),
    ("authorizer", &[Mode::Http, Mode::Https]),
    ("path", &[Mode::Http, Mode::Https]),
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

/// Routes in the order of matching: exact host before wildcard before none, the longer wildcard first, then the
/// longer path, then those that ask for a protocol. A route whose hosts are of different rank stands there once for each
/// rank.
pub(super) fn in_order(routes: Vec<Route>, own: Option<Route>) -> Vec<Route> {
    let mut ranked: Vec<((u8, usize), Route)> = Vec::new();
    for route in routes {
        if route.hosts.is_empty() {
            ranked.push(((2, 0), route));
            continue;
        }
        let mut hosts = route.hosts.clone();
        hosts.sort_by_key(|host| host_rank(host));
        for group in hosts.chunk_by(|a, b| host_rank(a) == host_rank(b)) {
            ranked.push((host_rank(&group[0]), Route { hosts: group.to_vec(), ..route.clone() }));
        }
    }
    let path_rank = |route: &Route| usize::MAX - route.path_prefix.as_ref().map_or(0, String::len);
    ranked.sort_by_key(|(host, route)| (*host, path_rank(route), route.alpn.is_empty()));
    ranked.into_iter().map(|(_, route)| route).chain(own).collect()
}

/// What a service's own `pool` stands for.
pub(super) fn own_route(pool: Option<usize>, common: &Common<'_>) -> Option<Route> {
    Some(Route {
        name: DEFAULT_ROUTE.into(),
        pool: pool?,
        client_cert: common.client_cert.to_vec(),
        authorizer: common.authorizer,
        compression: common.compression.cloned(),
        ..Route::default()
    })
}

fn host_rank(host: &str) -> (u8, usize) {
    match host.starts_with("*.") {
        true => (1, usize::MAX - host.len()),
        false => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(name: &str, hosts: &[&str], path: Option<&str>) -> Route {
        let hosts = hosts.iter().map(|h| h.to_string()).collect();
        Route { name: name.into(), hosts, path_prefix: path.map(Into::into), ..Route::default() }
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
