//! `[pool.NAME]` with `tls`.

use super::backends::{self, Backends};
use super::files::Files;
use super::health;
use super::host::Host;
use super::http::{balancing, persistence, resilience};
use super::model::{DRAIN_TIMEOUT, Pool};
use super::problem::{Problem, Problems};
use super::scalar;
use super::section::{At, Section, integer, parsed};
use super::tls::upstream::{self, Certificates};
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use tls_worker::api::{BackendTimeouts, ProxyVersion};
use toml_span::value::ValueInner;

/// What a deadline may be.
pub(super) const DEADLINE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
/// What the time of a drain may be; 0: what is in flight is cut at once.
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// A pool, and where the words stand that not every service goes with.
pub(super) struct Parsed {
    pub(super) pool: Pool,
    pub(super) proxy: Range<usize>,
    pub(super) alpn: Range<usize>,
    pub(super) hash_key: Range<usize>,
    pub(super) sessions: Range<usize>,
}

pub(super) fn pool(
    name: &At<String>,
    mut section: Section<'_>,
    problems: &mut Problems,
    host: &Host,
    files: &mut Files<'_>,
    certificates: &mut Certificates<'_>,
) -> Parsed {
    let p = problems;
    let found = backends::backends(&mut section, &name.value, p);
    let (balance, balancing) = balancing::balancing(&mut section, p);
    balancing::check_roles(&section, &found, balancing.min_up, p);
    let Backends { addresses: backends, roles, marks, names } = found;
    let max_idle = section.integer(p, "max_idle", 0..=65_536).unwrap_or(64);
    let timeouts = timeouts(section.section(p, "timeouts"), p);
    let tls_section = section.section(p, "tls");
    let alpn = tls_section.as_ref().map_or(section.span.clone(), |tls| tls.span_of("alpn"));
    let tls = tls_section.map(|section| upstream::tls(section, p, files, certificates));
    let proxy_version = section.choice(p, "proxy_protocol", &[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)]);
    let persistence_section = section.section(p, "persistence");
    let sessions = persistence_section.as_ref().map_or(section.span.clone(), |s| s.span.clone());
    let persistence = persistence_section.and_then(|section| persistence::persistence(section, name, p, files));
    let drain_timeout = section.duration(p, "drain_timeout", DRAIN).unwrap_or_else(|| {
        // Clients are kept no longer than what they are kept for.
        persistence.as_ref().map_or(DRAIN_TIMEOUT, |persistence| persistence.drain_timeout.max(DRAIN_TIMEOUT))
    });
    let multiplex = balancing::multiplex(&mut section, p, tls.is_some());
    let of = health::Of { tls: tls.as_ref(), h2c: multiplex.h2c, proxy_version, host };
    let health = section.section(p, "health").and_then(|one| health::health(one, &of, p, files, certificates));
    let limits = balancing::limits(section.section(p, "limits"), p);
    let (retry, retry_budget) = resilience::of_pool(section.section(p, "retry"), p);
    let hedge = resilience::hedge(&mut section, p);
    let outliers = resilience::outliers(section.section(p, "outliers"), p);
    let (proxy, hash_key) = (section.span_of("proxy_protocol"), section.span_of("hash_key"));
    section.finish(p);
    let pool = Pool {
        name: name.value.clone(),
        backends,
        names,
        found: BTreeMap::new(),
        roles,
        marks,
        balance,
        balancing,
        limits,
        multiplex,
        retry,
        retry_budget,
        hedge,
        outliers,
        max_idle,
        timeouts,
        tls,
        proxy_version,
        persistence,
        drain_timeout,
        health,
    };
    Parsed { pool, proxy, alpn, hash_key, sessions }
}

fn timeouts(section: Option<Section<'_>>, p: &mut Problems) -> BackendTimeouts {
    let mut section = section.unwrap_or_else(|| Section::absent("timeouts"));
    let mut deadline =
        |key, default| section.duration(p, key, DEADLINE).unwrap_or_else(|| Duration::from_secs(default));
    let timeouts = BackendTimeouts {
        connect: deadline("connect", 5),
        response: deadline("response", 60),
        idle: deadline("idle", 360),
        keepalive: deadline("keepalive", 60),
    };
    section.finish(p);
    timeouts
}

pub(super) fn codes(section: &mut Section<'_>, p: &mut Problems, key: &'static str) -> Vec<(u16, u16)> {
    let Some(list) = section.list(p, key) else { return vec![(200, 399)] };
    if list.is_empty() {
        p.push(
            Problem::error(section.span_of(key), "no code would be good")
                .help(format!("write [200] or [\"200-399\"], or leave `{key}` out")),
        );
    }
    list.iter()
        .filter_map(|value| match value.as_ref() {
            ValueInner::Integer(_) => integer(p, value, key, 100..=599).map(|code| (code as u16, code as u16)),
            _ => parsed(p, value, key, scalar::code_range).map(|at| at.value),
        })
        .collect()
}
