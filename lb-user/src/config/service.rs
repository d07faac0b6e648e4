//! `[service.NAME]` and its routes.

use super::files::Files;
use super::host::Host;
use super::http::clients::{Clients, clients};
use super::http::compression::compression;
use super::http::limits;
use super::http::redirect;
use super::model::{Certificate, DatapathKind};
use super::pool::DEADLINE;
use super::problem::{Problem, Problems};
use super::refs::Refs;
use super::routes::{Common, authorizer, in_order, own_route, routes};
use super::section::{At, Section};
use super::tls::client_cert_headers;
use super::tls::policy::Policies;
use super::{forward, scalar, shield, tls};
use std::ops::Range;
use std::time::Duration;
use tls_worker::api::{ClientCertHeader, ClientTimeouts, ListenAddress, Mode, ServerTls, Service};

/// A terminated service and where its addresses stand, for [`super::check`].
pub(super) struct Terminated {
    pub(super) service: Service,
    pub(super) places: Vec<At<ListenAddress>>,
    /// Its name in the text.
    pub(super) span: Range<usize>,
}

/// A service of either kind.
pub(super) enum Kind {
    /// Boxed: it is large.
    Terminated(Box<Terminated>),
    Forwarded(forward::Parsed),
}

/// What a table says: the service, where it could be read, and its shield.
pub(super) struct Parsed {
    pub(super) name: String,
    pub(super) kind: Option<Kind>,
    pub(super) shield: shield::Parsed,
}

/// Tables that services point to, and where the text stands.
pub(super) struct Around<'a, 'f> {
    pub(super) datapath: DatapathKind,
    pub(super) host: &'a Host,
    pub(super) files: &'a mut Files<'f>,
    pub(super) certificates: Refs,
    /// What became of each certificate.
    pub(super) parsed: &'a [Option<Certificate>],
    pub(super) policies: Policies,
    pub(super) pools: Refs,
    pub(super) authorizers: Refs,
    pub(super) access_logs: Refs,
}

pub(super) fn service(
    name: &At<String>,
    mut section: Section<'_>,
    p: &mut Problems,
    around: &mut Around<'_, '_>,
) -> Parsed {
    let ends = [Mode::Http, Mode::Https, Mode::Tls, Mode::Passthrough, Mode::Tcp]
        .map(|mode| (tls::service::word(mode), Some(mode)));
    let words: Vec<_> = ends.into_iter().chain([("l4", None)]).collect();
    let mode = section.choice(p, "mode", &words);
    if !section.has("mode") {
        section.missing("mode", "write mode = \"https\", \"http\", \"tls\", \"passthrough\", \"tcp\" or \"l4\"");
    }
    let terminated = mode != Some(None);
    let shield = section.section(p, "shield");
    let shield = shield::service(shield, p, around.files.prefix_dir(), around.datapath, terminated);
    let kind = if terminated {
        self::terminated(name, &mut section, p, mode.flatten(), around).map(|parsed| Kind::Terminated(Box::new(parsed)))
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
    around: &mut Around<'_, '_>,
) -> Option<Terminated> {
    let places = addresses(section, p, around.datapath);
    let tls = tls::service::tls(section, p, mode, &name.value, around);
    let headers = client_cert_headers(section, p).unwrap_or_default();
    let pools = &mut around.pools;
    let pool = section.string(p, "pool").and_then(|at| pools.resolve(&at, p));
    let alpn = tls.as_ref().map(|tls| tls.alpn.as_slice()).unwrap_or_default();
    let https = redirect::to_https(section, p);
    let asks = |tls: &ServerTls| tls.policies.iter().any(|policy| policy.client_cert.is_some());
    let asks_certificate = mode != Some(Mode::Https) || tls.as_ref().is_none_or(asks);
    let authorizer = authorizer(section, p, None, &mut around.authorizers);
    let compression = compression(section, p, None);
    if let Some(mode) = mode.filter(|mode| !matches!(mode, Mode::Http | Mode::Https)) {
        for key in ["authorizer", "compression", "access_log"].into_iter().filter(|key| section.has(key)) {
            p.push(tls::service::not_here(section, key, &[Mode::Http, Mode::Https], mode));
        }
    }
    let access_log = section.string(p, "access_log").and_then(|at| around.access_logs.resolve(&at, p));
    let common =
        Common { mode, alpn, client_cert: &headers, authorizer, asks_certificate, compression: compression.as_ref() };
    let routes = routes(section, p, &common, pools, &mut around.authorizers);
    let routes = in_order(routes, own_route(pool, https.as_ref().and_then(|(answer, _)| answer.clone()), &common));
    tell_of_headers_without_certificate(&headers, tls.as_ref(), section, p);
    if let (Some((_, span)), true) = (&https, section.has("pool")) {
        p.push(
            Problem::error(section.span_of("pool"), "every request is sent to HTTPS: none comes to this pool")
                .also(span.clone(), "by this")
                .help("remove one of them; what is to be served in clear text makes a route"),
        );
    }
    if !section.has("pool") && !section.has("routes") && https.is_none() {
        section.missing("pool", &format!("write pool = \"NAME\", or routes as [[service.{}.routes]]", name.value));
    }
    let served_by_header = section.parsed(p, "served_by_header", scalar::header_name).map(|at| at.value);
    let max_connections_per_thread = section.integer(p, "max_connections", 1..=1_000_000).unwrap_or(65_536);
    let timeouts = timeouts(section.section(p, "timeouts"), p);
    let (path, limits) = limits::http(section, p, mode, &timeouts);
    let Clients { proxy_header, forwarding, limits: client_limits } = clients(section, p, mode);
    forward::refuse_own(section, p);
    Some(Terminated {
        service: Service {
            name: name.value.clone(),
            addresses: places.iter().map(|at| at.value).collect(),
            mode: mode?,
            tls,
            routes,
            timeouts,
            served_by_header,
            max_connections_per_thread,
            proxy_header,
            forwarding,
            client_limits,
            access_log,
            path,
            limits,
        },
        places,
        span: name.span.clone(),
    })
}

fn tell_of_headers_without_certificate(
    headers: &[ClientCertHeader],
    tls: Option<&ServerTls>,
    section: &Section<'_>,
    p: &mut Problems,
) {
    let asks = |tls: &ServerTls| tls.policies.iter().any(|policy| policy.client_cert.is_some());
    if !headers.is_empty() && tls.is_some_and(|tls| !asks(tls)) {
        p.push(
            Problem::warning(
                section.span_of("client_cert_headers"),
                format!("{} asks no client for a certificate", section.title),
            )
            .help(format!(
                "add a table {}, or remove `client_cert_headers`",
                section.title.replace(']', ".client_cert]")
            )),
        );
    }
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
