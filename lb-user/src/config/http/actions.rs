//! What a route does with the requests that it takes.

use super::super::pool::DEADLINE;
use super::super::problem::{Problem, Problems};
use super::super::refs::Refs;
use super::super::scalar;
use super::super::section::{At, Section, integer};
use super::headers::changes;
use super::limits;
use super::redirect::{new_path, redirect, respond};
use super::text::When;
use std::time::Duration;
use tls_worker::api::{EdgeAnswer, HeaderAction, Mirror, PathMatch, PoolShare, Rewrite};

/// Where requests may go, one of which a route has.
const WAYS: [&str; 4] = ["pool", "pools", "redirect", "respond"];
/// Keys of what is done for a backend.
const OF_BACKENDS: [&str; 6] =
    ["mirror", "rewrite", "request_headers", "timeout", "response_timeout", "client_cert_headers"];

/// What a route does.
pub(in crate::config) struct Actions {
    pub(in crate::config) pool: usize,
    pub(in crate::config) split: Vec<PoolShare>,
    pub(in crate::config) answer: Option<EdgeAnswer>,
    pub(in crate::config) mirror: Option<Mirror>,
    pub(in crate::config) rewrite: Rewrite,
    pub(in crate::config) request_headers: Vec<HeaderAction>,
    pub(in crate::config) response_headers: Vec<HeaderAction>,
    pub(in crate::config) max_body: Option<u64>,
    pub(in crate::config) timeout: Option<Duration>,
    pub(in crate::config) response_timeout: Option<Duration>,
}

impl Actions {
    /// Read the keys; the caller finishes the section. None: where requests go could not be read.
    pub(in crate::config) fn read(
        section: &mut Section<'_>,
        matched: &PathMatch,
        pools: &mut Refs,
        p: &mut Problems,
    ) -> Option<Actions> {
        let pool = section.string(p, "pool").and_then(|at| pools.resolve(&at, p));
        let split = split(section, pools, p);
        let answer = redirect(section, matched, p);
        let answer = answer.or(respond(section, p));
        let actions = Actions {
            pool: pool.or(split.first().map(|share| share.pool)).unwrap_or_default(),
            mirror: mirror(section, pools, p),
            rewrite: rewrite(section, matched, p),
            request_headers: changes(section, "request_headers", When::Request, p),
            response_headers: changes(section, "response_headers", When::Answer, p),
            max_body: limits::body(section, p),
            timeout: section.duration(p, "timeout", DEADLINE),
            response_timeout: section.duration(p, "response_timeout", DEADLINE),
            split,
            answer,
        };
        let ways: Vec<&str> = WAYS.into_iter().filter(|way| section.has(way)).collect();
        match ways[..] {
            [] => section.missing("pool", "write pool = \"NAME\"; or `pools`, `redirect` or `respond`"),
            [first, second, ..] => p.push(
                Problem::error(section.span_of(second), format!("a route with `{first}` has no `{second}`"))
                    .label("second")
                    .also(section.span_of(first), "first")
                    .help("keep one of them; what is to go both ways makes two routes"),
            ),
            [one @ ("redirect" | "respond")] => {
                for key in OF_BACKENDS.into_iter().filter(|key| section.has(key)) {
                    p.push(
                        Problem::error(section.span_of(key), format!("`{key}` is for backends, and `{one}` asks none"))
                            .also(section.span_of(one), "the edge answers")
                            .help(format!("remove `{key}`, or give the route a pool in place of `{one}`")),
                    );
                }
            }
            _ => {}
        }
        let known = pool.is_some() || !actions.split.is_empty() || actions.answer.is_some();
        known.then_some(actions)
    }
}

/// `pools = { stable = 95, canary = 5 }`.
fn split(section: &mut Section<'_>, pools: &mut Refs, p: &mut Problems) -> Vec<PoolShare> {
    let Some(inner) = section.section(p, "pools") else { return Vec::new() };
    let mut shares = Vec::new();
    let entries = inner.entries();
    for (name, value) in &entries {
        let pool = pools.resolve(&At { value: name.value, span: name.span.clone() }, p);
        let weight = integer(p, value, name.value, 0..=65535);
        if let (Some(pool), Some(weight)) = (pool, weight) {
            shares.push(PoolShare { pool, weight: weight as u16 });
        }
    }
    if shares.len() == entries.len() && shares.iter().all(|share| share.weight == 0) {
        p.push(
            Problem::error(section.span_of("pools"), "no pool has a share: no request could be answered")
                .help("write { stable = 95, canary = 5 }; a share may be 0, not all of them"),
        );
    }
    shares
}

fn mirror(section: &mut Section<'_>, pools: &mut Refs, p: &mut Problems) -> Option<Mirror> {
    let mut inner = section.section(p, "mirror")?;
    let pool = inner.string(p, "pool").and_then(|at| pools.resolve(&at, p));
    if !inner.has("pool") {
        inner.missing("pool", "write mirror = { pool = \"NAME\" }");
    }
    let percent = inner.integer(p, "percent", 1..=100).unwrap_or(100) as u8;
    let max_body = inner.size(p, "max_body", 0..=16 << 20).unwrap_or(64 << 10);
    let max_in_flight = inner.integer(p, "max_in_flight", 1..=65_536).unwrap_or(64);
    let timeout = inner.duration(p, "timeout", DEADLINE).unwrap_or(Duration::from_secs(10));
    inner.finish(p);
    Some(Mirror { pool: pool?, percent, max_body, max_in_flight, timeout })
}

fn rewrite(section: &mut Section<'_>, matched: &PathMatch, p: &mut Problems) -> Rewrite {
    let Some(mut inner) = section.section(p, "rewrite") else { return Rewrite::default() };
    let rewrite = Rewrite {
        host: inner.parsed(p, "host", scalar::host_header).map(|at| at.value),
        path: new_path(&mut inner, matched, p),
        keep_locations: inner.boolean(p, "locations") == Some(false),
        keep_cookies: inner.boolean(p, "cookies") == Some(false),
    };
    if inner.entries().is_empty() {
        let problem = Problem::error(section.span_of("rewrite"), "`rewrite` changes nothing");
        p.push(problem.help("name `host`, or one of `path`, `path_prefix` and `path_regex`"));
    }
    inner.finish(p);
    rewrite
}
