//! Answers of the daemon as tables for people. Pure.

use super::say::{Tone, paint};
use super::{table_certificates, table_forward, table_health, table_names};
use crate::admin::api::*;
use comfy_table::{Table, presets};
use std::fmt::Write as _;

pub(super) fn status(status: &Status) -> String {
    let mut out = String::new();
    let health = if status.healthy { paint(Tone::Good, "healthy") } else { paint(Tone::Bad, "UNHEALTHY") };
    let _ = writeln!(
        out,
        "edge {} {}: {health}, generation {}, up {}",
        status.name,
        status.version,
        status.generation,
        ago(status.uptime_seconds)
    );
    for trouble in &status.troubles {
        let _ = writeln!(out, "  {} {trouble}", paint(Tone::Bad, "trouble:"));
    }
    for near in &status.near_bounds {
        let _ = writeln!(out, "  {} {near}", paint(Tone::Warning, "near its bound:"));
    }
    let datapath = &status.datapath;
    let interfaces: Vec<_> = datapath.interfaces.iter().map(|i| format!("{} ({})", i.name, i.mode)).collect();
    let steering = datapath.steering.as_ref().map(|s| format!(", steering {s}")).unwrap_or_default();
    let on = if interfaces.is_empty() { String::new() } else { format!(" on {}", interfaces.join(", ")) };
    let _ = writeln!(out, "datapath {}{on}{steering}", datapath.kind);
    let worker = &status.worker;
    let _ = match (worker.pid, worker.uptime_seconds) {
        (Some(pid), Some(up)) => {
            let (all, adopted) = (worker.processes.len(), worker.processes.iter().any(|process| process.adopted));
            let beside = if all > 1 { format!(" and {} more", all - 1) } else { String::new() };
            let adopted = if adopted { ", adopted" } else { "" };
            writeln!(out, "worker pid {pid}{beside}, up {}{adopted}, restarts {}", ago(up), worker.restarts)
        }
        _ => writeln!(out, "{}, restarts {}", paint(Tone::Bad, "worker down"), worker.restarts),
    };
    if let (Some(error), true) = (&worker.last_error, worker.restarts > 0 || !worker.up) {
        let _ = writeln!(out, "  last end: {error}");
    }
    section(&mut out, threads(&worker.threads));
    section(&mut out, services(&status.services));
    section(&mut out, pools(&status.pools));
    let state = &status.state;
    if state.differences > 0 {
        let kept =
            state.directory.as_ref().map_or("kept until the daemon ends".into(), |place| format!("kept in {place}"));
        let _ = writeln!(out, "{} differences from the file (bailey diff), {kept}", state.differences);
    }
    for warning in &status.warnings {
        let _ = writeln!(out, "{}", paint(Tone::Warning, warning));
    }
    out
}

pub(super) fn services(rows: &[ServiceRow]) -> String {
    let cells = rows.iter().map(|row| {
        vec![
            row.name.clone(),
            row.mode.clone(),
            few(&row.addresses),
            row.connections_active.to_string(),
            row.connections.to_string(),
            row.requests.to_string(),
            row.packets.to_string(),
            row.packets_dropped.to_string(),
        ]
    });
    let headers = ["SERVICE", "MODE", "ADDRESSES", "ACTIVE", "CONNECTIONS", "REQUESTS", "PACKETS", "DROPPED"];
    table(&headers, cells)
}

pub(super) fn service(view: &ServiceView) -> String {
    let mut out = format!("service {} ({}) at {}\n", view.row.name, view.row.mode, view.row.addresses.join(", "));
    if let Some(forward) = &view.forward {
        out += &table_forward::forward(&view.row, forward);
        out += &table_forward::shield(view);
        return out;
    }
    if !view.policies.is_empty() {
        let _ = writeln!(out, "handshakes {}, failed {}", view.handshakes, view.handshake_failures);
    }
    let row = &view.row;
    let _ = writeln!(
        out,
        "connections {} active, {} in all, {} refused; requests {}; bytes {} in, {} out",
        row.connections_active,
        row.connections,
        view.connections_refused,
        row.requests,
        view.received_bytes,
        view.sent_bytes
    );
    let cells = view.routes.iter().map(|route| {
        let hosts = if route.hosts.is_empty() { "*".into() } else { few(&route.hosts) };
        vec![route.name.clone(), hosts, route.path.clone(), route.pool.clone()]
    });
    section(&mut out, table(&["ROUTE", "HOSTS", "PATH", "POOL"], cells));
    section(&mut out, table_certificates::service(view));
    out += &table_forward::shield(view);
    out
}

