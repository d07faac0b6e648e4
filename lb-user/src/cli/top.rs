//! `bailey top`: what services and backends do now, from two looks at their counters.

use super::args_tools::{Sort, TopArgs};
use super::say::{Tone, paint};
use super::table::{ago, section, tone, toned};
use super::verbs::Out;
use super::{say, screen};
use crate::admin::api::{Top, TopBackend, TopService};
use crate::admin::client::{Client, ClientError};
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// What happened between two looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Rates {
    /// Between them.
    seconds: f64,
    services: Vec<ServiceRates>,
    backends: Vec<BackendRates>,
}

/// A second, but for `active`, and the mean of what was answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ServiceRates {
    name: String,
    mode: String,
    active: u64,
    connections: f64,
    requests: f64,
    errors: f64,
    mean_ms: f64,
    received_bytes: f64,
    sent_bytes: f64,
    packets: f64,
    dropped: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct BackendRates {
    pool: String,
    address: String,
    state: String,
    active: u64,
    requests: f64,
    failures: f64,
    mean_ms: f64,
    packets: f64,
}

/// Show rates until somebody has seen enough.
pub(super) async fn top(args: &TopArgs, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    let mut before: Top = client.get("/v1/top").await?;
    let live = !args.once && !out.json && screen::is_there();
    // Taken before the other screen is entered, so that whatever ends this brings the first one back.
    let mut interrupt = signal(SignalKind::interrupt()).ok();
    let mut terminate = signal(SignalKind::terminate()).ok();
    let other = live.then(screen::Other::enter);
    let done = loop {
        tokio::select! {
            () = sleep(args.every) => {}
            Some(()) = async { interrupt.as_mut()?.recv().await } => break Ok(()),
            Some(()) = async { terminate.as_mut()?.recv().await } => break Ok(()),
        }
        let now: Top = match client.get("/v1/top").await {
            Ok(now) => now,
            Err(error) if live => {
                screen::draw(&format!("{} {error}\n", paint(Tone::Bad, "bailey:")));
                continue;
            }
            Err(error) => break Err(error),
        };
        let rates = rates(&before, &now, args.sort);
        let read = match (out.json, live) {
            (true, _) => say::print_json(&rates, true),
            (false, true) => screen::draw(&shown(&now, &rates, args.every, screen::rows())),
            (false, false) => say::print(&shown(&now, &rates, args.every, usize::MAX)),
        };
        if args.once || !read {
            break Ok(());
        }
        before = now;
    };
    drop(other);
    done.map(|()| ExitCode::SUCCESS)
}

