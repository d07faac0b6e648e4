//! `[edge]`.

use super::host::Host;
use super::life;
use super::model::{DatapathKind, Edge, Steering};
use super::problem::{Problem, Problems, nearest};
use super::scalar::{self, Wrong};
use super::section::{Section, integer, string};
use super::tuning;
use std::path::Path;
use toml_span::Value;

/// CPUs that the kernel half can tell apart.
const MAX_CPU: u32 = lb_common::abi::MAX_CPUS - 1;

pub(super) fn edge(mut section: Section<'_>, problems: &mut Problems, host: &Host, dir: &Path) -> Edge {
    let p = problems;
    let name = section.parsed(p, "name", instance_name).map_or("edge".into(), |at| at.value);
    let kinds =
        [("native", DatapathKind::Native), ("generic", DatapathKind::Generic), ("sockets", DatapathKind::Sockets)];
    let datapath = section.choice(p, "datapath", &kinds).unwrap_or(DatapathKind::Native);
    let interfaces = interfaces(&mut section, p, host, datapath);
    let words = [("auto", Steering::Auto), ("hash", Steering::Hash), ("rss", Steering::Rss)];
    let steering = section.choice(p, "steering", &words).unwrap_or(Steering::Auto);
    let cpus = match section.list(p, "cpus") {
        None => host.cpus.iter().copied().take(lb_common::abi::MAX_WORKERS as usize).collect(),
        Some(list) => cpus(list, section.span_of("cpus"), p, host),
    };
    let user = section.string(p, "user").map(|at| {
        if !(host.user_exists)(at.value) {
            p.push(
                Problem::error(at.span, format!("this host has no user {:?}", at.value))
                    .help("create it (useradd --system), or leave `user` out"),
            );
        }
        at.value.to_owned()
    });
    let worker_binary = section.string(p, "worker_binary").map(|at| dir.join(at.value));
    let state = section.string(p, "state").map(|at| dir.join(at.value)).or_else(|| host.state_directory.clone());
    let state_history = section.integer(p, "state_history", 1..=100_000).unwrap_or(1_000);
    let state_sessions = section.integer(p, "state_sessions", 0..=1_000_000).unwrap_or(2_000);
    let max_services = section.integer(p, "max_services", 1..=65_535).unwrap_or(lb_common::abi::DEFAULT_MAX_SERVICES);
    let max_addresses =
        section.integer(p, "max_addresses", 1..=1_048_576).unwrap_or(lb_common::abi::DEFAULT_MAX_ADDRESSES);
    let max_connections = super::connections::bound(&mut section, p, host);
    let max_health_checks = section.integer(p, "max_health_checks", 1..=65_536).unwrap_or(1024);
    let log = section.parsed(p, "log", log_filter).map_or("info".into(), |at| at.value);
    let packet_log_sample = section.integer(p, "packet_log_sample", 0..=u32::MAX).unwrap_or(0);
    let tuning = tuning::tuning(&mut section, p, &name);
    let life = life::life(&mut section, p, cpus.len());
    if datapath == DatapathKind::Sockets {
        tuning::unused(&section, p);
    }
    section.finish(p);
    Edge {
        name,
        datapath,
        interfaces,
        steering,
        cpus,
        user,
        worker_binary,
        state,
        state_history,
        state_sessions,
        max_services,
        max_addresses,
        max_connections,
        open_files: host.open_files,
        max_health_checks,
        log,
        packet_log_sample,
        tuning,
        life,
    }
}

fn interfaces(section: &mut Section<'_>, p: &mut Problems, host: &Host, datapath: DatapathKind) -> Vec<String> {
    let Some(list) = section.list(p, "interfaces") else {
        if datapath != DatapathKind::Sockets && !section.has("interfaces") {
            let have = host.interfaces.join(", ");
            section.missing(
                "interfaces",
                &format!("name what XDP is attached to (this host has: {have}), or set datapath = \"sockets\""),
            );
        }
        return Vec::new();
    };
    if list.is_empty() && datapath != DatapathKind::Sockets {
        p.push(
            Problem::error(section.span_of("interfaces"), "XDP needs at least one interface")
                .help(format!("this host has: {}", host.interfaces.join(", "))),
        );
    }
    let mut names: Vec<String> = Vec::new();
    for value in list {
        let Some(at) = string(p, value, "[edge] interfaces") else { continue };
        if names.iter().any(|name| name == at.value) {
            p.push(Problem::error(at.span, format!("interface {:?} stands here twice", at.value)).help("name it once"));
        } else if datapath != DatapathKind::Sockets && !host.interfaces.iter().any(|name| name == at.value) {
            let have = host.interfaces.join(", ");
            let help = match nearest(at.value, host.interfaces.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean {meant:?}? This host has: {have}"),
                None => format!("this host has: {have}"),
            };
            p.push(Problem::error(at.span, format!("interface {:?} does not exist", at.value)).help(help));
        } else {
            names.push(at.value.to_owned());
        }
    }
    if datapath == DatapathKind::Sockets && !names.is_empty() {
        p.push(
            Problem::warning(section.span_of("interfaces"), "`interfaces` is not used with datapath = \"sockets\"")
                .help("leave it out"),
        );
    }
    names
}

fn cpus(list: &[Value<'_>], span: std::ops::Range<usize>, p: &mut Problems, host: &Host) -> Vec<u32> {
    let mut cpus = Vec::new();
    for value in list {
        let Some(cpu) = integer(p, value, "[edge] cpus", 0..=MAX_CPU) else { continue };
        if cpus.contains(&cpu) {
            p.push(
                Problem::error(value.span.into(), format!("CPU {cpu} stands here twice"))
                    .help("a CPU has one worker thread: name it once"),
            );
        } else if !host.cpus.contains(&cpu) {
            let may = host.cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            p.push(
                Problem::error(value.span.into(), format!("this process may not run on CPU {cpu}"))
                    .help(format!("it may use: {may}")),
            );
        } else {
            cpus.push(cpu);
        }
    }
    if list.is_empty() {
        p.push(
            Problem::error(span, "at least one CPU is needed").help("name one, or leave `cpus` out for all of them"),
        );
    }
    if cpus.len() > lb_common::abi::MAX_WORKERS as usize {
        p.push(
            Problem::error(span_of_list(list), format!("{} workers are too many", cpus.len()))
                .help(format!("name at most {} CPUs", lb_common::abi::MAX_WORKERS)),
        );
    }
    cpus
}

fn span_of_list(list: &[Value<'_>]) -> std::ops::Range<usize> {
    match (list.first(), list.last()) {
        (Some(first), Some(last)) => first.span.start..last.span.end,
        _ => 0..0,
    }
}

/// The pin directory is named by it, and a name in the BPF file system holds no dot.
fn instance_name(text: &str) -> Result<String, Wrong> {
    if scalar::is_name(text) && !text.contains('.') {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{text:?} cannot be an edge's name"), "write 1 to 63 letters, digits, `-` and `_`"))
}

fn log_filter(text: &str) -> Result<String, Wrong> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(Wrong::new(
            format!("{text:?} is no log filter: {e}"),
            "write \"info\", \"debug\" or \"info,lb_user::health=debug\"",
        )),
    }
}
