//! Forwarded services, the shield and flows as text for people. Pure.

use super::say::{Tone, paint};
use super::table::{ago, section, table, toned};
use crate::admin::api::*;
use crate::datapath::{FlowReason, ForwardHash, ForwardMode};
use std::fmt::Write as _;

pub(super) fn flow(view: &FlowView) -> String {
    let number = |n: Option<u32>| n.map_or("-".into(), |n| n.to_string());
    let Some(service) = &view.service else { return "the destination is no service\n".into() };
    let to = match (view.backend, view.reason) {
        (Some(backend), _) => format!("backend {backend}"),
        (None, Some(FlowReason::NoBackend)) => "no backend".into(),
        _ => format!("worker {}, CPU {}", number(view.worker), number(view.cpu)),
    };
    let hash = view.hash.map_or("-".into(), |hash| format!("{hash:#010x}"));
    let why = match view.reason {
        None => String::new(),
        Some(reason) => format!("; {}", because(reason)),
    };
    format!("service {service}: {to} (hash {hash}, slot {}){why}\n", number(view.slot))
}

fn because(reason: FlowReason) -> &'static str {
    match reason {
        FlowReason::Steered => "the flow's hash chose it",
        FlowReason::Settled => "its slot is settled: every flow in it goes there",
        FlowReason::Moved => "its slot has moved: a flow that begins now goes there",
        FlowReason::Remembered => "the flow is remembered, and keeps the backend that it began with",
        FlowReason::NoBackend => "no backend may be chosen",
    }
}

/// What only a forwarded service has.
pub(super) fn forward(row: &ServiceRow, view: &ForwardView) -> String {
    let protocols: Vec<String> = row.protocols.iter().map(ToString::to_string).collect();
    let forward = match view.forward {
        ForwardMode::Nat => "nat",
        ForwardMode::Ipip => "ipip",
        ForwardMode::L2 => "l2",
    };
    let hash = match view.hash {
        ForwardHash::Flow => "flow",
        ForwardHash::Source => "source",
        ForwardHash::SourceDestination => "source and destination",
    };
    let mut out = format!("{} by {forward} to pool {}, hash of {hash}", protocols.join(", "), view.pool);
    if let Some(mtu) = view.outer_mtu {
        let _ = write!(out, ", outer MTU {mtu}");
    }
    let _ = writeln!(out, "; drain {}, UDP idle {}", ago(view.drain_seconds), ago(view.udp_idle_seconds));
    let _ = writeln!(out, "ring {} slots, {} moved, {} watched", view.slots, view.moved, view.watched);
    let _ = writeln!(
        out,
        "flows remembered {}, evicted {}; packets of dead flows {}",
        view.remembered, view.evicted, view.dead
    );
    section(&mut out, backends(&view.backends.iter().collect::<Vec<_>>()));
    out
}

/// What backends get from forwarded services.
pub(super) fn backends(views: &[&ForwardedView]) -> String {
    let cells = views.iter().map(|view| {
        let tone = if view.trouble.is_some() { Tone::Bad } else { Tone::Plain };
        let cells = vec![
            view.service.clone(),
            view.address.to_string(),
            format!("{:.1}%", view.share_percent),
            view.packets.to_string(),
            view.bytes.to_string(),
            view.flows.to_string(),
            view.trouble.clone().unwrap_or_default(),
        ];
        (tone, cells)
    });
    toned(&["SERVICE", "BACKEND", "SHARE", "PACKETS", "BYTES", "FLOWS", "TROUBLE"], cells)
}

/// Limits and verdicts of a service.
pub(super) fn shield(view: &ServiceView) -> String {
    let mut out = String::new();
    if let Some(limits) = &view.limits {
        let rates = [
            ("packets of a source", limits.source_packets),
            ("connections of a source", limits.source_connections),
            ("packets", limits.packets),
            ("connections", limits.connections),
        ];
        let rates = rates.iter().filter_map(|(what, rate)| {
            let rate = (*rate)?;
            Some(format!("{what} {}/s (burst {})", rate.rate, rate.burst))
        });
        let rates: Vec<String> = rates.collect();
        if !rates.is_empty() {
            let (v4, v6) = (limits.source_prefix_v4, limits.source_prefix_v6);
            let _ = writeln!(out, "limits: {}; a source is a /{v4} or an IPv6 /{v6}", rates.join(", "));
        }
        let flood = limits.syn_flood.map(|f| format!(" (from {} SYNs/s until {}/s)", f.on, f.off)).unwrap_or_default();
        if view.forward.is_none() {
            let now = if view.flooded { paint(Tone::Warning, ", in force NOW") } else { String::new() };
            let _ = writeln!(out, "SYN cookies {}{flood}{now}", limits.syn_cookies);
        }
    }
    let cells = view.verdicts.iter().map(|verdict| {
        vec![
            verdict.verdict.clone(),
            if verdict.dropped { "dropped".into() } else { String::new() },
            verdict.packets.to_string(),
            verdict.bytes.to_string(),
        ]
    });
    section(&mut out, table(&["VERDICT", "", "PACKETS", "BYTES"], cells));
    out
}

pub(super) fn rules(rules: &Rules) -> String {
    let cells = rules.rules.iter().map(|rule| {
        vec![
            rule.network.to_string(),
            rule.action.clone(),
            rule.service.clone().unwrap_or_else(|| "every".into()),
            if rule.origin == "file" { "file".into() } else { "run time".into() },
            rule.seconds_left.map(ago).unwrap_or_default(),
        ]
    });
    let mut out = table(&["NETWORK", "ACTION", "SERVICE", "FROM", "LEFT"], cells);
    let _ = match rules.total - rules.rules.len().min(rules.total) {
        0 => writeln!(out, "{} rules", rules.total),
        more => writeln!(out, "and {more} more; {} rules", rules.total),
    };
    out
}

/// One line of what is told live.
pub(super) fn seen(line: &WatchLine) -> String {
    match line {
        WatchLine::Lost { lost } => paint(Tone::Warning, &format!("({lost} events lost: this watcher was too slow)")),
        WatchLine::Seen(seen) => format!(
            "{} {} ({}) {} -> {} {} {} {} bytes",
            utc(seen.unix_ms),
            seen.verdict,
            seen.reason,
            seen.source,
            seen.destination,
            seen.protocol,
            seen.service.as_deref().unwrap_or("-"),
            seen.bytes
        ),
    }
}

/// RFC 3339 in UTC.
fn utc(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }
}