/// Pure.
fn rates(before: &Top, now: &Top, sort: Sort) -> Rates {
    // A daemon that began anew counts from 0, since its begin.
    let fresh = now.uptime_ms <= before.uptime_ms;
    let since = if fresh { 0 } else { before.uptime_ms };
    let seconds = ((now.uptime_ms - since) as f64 / 1000.0).max(0.001);
    let a_second = |before: u64, now: u64| now.saturating_sub(if fresh { 0 } else { before }) as f64 / seconds;
    let mean = |(count, sum): (u64, f64), (count_now, sum_now): (u64, f64)| {
        let (count, sum) = if fresh { (0, 0.0) } else { (count, sum) };
        let answered = count_now.saturating_sub(count);
        if answered == 0 { 0.0 } else { (sum_now - sum).max(0.0) * 1000.0 / answered as f64 }
    };
    let service = |now: &TopService| {
        let old = before.services.iter().find(|old| old.name == now.name).cloned().unwrap_or_default();
        ServiceRates {
            name: now.name.clone(),
            mode: now.mode.clone(),
            active: now.active,
            connections: a_second(old.connections, now.connections),
            requests: a_second(old.requests, now.requests),
            errors: a_second(old.errors, now.errors),
            mean_ms: mean((old.requests, old.seconds), (now.requests, now.seconds)),
            received_bytes: a_second(old.received_bytes, now.received_bytes),
            sent_bytes: a_second(old.sent_bytes, now.sent_bytes),
            packets: a_second(old.packets, now.packets),
            dropped: a_second(old.dropped, now.dropped),
        }
    };
    let backend = |now: &TopBackend| {
        let mut all = before.backends.iter();
        let old = all.find(|old| (&old.pool, &old.address) == (&now.pool, &now.address)).cloned().unwrap_or_default();
        BackendRates {
            pool: now.pool.clone(),
            address: now.address.clone(),
            state: now.state.clone(),
            active: now.active,
            requests: a_second(old.requests, now.requests),
            failures: a_second(old.failures, now.failures),
            mean_ms: mean((old.requests, old.seconds), (now.requests, now.seconds)),
            packets: a_second(old.packets, now.packets),
        }
    };
    let mut services: Vec<_> = now.services.iter().map(service).collect();
    let mut backends: Vec<_> = now.backends.iter().map(backend).collect();
    let key = |requests: f64, packets: f64, errors: f64, mean_ms: f64| match sort {
        Sort::Requests => (requests, packets),
        Sort::Errors => (errors, requests),
        Sort::Time => (mean_ms, requests),
        Sort::Name => (0.0, 0.0),
    };
    // Stable, largest first: equals stay in the order of the config.
    let falling = |a: (f64, f64), b: (f64, f64)| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1));
    if sort == Sort::Name {
        services.sort_by(|a, b| a.name.cmp(&b.name));
        backends.sort_by(|a, b| (&a.pool, &a.address).cmp(&(&b.pool, &b.address)));
    }
    services.sort_by(|a, b| {
        let of = |one: &ServiceRates| key(one.requests, one.packets, one.errors, one.mean_ms);
        falling(of(a), of(b))
    });
    backends.sort_by(|a, b| {
        let of = |one: &BackendRates| key(one.requests, one.packets, one.failures, one.mean_ms);
        falling(of(a), of(b))
    });
    Rates { seconds, services, backends }
}

/// The tables, in so many rows.
fn shown(now: &Top, rates: &Rates, every: Duration, rows: usize) -> String {
    let health = if now.healthy { paint(Tone::Good, "healthy") } else { paint(Tone::Bad, "UNHEALTHY") };
    let up = ago(now.uptime_ms / 1000);
    let mut out =
        format!("edge {}: {health}, generation {}, up {up}; a second, every {every:?}\n", now.name, now.generation);
    // Besides rows of tables: this line, two empty ones, two heads, two lines of what is left out, the cursor's.
    let room = rows.saturating_sub(8);
    let services = rates.services.len().min((room / 2).max(room.saturating_sub(rates.backends.len())));
    let backends = rates.backends.len().min(room.saturating_sub(services));
    let cells = rates.services.iter().take(services).map(|one| {
        let tone = if one.errors > 0.0 || one.dropped > 0.0 { Tone::Warning } else { Tone::Plain };
        let numbers = [one.connections, one.requests, one.errors].map(short);
        let bytes = [one.received_bytes, one.sent_bytes, one.packets, one.dropped].map(short);
        let names = [one.name.clone(), one.mode.clone(), one.active.to_string()];
        (tone, [&names[..], &numbers, &[millis(one.mean_ms)], &bytes].concat())
    });
    let heads =
        ["SERVICE", "MODE", "ACTIVE", "CONN", "REQUESTS", "ERRORS", "MS", "IN B", "OUT B", "PACKETS", "DROPPED"];
    section(&mut out, toned(&heads, cells));
    more(&mut out, rates.services.len() - services, "services");
    let cells = rates.backends.iter().take(backends).map(|one| {
        let names = [one.pool.clone(), one.address.clone(), one.state.clone(), one.active.to_string()];
        let numbers = [short(one.requests), short(one.failures), millis(one.mean_ms), short(one.packets)];
        let tone = tone(&one.state).max(if one.failures > 0.0 { Tone::Warning } else { Tone::Plain });
        (tone, [names, numbers].concat())
    });
    let heads = ["POOL", "BACKEND", "STATE", "ACTIVE", "REQUESTS", "FAILURES", "MS", "PACKETS"];
    section(&mut out, toned(&heads, cells));
    more(&mut out, rates.backends.len() - backends, "backends");
    out
}

