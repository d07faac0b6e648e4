//! `retry` of pools and routes, `[pool.NAME.outliers]`.

use super::super::problem::{Problem, Problems};
use super::super::scalar::Wrong;
use super::super::section::{Section, integer, parsed};
use std::ops::RangeInclusive;
use std::time::Duration;
use tls_worker::api::{Hedge, Outliers, Retry, RetryBudget, RetryOn};
use toml_span::value::ValueInner;

const TRY_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);
const HEDGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const EJECTION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const MAX_BUFFER: u32 = 16 << 20;

const ON: [(&str, RetryOn); 4] = [
    ("connect", RetryOn::Connect),
    ("refused", RetryOn::Refused),
    ("reset", RetryOn::Reset),
    ("timeout", RetryOn::Timeout),
];

/// `[pool.NAME.retry]`, with its budget.
pub(in crate::config) fn of_pool(section: Option<Section<'_>>, p: &mut Problems) -> (Retry, RetryBudget) {
    let Some(mut section) = section else { return (Retry::default(), RetryBudget::default()) };
    let default = RetryBudget::default();
    let budget = RetryBudget {
        percent: section.integer(p, "budget", 0..=100).map_or(default.percent, |percent| percent as u8),
        per_second: section.integer(p, "budget_per_second", 0..=1_000_000).unwrap_or(default.per_second),
    };
    (retry(section, p), budget)
}

/// `retry` of a route.
pub(in crate::config) fn of_route(section: Option<Section<'_>>, p: &mut Problems) -> Option<Retry> {
    section.map(|section| retry(section, p))
}

fn retry(mut section: Section<'_>, p: &mut Problems) -> Retry {
    let default = Retry::default();
    let tries = section.integer(p, "tries", 1..=10).unwrap_or(default.tries);
    let listed = on(&mut section, p);
    let methods = [("idempotent", false), ("any", true)];
    let any_method = section.choice(p, "methods", &methods).unwrap_or(false);
    let try_timeout = section.duration(p, "try_timeout", TRY_TIMEOUT);
    let buffer = section.size(p, "buffer", 0..=MAX_BUFFER).unwrap_or(0);
    let (on, codes) = listed.unwrap_or((default.on, default.codes));
    let after_sending = !codes.is_empty() || on.contains(&RetryOn::Reset) || on.contains(&RetryOn::Timeout);
    if tries == 1 && section.has("on") {
        p.push(
            Problem::error(section.span_of("on"), "with one try nothing is tried again")
                .help("write tries = 2 or more, or remove `on`"),
        );
    } else if tries > 1 && on.is_empty() && codes.is_empty() {
        p.push(
            Problem::error(section.span_of("on"), "nothing is a reason to try again")
                .help("write on = [\"connect\", \"refused\"], or tries = 1"),
        );
    }
    if !after_sending {
        for key in ["buffer", "methods"].into_iter().filter(|key| section.has(key)) {
            p.push(
                Problem::warning(section.span_of(key), format!("`{key}` is of no use here"))
                    .help("what no backend took is sent again anyway; add \"reset\", \"timeout\" or codes to `on`"),
            );
        }
    } else if any_method {
        p.push(
            Problem::warning(section.span_of("methods"), "a POST may be done twice")
                .help("leave `methods` out, unless the backends see to that"),
        );
    }
    section.finish(p);
    Retry { tries, on, codes, any_method, try_timeout, buffer }
}

/// Words and codes.
fn on(section: &mut Section<'_>, p: &mut Problems) -> Option<(Vec<RetryOn>, Vec<u16>)> {
    let (mut words, mut codes) = (Vec::new(), Vec::new());
    for value in section.list(p, "on")? {
        if let ValueInner::Integer(_) = value.as_ref() {
            codes.extend(integer(p, value, "on", 400..=599).map(|code| code as u16));
            continue;
        }
        let word = |text: &str| {
            ON.iter().find(|(word, _)| *word == text).map(|(_, on)| *on).ok_or_else(|| {
                Wrong::new(
                    format!("{text:?} is no reason to try again"),
                    "write \"connect\", \"refused\", \"reset\", \"timeout\", or a code such as 503",
                )
            })
        };
        words.extend(parsed(p, value, "on", word).map(|at| at.value));
    }
    Some((words, codes))
}

/// `hedge_after` of a pool.
pub(in crate::config) fn hedge(section: &mut Section<'_>, p: &mut Problems) -> Option<Hedge> {
    section.duration(p, "hedge_after", HEDGE).map(|after| Hedge { after })
}

/// `[pool.NAME.outliers]`
pub(in crate::config) fn outliers(section: Option<Section<'_>>, p: &mut Problems) -> Option<Outliers> {
    let mut section = section?;
    let default = Outliers::default();
    // 0 switches one off.
    let mut row = |key, default: Option<u32>| match section.integer(p, key, 0..=10_000) {
        Some(0) => None,
        Some(count) => Some(count),
        None => default,
    };
    let errors = row("errors", default.errors);
    let gateway_errors = row("gateway_errors", default.gateway_errors);
    let connect_failures = row("connect_failures", default.connect_failures);
    let stdev_factor = row("stdev_factor", default.stdev_factor);
    let outliers = Outliers {
        errors,
        gateway_errors,
        connect_failures,
        stdev_factor,
        min_requests: section.integer(p, "min_requests", 1..=1_000_000).unwrap_or(default.min_requests),
        interval: section.duration(p, "interval", EJECTION).unwrap_or(default.interval),
        ejection: section.duration(p, "ejection", EJECTION).unwrap_or(default.ejection),
        max_ejection: section.duration(p, "max_ejection", EJECTION).unwrap_or(default.max_ejection),
        max_percent: section.integer(p, "max_percent", 0..=100).map_or(default.max_percent, |percent| percent as u8),
    };
    if errors.or(gateway_errors).or(connect_failures).or(stdev_factor).is_none() {
        p.push(
            Problem::error(section.span.clone(), "nothing makes a backend an outlier")
                .help("set one of `errors`, `gateway_errors`, `connect_failures`, `stdev_factor`, or remove the table"),
        );
    }
    if outliers.max_ejection < outliers.ejection {
        let key = if section.has("max_ejection") { "max_ejection" } else { "ejection" };
        p.push(
            Problem::error(section.span_of(key), "`max_ejection` is shorter than `ejection`")
                .help("write a `max_ejection` that is at least as long"),
        );
    }
    section.finish(p);
    Some(outliers)
}
