//! `[shield]` and `[service.NAME.shield]`: who is kept out, and how much the others may send.

use super::model::{DatapathKind, Prefixes};
use super::net;
use super::problem::{Problem, Problems};
use super::section::{At, Section, integer, string};
use crate::datapath::{Limits, Rate, SynCookies};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use toml_span::Value;
use toml_span::value::ValueInner;

/// A file of prefixes is at most so long, bytes.
const MAX_FILE: u64 = 512 << 20;
const RATE: RangeInclusive<u32> = 1..=1_000_000_000;
const HOLD: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// SYNs a second that begin a flood, that end it, and how long they must be fewer.
const FLOOD: SynCookies = SynCookies::Auto { on: 20_000, off: 10_000, hold: Duration::from_secs(10) };
/// What holds where nothing is written: no rates, and cookies in a flood.
const DEFAULT: Limits = Limits {
    source_packets: None,
    source_connections: None,
    packets: None,
    connections: None,
    source_v4: 32,
    source_v6: 64,
    syn_cookies: FLOOD,
};

/// `[shield]`. Files of prefixes are read where their directory is given.
pub(super) fn every(
    section: Option<Section<'_>>,
    p: &mut Problems,
    dir: Option<&Path>,
    kind: DatapathKind,
    to: &mut Prefixes,
) {
    let Some(mut section) = section else { return };
    without_xdp(&section, p, kind);
    let rules = prefixes(&mut section, p, dir);
    section.finish(p);
    if !rules.is_empty() {
        to.insert(None, rules);
    }
}

/// What `[service.NAME.shield]` says.
pub(super) struct Parsed {
    /// None: nothing is limited.
    pub(super) limits: Option<Limits>,
    pub(super) prefixes: BTreeMap<IpNet, bool>,
}

/// `[service.NAME.shield]` of a service that ends in a worker or not.
pub(super) fn service(
    section: Option<Section<'_>>,
    p: &mut Problems,
    dir: Option<&Path>,
    kind: DatapathKind,
    terminated: bool,
) -> Parsed {
    let absent = section.is_none();
    let mut section = section.unwrap_or_else(|| Section::absent("shield"));
    if !absent {
        without_xdp(&section, p, kind);
    }
    let prefixes = prefixes(&mut section, p, dir);
    let limits = Limits {
        source_packets: rate(&mut section, p, "source_packets"),
        source_connections: rate(&mut section, p, "source_connections"),
        packets: rate(&mut section, p, "packets"),
        connections: rate(&mut section, p, "connections"),
        source_v4: section.integer(p, "source_prefix_v4", 24..=32).unwrap_or(32) as u8,
        source_v6: section.integer(p, "source_prefix_v6", 48..=128).unwrap_or(64) as u8,
        syn_cookies: syn_cookies(&mut section, p, terminated),
    };
    section.finish(p);
    let wanted = limits != Limits { syn_cookies: SynCookies::Never, ..DEFAULT };
    Parsed { limits: (wanted && kind != DatapathKind::Sockets).then_some(limits), prefixes }
}

fn without_xdp(section: &Section<'_>, p: &mut Problems, kind: DatapathKind) {
    if kind == DatapathKind::Sockets {
        p.push(
            Problem::error(section.span.clone(), format!("{} needs XDP", section.title))
                .help("set datapath = \"native\" or \"generic\" under [edge], or remove the table"),
        );
    }
}

fn rate(section: &mut Section<'_>, p: &mut Problems, key: &'static str) -> Option<Rate> {
    let value = section.value(key)?;
    if !matches!(value.as_ref(), ValueInner::Table(_)) {
        return integer(p, value, &format!("{} {key}", section.title), RATE)
            .map(|per_second| Rate { per_second, burst: per_second });
    }
    let mut section = Section::of(p, key.into(), value.span.into(), value)?;
    let per_second = section.integer(p, "rate", RATE);
    if !section.has("rate") {
        section.missing("rate", &format!("write {key} = {{ rate = 10000, burst = 20000 }}, a second and at once"));
    }
    let burst = section.integer(p, "burst", RATE);
    section.finish(p);
    per_second.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second) })
}