pub(super) fn pools(rows: &[PoolRow]) -> String {
    let cells = rows.iter().map(|row| {
        let tone = match row.up {
            0 => Tone::Bad,
            up if up < row.total => Tone::Warning,
            _ => Tone::Plain,
        };
        let cells = vec![
            row.name.clone(),
            row.balance.clone(),
            format!("{}/{}", row.up, row.total),
            row.active.to_string(),
            if row.changed { "changed".into() } else { String::new() },
        ];
        (tone, cells)
    });
    toned(&["POOL", "BALANCE", "UP", "ACTIVE", "AGAINST FILE"], cells)
}

pub(super) fn pool(view: &PoolView) -> String {
    let row = &view.row;
    let mut out = format!("pool {} ({}): {} of {} up\n", row.name, row.balance, row.up, row.total);
    let _ = writeln!(out, "checks: {}", view.health.as_deref().unwrap_or("none"));
    let _ = writeln!(out, "TLS: {}", view.tls.as_deref().unwrap_or("none"));
    for name in &view.names {
        out += &table_names::name(name);
    }
    let cells = view.backends.iter().map(|backend| {
        let against = match (backend.in_file, backend.changed) {
            (false, _) => "added",
            (true, true) => "changed",
            (true, false) => "",
        };
        let cells = vec![
            table_names::backend(backend),
            backend.weight.to_string(),
            table_names::state(backend),
            table_names::active(backend),
            backend.requests.to_string(),
            backend.failures.to_string(),
            backend.standing.takes_part.clone(),
            table_health::checks(backend),
            against.into(),
        ];
        (tone(&backend.state), cells)
    });
    let headers =
        ["BACKEND", "WEIGHT", "STATE", "ACTIVE", "REQUESTS", "FAILURES", "TAKES PART", "CHECKS", "AGAINST FILE"];
    section(&mut out, toned(&headers, cells));
    let forwarded: Vec<_> = view.backends.iter().flat_map(|backend| backend.forwarded.iter()).collect();
    section(&mut out, table_forward::backends(&forwarded));
    section(&mut out, table_health::history(&view.backends));
    for address in &view.removed {
        let _ = writeln!(out, "{address} stands in the file and was removed");
    }
    out
}

fn threads(rows: &[ThreadStatus]) -> String {
    let cells = rows.iter().map(|thread| {
        vec![
            thread.index.to_string(),
            thread.cpu.map_or("-".into(), |cpu| cpu.to_string()),
            thread.generation.to_string(),
            thread.connections_active.to_string(),
            thread.connections.to_string(),
            thread.connections_on_cpu.to_string(),
        ]
    });
    table(&["WORKER", "CPU", "GENERATION", "ACTIVE", "CONNECTIONS", "ON ITS CPU"], cells)
}

pub(super) fn section(out: &mut String, table: String) {
    if !table.is_empty() {
        let _ = write!(out, "\n{table}");
    }
}

pub(super) fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    toned(headers, rows.map(|cells| (Tone::Plain, cells)))
}

/// A table whose rows have colours. A row is a line: no cell has more than one.
pub(super) fn toned(headers: &[&str], rows: impl Iterator<Item = (Tone, Vec<String>)>) -> String {
    let (tones, rows): (Vec<Tone>, Vec<Vec<String>>) = rows.unzip();
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headers.to_vec()).add_rows(rows);
    let tones = [Tone::Heading].into_iter().chain(tones).chain(std::iter::repeat(Tone::Plain));
    table.lines().zip(tones).fold(String::new(), |out, (line, tone)| out + &paint(tone, line.trim()) + "\n")
}

/// The colour of a backend's state.
pub(super) fn tone(state: &str) -> Tone {
    match state {
        "up" => Tone::Plain,
        "down" => Tone::Bad,
        _ => Tone::Warning,
    }
}

/// The first of a list, and how many more there are.
pub(super) fn few(list: &[String]) -> String {
    match list {
        [] => "-".into(),
        [a] => a.clone(),
        [a, b] => format!("{a}, {b}"),
        [a, b, rest @ ..] => format!("{a}, {b} and {} more", rest.len()),
    }
}

pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
