//! `[service.NAME]` and its routes.

use super::forward;
use super::model::DatapathKind;
use super::pool::DEADLINE;
use super::problem::{Problem, Problems};
use super::refs::Refs;
use super::scalar;
use super::section::{At, Section, string};
use super::shield;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use tls_worker::api::{
    ClientTimeouts, ListenAddress, Mode, Protocol, Route, ServerTls, Service, SniPolicy, TlsVersion,
};
use toml_span::Value;

/// Name of the route to a service's own pool, in metrics.
pub const DEFAULT_ROUTE: &str = "default";
/// Most routes of a service.
const MAX_ROUTES: usize = 1024;

/// A terminated service and where its addresses stand, for [`super::check`].
pub(super) struct Terminated {
    pub(super) service: Service,
    pub(super) places: Vec<At<ListenAddress>>,
}

/// A service of either kind.
pub(super) enum Kind {
    Terminated(Terminated),
    Forwarded(forward::Parsed),
}

/// What a table says: the service, where it could be read, and its shield.
pub(super) struct Parsed {
    pub(super) name: String,
    pub(super) kind: Option<Kind>,
    pub(super) shield: shield::Parsed,
}

/// Tables that services point to, and where the text stands.
pub(super) struct Around<'a> {
    pub(super) datapath: DatapathKind,
    pub(super) dir: &'a Path,
    pub(super) certificates: Refs,
    pub(super) pools: Refs,
}

pub(super) fn service(
    name: &At<String>,
    mut section: Section<'_>,
    p: &mut Problems,
    around: &mut Around<'_>,
) -> Parsed {
    let words = [("http", Some(Mode::Http)), ("https", Some(Mode::Https)), ("l4", None)];
    let mode = section.choice(p, "mode", &words);
    if !section.has("mode") {
        section.missing("mode", "write mode = \"https\", mode = \"http\" or mode = \"l4\"");
    }
    let terminated = mode != Some(None);
    let shield = section.section(p, "shield");
    let shield = shield::service(shield, p, around.dir, around.datapath, terminated);
    let kind = if terminated {
        self::terminated(name, &mut section, p, mode.flatten(), around).map(Kind::Terminated)
    } else {
        forward::forward(name, &mut section, p, around.datapath, &mut around.pools).map(Kind::Forwarded)
    };
    section.finish(p);
    Parsed { name: name.value.clone(), kind, shield }
}

fn terminated(
    name: &At<String>,
    section: &mut Section<'_>,
    p: &mut Problems,
    mode: Option<Mode>,
    around: &mut Around<'_>,
) -> Option<Terminated> {
    let places = addresses(section, p, around.datapath);
    let tls = tls(section, p, mode, &mut around.certificates);
    let pools = &mut around.pools;
    let pool = section.string(p, "pool").and_then(|at| pools.resolve(&at, p));
    let routes = routes(section, p, pools);
    if !section.has("pool") && !section.has("routes") {
        section.missing("pool", &format!("write pool = \"NAME\", or routes as [[service.{}.routes]]", name.value));
    }
    let served_by_header = section.parsed(p, "served_by_header", scalar::header_name).map(|at| at.value);
    let max_connections_per_thread = section.integer(p, "max_connections", 1..=1_000_000).unwrap_or(65_536);
    let timeouts = timeouts(section.section(p, "timeouts"), p);
    forward::refuse_own(section, p);
    Some(Terminated {
        service: Service {
            name: name.value.clone(),
            addresses: places.iter().map(|at| at.value).collect(),
            mode: mode?,
            tls,
            routes: in_order(routes, pool),
            timeouts,
            served_by_header,
            max_connections_per_thread,
        },
        places,
    })
}

fn addresses(section: &mut Section<'_>, p: &mut Problems, datapath: DatapathKind) -> Vec<At<ListenAddress>> {
    let list = section.parsed_list(p, "addresses", scalar::listen_address);
    let span = section.span_of("addresses");
    match &list {
        None if !section.has("addresses") => {
            section.missing("addresses", "write addresses = [\"192.0.2.1:443\"]");
        }
        _ if section.is_empty_list("addresses") => {
            p.push(
                Problem::error(span, format!("{} has no address", section.title))
                    .help("write addresses = [\"192.0.2.1:443\"]"),
            );
        }
        _ => {}
    }
    let list = list.unwrap_or_default();
    for at in &list {
        let sockets = datapath == DatapathKind::Sockets;
        if sockets && at.value.port.is_none() {
            p.push(
                Problem::error(at.span.clone(), "every port of an address cannot be had with datapath = \"sockets\"")
                    .help("write the ports one by one, or use datapath = \"native\" or \"generic\""),
            );
        }
        if !sockets && at.value.address.is_unspecified() {
            p.push(
                Problem::error(at.span.clone(), "the unspecified address works with datapath = \"sockets\" only")
                    .help("write the address that clients connect to"),
            );
        }
    }
    list
}