fn syn_cookies(section: &mut Section<'_>, p: &mut Problems, terminated: bool) -> SynCookies {
    const WORDS: [(&str, SynCookies); 3] =
        [("auto", FLOOD), ("never", SynCookies::Never), ("always", SynCookies::Always)];
    let chosen = section.choice(p, "syn_cookies", &WORDS);
    let flood = section.section(p, "syn_flood").and_then(|section| flood(section, p));
    if !terminated {
        for key in ["syn_cookies", "syn_flood"].into_iter().filter(|key| section.has(key)) {
            p.push(
                Problem::error(section.span_of(key), format!("`{key}` cannot be had with mode \"l4\""))
                    .help("the edge ends no TCP connection there, so it cannot answer for the backend: remove it; `connections` bounds SYNs"),
            );
        }
        return SynCookies::Never;
    }
    let chosen = chosen.unwrap_or(FLOOD);
    if !matches!(chosen, SynCookies::Auto { .. }) && section.has("syn_flood") {
        p.push(
            Problem::error(section.span_of("syn_flood"), "`syn_flood` belongs to syn_cookies = \"auto\"")
                .help("set syn_cookies = \"auto\", or remove `syn_flood`"),
        );
    }
    if chosen == FLOOD { flood.unwrap_or(chosen) } else { chosen }
}

fn flood(mut section: Section<'_>, p: &mut Problems) -> Option<SynCookies> {
    let SynCookies::Auto { on, off, hold } = FLOOD else { return None };
    let on = section.integer(p, "on", RATE).unwrap_or(on);
    let lower = section.integer(p, "off", RATE);
    let hold = section.duration(p, "hold", HOLD).unwrap_or(hold);
    if lower.is_some_and(|off| off > on) {
        p.push(
            Problem::error(
                section.span_of("off"),
                format!("a flood that begins at {on} SYNs a second would end above"),
            )
            .help("write an `off` that is not above `on`"),
        );
    }
    section.finish(p);
    Some(SynCookies::Auto { on, off: lower.unwrap_or(off).min(on), hold })
}

fn prefixes(section: &mut Section<'_>, p: &mut Problems, dir: Option<&Path>) -> BTreeMap<IpNet, bool> {
    let mut rules = BTreeMap::new();
    for (key, files, allow) in [("deny", "deny_files", false), ("allow", "allow_files", true)] {
        for at in section.parsed_list(p, key, net::network).unwrap_or_default() {
            add(&mut rules, at.value, allow, &at.span, "", p);
        }
        let list = section.list(p, files).unwrap_or_default();
        for (value, dir) in list.iter().zip(dir.into_iter().cycle()) {
            file(&mut rules, value, files, allow, p, dir);
        }
    }
    rules
}

fn file(rules: &mut BTreeMap<IpNet, bool>, value: &Value<'_>, key: &str, allow: bool, p: &mut Problems, dir: &Path) {
    let Some(at) = string(p, value, key) else { return };
    match read(&at, dir) {
        Ok(bytes) => {
            let (found, wrong) = net::prefix_file(&bytes);
            for why in wrong {
                let help = "a prefix a line, `#` begins a comment";
                p.push(Problem::error(at.span.clone(), format!("{}:{why}", at.value)).help(help));
            }
            for network in found {
                add(rules, network, allow, &at.span, at.value, p);
            }
        }
        Err(error) => p.push(
            Problem::error(at.span, format!("cannot read {:?}: {error}", at.value))
                .help("name a file of prefixes, one a line; the path is relative to the config"),
        ),
    }
}

fn read(at: &At<&str>, dir: &Path) -> std::io::Result<Vec<u8>> {
    let path = dir.join(at.value);
    let meta = std::fs::metadata(&path)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(std::io::Error::other(format!("not a file of at most {MAX_FILE} bytes")));
    }
    std::fs::read(path)
}

/// Lists overlap, and the same word twice is no contradiction; the opposite is.
fn add(
    rules: &mut BTreeMap<IpNet, bool>,
    network: IpNet,
    allow: bool,
    span: &std::ops::Range<usize>,
    place: &str,
    p: &mut Problems,
) {
    if rules.insert(network, allow).is_some_and(|before| before != allow) {
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        p.push(
            Problem::error(span.clone(), format!("{place}{network} is denied and allowed"))
                .help("remove one of the two; a longer prefix goes before a shorter one"),
        );
    }
}