fn more(out: &mut String, left: usize, what: &str) {
    if left > 0 {
        let _ = writeln!(out, "and {left} more {what}");
    }
}

/// Three figures or so.
fn short(number: f64) -> String {
    match number {
        n if n < 9.95 && n > 0.0 => format!("{n:.1}"),
        n if n < 9_999.5 => format!("{n:.0}"),
        n if n < 9_999_500.0 => format!("{:.0}k", n / 1e3),
        n if n < 9_999_500_000.0 => format!("{:.0}M", n / 1e6),
        n => format!("{:.0}G", n / 1e9),
    }
}

fn millis(mean: f64) -> String {
    if mean == 0.0 { "-".into() } else { format!("{mean:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(uptime_ms: u64, requests: u64, backends: usize) -> Top {
        let name = |n: usize| format!("10.0.0.{n}:80");
        let backend = |n: usize| TopBackend {
            pool: "p".into(),
            address: name(n),
            state: if n == 0 { "down".into() } else { "up".into() },
            requests: requests * n as u64,
            seconds: requests as f64 * n as f64 / 100.0,
            ..TopBackend::default()
        };
        let service = TopService {
            name: "web".into(),
            mode: "http".into(),
            requests,
            errors: requests / 10,
            seconds: requests as f64 / 50.0,
            ..TopService::default()
        };
        Top {
            name: "e".into(),
            healthy: true,
            generation: 1,
            uptime_ms,
            services: vec![service],
            backends: (0..backends).map(backend).collect(),
        }
    }

    #[test]
    fn rates_are_differences_over_the_daemons_own_time() {
        let all = rates(&look(1000, 100, 3), &look(3000, 300, 3), Sort::Requests);
        let web = &all.services[0];
        assert_eq!((all.seconds, web.requests, web.errors, web.mean_ms), (2.0, 100.0, 10.0, 20.0));
        let order: Vec<&str> = all.backends.iter().map(|backend| backend.address.as_str()).collect();
        assert_eq!(order, ["10.0.0.2:80", "10.0.0.1:80", "10.0.0.0:80"]);
        let order = rates(&look(1000, 100, 3), &look(3000, 300, 3), Sort::Name).backends;
        assert_eq!(order[0].address, "10.0.0.0:80");
        // A daemon that began anew in between.
        let anew = rates(&look(60_000, 9000, 1), &look(500, 50, 1), Sort::Requests);
        assert_eq!((anew.seconds, anew.services[0].requests), (0.5, 100.0));
    }

    #[test]
    fn tables_fit_the_screen() {
        let (before, now) = (look(0, 0, 50), look(1000, 12_345, 50));
        let rates = rates(&before, &now, Sort::Requests);
        let all = shown(&now, &rates, Duration::from_secs(2), usize::MAX);
        assert!(all.lines().count() > 50 && !all.contains("more backends") && all.contains("12k"), "{all}");
        let some = shown(&now, &rates, Duration::from_secs(2), 24);
        assert!(some.lines().count() <= 23 && some.contains("more backends"), "{some}");
        assert!(shown(&now, &rates, Duration::from_secs(2), 4).lines().count() < 12);
    }

    #[test]
    fn numbers_are_short() {
        let all: Vec<String> = [0.0, 0.54, 9.96, 9999.4, 12_345.0, 3.2e7, 4.5e10].map(short).into();
        assert_eq!(all, ["0", "0.5", "10", "9999", "12k", "32M", "45G"]);
    }
}