fn tls(section: &mut Section<'_>, p: &mut Problems, mode: Option<Mode>, certificates: &mut Refs) -> Option<ServerTls> {
    let names = section.list(p, "certificates");
    let certificates: Vec<usize> = names
        .into_iter()
        .flatten()
        .filter_map(|value| {
            let at = string(p, value, "certificates")?;
            certificates.resolve(&at, p)
        })
        .collect();
    let min_version = section.choice(p, "min_tls", &[("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)]);
    let http2 = section.boolean(p, "http2");
    match mode? {
        Mode::Http => {
            for key in ["certificates", "min_tls", "http2"].into_iter().filter(|key| section.has(key)) {
                p.push(
                    Problem::error(section.span_of(key), format!("`{key}` belongs to mode \"https\""))
                        .help(format!("set mode = \"https\", or remove `{key}`")),
                );
            }
            None
        }
        Mode::Https | Mode::Tls | Mode::Passthrough => {
            if !section.has("certificates") || names.is_some_and(|names| names.is_empty()) {
                p.push(
                    Problem::error(section.span_of("certificates"), format!("{} has no certificate", section.title))
                        .help(
                            "mode \"https\" needs one: write certificates = [\"NAME\"] and a table [certificate.NAME]",
                        ),
                );
            }
            let protocol = Protocol { min_version: min_version.unwrap_or(TlsVersion::V12), ..Protocol::default() };
            let alpn = if http2.unwrap_or(true) { &["h2", "http/1.1"][..] } else { &["http/1.1"] };
            Some(ServerTls {
                policies: vec![SniPolicy { certificates, protocol, ..SniPolicy::default() }],
                strict_sni: false,
                alpn: alpn.iter().map(ToString::to_string).collect(),
            })
        }
    }
}

fn timeouts(section: Option<Section<'_>>, p: &mut Problems) -> ClientTimeouts {
    let mut section = section.unwrap_or_else(|| Section::absent("timeouts"));
    let mut deadline =
        |key, default| section.duration(p, key, DEADLINE).unwrap_or_else(|| Duration::from_secs(default));
    let timeouts = ClientTimeouts {
        handshake: deadline("handshake", 10),
        header: deadline("header", 10),
        idle: deadline("idle", 180),
    };
    section.finish(p);
    timeouts
}

fn routes(section: &mut Section<'_>, p: &mut Problems, pools: &mut Refs) -> Vec<Route> {
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
        let Some((span, route)) = route(place + 1, value, p, pools) else { continue };
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

fn route(number: usize, value: &Value<'_>, p: &mut Problems, pools: &mut Refs) -> Option<(Range<usize>, Route)> {
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
    let (name, span) = match name {
        Some(at) => (at.value, at.span),
        None => (number.to_string(), section.span.clone()),
    };
    section.finish(p);
    Some((
        span,
        Route {
            name,
            hosts: hosts.into_iter().map(|at| at.value).collect(),
            path_prefix,
            alpn: Vec::new(),
            pool: pool?,
            client_cert: Vec::new(),
        },
    ))
}

/// Routes in the order of matching: exact host before wildcard before none, the longer wildcard first, then the
/// longer path. A route whose hosts are of different rank stands there once for each rank.
fn in_order(routes: Vec<Route>, pool: Option<usize>) -> Vec<Route> {
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
    ranked.sort_by_key(|(host, route)| (*host, path_rank(route)));
    let own = pool.map(|pool| Route {
        name: DEFAULT_ROUTE.into(),
        hosts: Vec::new(),
        path_prefix: None,
        alpn: Vec::new(),
        pool,
        client_cert: Vec::new(),
    });
    ranked.into_iter().map(|(_, route)| route).chain(own).collect()
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
        Route {
            name: name.into(),
            hosts,
            path_prefix: path.map(Into::into),
            alpn: Vec::new(),
            pool: 0,
            client_cert: Vec::new(),
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
            ],
            Some(7),
        );
        let names: Vec<_> = order.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["deep", "mixed", "mixed", "wild", "api", "all", "default"]);
        assert_eq!(order[2].hosts, ["*.a.example.com"]);
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
