//! Words of `[pool.NAME]` that say how its requests are spread, and `[pool.NAME.limits]`.

use super::super::backends::Backends;
use super::super::problem::{Problem, Problems};
use super::super::scalar::Wrong;
use super::super::section::Section;
use std::ops::RangeInclusive;
use std::time::Duration;
use tls_worker::api::vars::Template;
use tls_worker::api::{BackendRole, Balance, Balancing, Multiplex, PoolLimits};

const SLOW_START: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const QUEUE_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
/// What a bound of connections or requests may be.
const BOUND: RangeInclusive<u32> = 1..=10_000_000;

const WORDS: [(&str, Balance); 6] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("least_requests", Balance::LeastRequests),
    ("peak_ewma", Balance::PeakEwma),
    ("random", Balance::Random),
    ("hash", Balance::Hash),
];

/// `balance` and what belongs to it.
pub(in crate::config) fn balancing(section: &mut Section<'_>, p: &mut Problems) -> (Balance, Balancing) {
    let balance = section.choice(p, "balance", &WORDS).unwrap_or_default();
    let hash_key = section.parsed(p, "hash_key", key).map(|at| at.value);
    let bounded_load = section.integer(p, "bounded_load", 100..=1000).map(|percent| percent as u16);
    if balance != Balance::Hash {
        for key in ["hash_key", "bounded_load"].into_iter().filter(|key| section.has(key)) {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` belongs to balance = \"hash\""))
                    .help(format!("set balance = \"hash\", or remove `{key}`")),
            );
        }
    }
    let slow_start = section.duration(p, "slow_start", SLOW_START).unwrap_or_default();
    if slow_start > Duration::ZERO && balance == Balance::Hash {
        p.push(
            Problem::error(section.span_of("slow_start"), "`slow_start` does not go with balance = \"hash\"")
                .help("a key goes to its backend from the start: remove `slow_start`"),
        );
    }
    let panic_percent = section.integer(p, "panic_threshold", 0..=100).unwrap_or(0) as u8;
    let min_up = section.integer(p, "min_up", 1..=1024).unwrap_or(1);
    (balance, Balancing { hash_key, bounded_load, slow_start, panic_percent, min_up })
}

fn key(text: &str) -> Result<String, Wrong> {
    let template = Template::parse(text).map_err(|e| Wrong::new(format!("{text:?}: {}", e.problem), e.help))?;
    if template.uses_response() {
        return Err(Wrong::new(
            format!("{text:?} asks for what is known only after a backend was chosen"),
            "write what the request has, such as \"${cookie('id')}\"",
        ));
    }
    if template.constant().is_some() {
        return Err(Wrong::new(
            format!("{text:?} is the same for every request: all would go to one backend"),
            "write a variable, such as \"${client.ip}\" or \"${request.path}\"",
        ));
    }
    Ok(text.to_owned())
}

/// What a backend is to its pool, from its own table.
pub(in crate::config) fn role(section: &mut Section<'_>, p: &mut Problems) -> BackendRole {
    let role = BackendRole {
        backup: section.boolean(p, "backup").unwrap_or(false),
        priority: section.integer(p, "priority", 0..=255).unwrap_or(0) as u8,
        max_connections: section.integer(p, "max_connections", BOUND),
        max_requests: section.integer(p, "max_requests", BOUND),
    };
    if role.backup && section.has("priority") {
        p.push(
            Problem::error(section.span_of("priority"), "a backup has no priority: it goes after all of them")
                .help("remove `backup` or `priority`"),
        );
    }
    role
}

/// What only shows when all backends are seen: `roles` are those that have something special, of so many.
pub(in crate::config) fn check_roles(section: &Section<'_>, found: &Backends, min_up: u32, p: &mut Problems) {
    let backups = found.roles().filter(|role| role.backup).count();
    let backends = found.len();
    if backends > 0 && backups == backends {
        p.push(
            Problem::warning(section.span_of("backends"), "every backend is a backup")
                .help("remove `backup` from those that are to serve first"),
        );
    } else if section.has("min_up") && min_up as usize > backends && found.names.is_empty() {
        p.push(
            Problem::warning(section.span_of("min_up"), format!("`min_up` is {min_up}, of {backends} backends"))
                .help("every priority takes part always: lower it, or leave it out"),
        );
    }
}

/// HTTP/2 towards backends. `tls`: whether the pool has TLS.
pub(in crate::config) fn multiplex(section: &mut Section<'_>, p: &mut Problems, tls: bool) -> Multiplex {
    let h2c = section.choice(p, "protocol", &[("auto", false), ("h2c", true)]).unwrap_or(false);
    if h2c && tls {
        p.push(
            Problem::error(section.span_of("protocol"), "\"h2c\" is HTTP/2 in clear text, and this pool has TLS")
                .help("remove `protocol`, and write alpn = [\"h2\"] in the pool's `tls`"),
        );
    }
    let max_streams = section.integer(p, "max_streams", 1..=10_000).unwrap_or(Multiplex::default().max_streams);
    Multiplex { h2c, max_streams }
}

/// `[pool.NAME.limits]`
pub(in crate::config) fn limits(section: Option<Section<'_>>, p: &mut Problems) -> PoolLimits {
    let default = PoolLimits::default();
    let Some(mut section) = section else { return default };
    let limits = PoolLimits {
        max_connections: section.integer(p, "max_connections", BOUND),
        max_requests: section.integer(p, "max_requests", BOUND),
        max_pending: section.integer(p, "max_pending", BOUND),
        queue: section.integer(p, "queue", 0..=1_000_000).unwrap_or(default.queue),
        queue_timeout: section.duration(p, "queue_timeout", QUEUE_TIMEOUT).unwrap_or(default.queue_timeout),
    };
    if limits.queue == 0 && section.has("queue_timeout") {
        p.push(
            Problem::error(section.span_of("queue_timeout"), "without a queue nobody waits in it")
                .help("raise `queue`, or remove `queue_timeout`"),
        );
    }
    section.finish(p);
    limits
}
