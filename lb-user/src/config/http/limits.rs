//! `[service.NAME.http]`: the policy of paths, and what clients may send.

use super::super::problem::{Problem, Problems};
use super::super::scalar::Wrong;
use super::super::section::Section;
use std::ops::RangeInclusive;
use std::time::Duration;
use tls_worker::api::{ClientTimeouts, Http2Limits, HttpLimits, Mode, PathPolicy, PathRule};
use toml_span::value::ValueInner;

const HEADER: RangeInclusive<u32> = 1 << 10..=1 << 20;
const URI: RangeInclusive<u32> = 64..=60 << 10;
const FRAMES: RangeInclusive<u32> = 1..=1_000_000;
const DAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 86_400);
/// A wait is looked at once so often, at least.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// What a service says of requests.
pub(in super::super) fn http(
    service: &mut Section<'_>,
    p: &mut Problems,
    mode: Option<Mode>,
    timeouts: &ClientTimeouts,
) -> (PathPolicy, HttpLimits) {
    let span = service.span_of("http");
    let Some(mut section) = service.section(p, "http") else { return Default::default() };
    if matches!(mode, Some(Mode::Tls | Mode::Passthrough | Mode::Tcp)) {
        p.push(
            Problem::error(span, format!("{} has no requests", service.title))
                .help("`http` is for mode = \"http\" and \"https\": remove it"),
        );
    }
    let mut path = section.section(p, "path").unwrap_or_else(|| Section::absent("path"));
    let policy = policy(&mut path, p);
    path.finish(p);
    let mut h2 = section.section(p, "h2").unwrap_or_else(|| Section::absent("h2"));
    let http2 = http2(&mut h2, p);
    h2.finish(p);
    let limits = limits(&mut section, p, http2);
    impossible(&section, &limits, timeouts, p);
    section.finish(p);
    (policy, limits)
}

fn policy(section: &mut Section<'_>, p: &mut Problems) -> PathPolicy {
    let words = [("normalize", PathRule::Normalize), ("reject", PathRule::Reject), ("keep", PathRule::Keep)];
    let default = PathPolicy::default();
    PathPolicy {
        dot_segments: section.choice(p, "dot_segments", &words).unwrap_or(default.dot_segments),
        double_slashes: section.choice(p, "double_slashes", &words).unwrap_or(default.double_slashes),
        encoded_slashes: section.choice(p, "encoded_slashes", &words).unwrap_or(default.encoded_slashes),
        percent_encoding: section.choice(p, "percent_encoding", &words).unwrap_or(default.percent_encoding),
    }
}

fn limits(section: &mut Section<'_>, p: &mut Problems, http2: Http2Limits) -> HttpLimits {
    let default = HttpLimits::default();
    HttpLimits {
        header_bytes: section.size(p, "max_header_size", HEADER).unwrap_or(default.header_bytes),
        header_fields: section.integer(p, "max_headers", 1..=1000).unwrap_or(default.header_fields),
        uri_bytes: section.size(p, "max_uri", URI).unwrap_or(default.uri_bytes),
        body_bytes: body(section, p).unwrap_or(default.body_bytes),
        body_idle: section.duration(p, "body_timeout", WAIT).unwrap_or(default.body_idle),
        min_rate: section.integer(p, "min_rate", 0..=1_000_000_000).unwrap_or(default.min_rate),
        min_rate_grace: section.duration(p, "min_rate_grace", WAIT).unwrap_or(default.min_rate_grace),
        requests_per_connection: section
            .integer(p, "max_requests", 0..=1_000_000_000)
            .unwrap_or(default.requests_per_connection),
        connection_age: section.duration(p, "max_age", DAYS).unwrap_or(default.connection_age),
        http2,
    }
}

fn http2(section: &mut Section<'_>, p: &mut Problems) -> Http2Limits {
    let default = Http2Limits::default();
    Http2Limits {
        streams: section.integer(p, "max_streams", 1..=10_000).unwrap_or(default.streams),
        stall: section.duration(p, "stall_timeout", DAYS).unwrap_or(default.stall),
        resets: section.integer(p, "max_resets", FRAMES).unwrap_or(default.resets),
        pings: section.integer(p, "max_pings", FRAMES).unwrap_or(default.pings),
        settings: section.integer(p, "max_settings", FRAMES).unwrap_or(default.settings),
        continuations: section.integer(p, "max_continuations", FRAMES).unwrap_or(default.continuations),
        empty_data: section.integer(p, "max_empty_data", FRAMES).unwrap_or(default.empty_data),
        priorities: section.integer(p, "max_priorities", FRAMES).unwrap_or(default.priorities),
        window_updates: section.integer(p, "max_window_updates", FRAMES).unwrap_or(default.window_updates),
    }
}

/// `max_body`: larger than other sizes may be.
pub(super) fn body(section: &mut Section<'_>, p: &mut Problems) -> Option<u64> {
    let value = section.value("max_body")?;
    if let ValueInner::Integer(n) = value.as_ref() {
        let known = u64::try_from(*n).ok();
        if known.is_none() {
            p.push(Problem::error(value.span.into(), "`max_body` is negative").help("write a size, or 0 for no bound"));
        }
        return known;
    }
    section.parsed(p, "max_body", size).map(|at| at.value)
}

fn size(text: &str) -> Result<u64, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let size = unit.and_then(|shift: u32| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    size.ok_or_else(|| Wrong::new(format!("{text:?} is no size"), "write \"10MiB\", \"2GiB\", or a number of bytes"))
}

/// Limits that cannot be reached, or leave nothing.
fn impossible(section: &Section<'_>, limits: &HttpLimits, timeouts: &ClientTimeouts, p: &mut Problems) {
    if limits.uri_bytes >= limits.header_bytes {
        let key = if section.has("max_uri") { "max_uri" } else { "max_header_size" };
        p.push(
            Problem::error(
                section.span_of(key),
                format!("a target of {} bytes does not fit a header of {}", limits.uri_bytes, limits.header_bytes),
            )
            .help("the header holds the target: make `max_header_size` larger than `max_uri`"),
        );
    }
    let grace = limits.min_rate_grace;
    if section.has("min_rate_grace") && limits.min_rate == 0 {
        p.push(
            Problem::error(section.span_of("min_rate_grace"), "a grace of no rate")
                .help("`min_rate` is 0: remove `min_rate_grace`"),
        );
    }
    for (key, wait) in [("body_timeout", limits.body_idle), ("min_rate_grace", grace)] {
        if section.has(key) && wait > timeouts.idle {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` is never reached"))
                    .help(format!("`timeouts.idle` ends the connection after {:?}: make it longer", timeouts.idle)),
            );
        }
    }
}
