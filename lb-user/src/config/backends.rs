//! `backends` of a pool: addresses, and names that stand for the addresses that DNS has.

use super::http::balancing;
use super::model::{MAX_BACKENDS, MAX_WEIGHT, Mark};
use super::names::NamedBackend;
use super::problem::{Problem, Problems};
use super::scalar::{self, Wrong};
use super::section::{At, Section, parsed};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use tls_worker::api::BackendRole;
use toml_span::Value;
use toml_span::value::ValueInner;

/// Most names of a pool.
const MAX_NAMES: usize = 64;

/// What the list of a pool says.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// Weights.
    pub(super) addresses: BTreeMap<SocketAddr, u16>,
    /// What is special of some.
    pub(super) roles: BTreeMap<SocketAddr, BackendRole>,
    /// Those that are out of use.
    pub(super) marks: BTreeMap<SocketAddr, Mark>,
    pub(super) names: Vec<NamedBackend>,
}

impl Backends {
    pub(super) fn len(&self) -> usize {
        self.addresses.len() + self.names.len()
    }

    /// Of those that have a special one.
    pub(super) fn roles(&self) -> impl Iterator<Item = &BackendRole> {
        let named = self.names.iter().map(|named| &named.role).filter(|role| **role != BackendRole::default());
        self.roles.values().chain(named)
    }
}

/// An address, or a name with a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Address(SocketAddr),
    Name(String, u16),
}

pub(super) fn backends(section: &mut Section<'_>, pool: &str, p: &mut Problems) -> Backends {
    let Some(list) = section.list(p, "backends") else {
        if !section.has("backends") {
            section.missing("backends", "write backends = [\"192.0.2.10:8080\"]; the list may be empty");
        }
        return Backends::default();
    };
    let span = section.span_of("backends");
    if list.is_empty() {
        p.push(
            Problem::warning(span.clone(), format!("pool {pool:?} has no backend: its requests get 503"))
                .help("name one, or add it at run time: bailey pool add"),
        );
    }
    let mut found = Backends::default();
    let mut places: BTreeMap<Place, Range<usize>> = BTreeMap::new();
    for value in list {
        let Some((at, weight, role, mark)) = backend(value, p) else { continue };
        if let Some(first) = places.get(&at.value) {
            let what = match &at.value {
                Place::Address(address) => address.to_string(),
                Place::Name(host, port) => format!("{host}:{port}"),
            };
            p.push(
                Problem::error(at.span, format!("backend {what} stands here twice"))
                    .label("again")
                    .also(first.clone(), "first here")
                    .help("name it once; use `weight` to give it more"),
            );
            continue;
        }
        places.insert(at.value.clone(), at.span);
        match at.value {
            Place::Address(address) => {
                found.addresses.insert(address, weight);
                if role != BackendRole::default() {
                    found.roles.insert(address, role);
                }
                if mark != Mark::Enabled {
                    found.marks.insert(address, mark);
                }
            }
            Place::Name(host, port) => found.names.push(NamedBackend { host, port, weight, role }),
        }
    }
    let too_many = |count: usize, what: &str, most: usize| {
        let problem = Problem::error(span.clone(), format!("{count} {what} are too many"));
        (count > most).then(|| problem.help(format!("a pool has at most {most}")))
    };
    let over =
        [too_many(list.len(), "backends", MAX_BACKENDS), too_many(found.names.len(), "names of backends", MAX_NAMES)];
    over.into_iter().flatten().for_each(|problem| p.push(problem));
    found
}

fn backend(value: &Value<'_>, p: &mut Problems) -> Option<(At<Place>, u16, BackendRole, Mark)> {
    if !matches!(value.as_ref(), ValueInner::Table(_)) {
        return parsed(p, value, "backends", place).map(|at| (at, 1, BackendRole::default(), Mark::Enabled));
    }
    let mut section = Section::of(p, "a backend".into(), value.span.into(), value)?;
    let at = section.parsed(p, "address", place);
    if !section.has("address") {
        section.missing("address", "write { address = \"192.0.2.10:8080\", weight = 1 }");
    }
    let weight = section.integer(p, "weight", 1..=u32::from(MAX_WEIGHT)).unwrap_or(1);
    let role = balancing::role(&mut section, p);
    let words = [("enabled", Mark::Enabled), ("draining", Mark::Draining), ("disabled", Mark::Disabled)];
    let mark = section.choice(p, "state", &words).unwrap_or_default();
    if mark != Mark::Enabled && matches!(&at, Some(At { value: Place::Name(..), .. })) {
        p.push(
            Problem::error(section.span_of("state"), "`state` is of an address, and this is a name")
                .help("leave the name out; of one of its addresses: bailey pool drain or disable"),
        );
    }
    section.finish(p);
    Some((at?, weight as u16, role, mark))
}

fn place(text: &str) -> Result<Place, Wrong> {
    match name_and_port(text)? {
        Some((host, port)) => Ok(Place::Name(host, port)),
        None => scalar::backend(text).map(Place::Address),
    }
}

/// `app.internal:8080`; None: it is no name, and meant to be an address.
pub(super) fn name_and_port(text: &str) -> Result<Option<(String, u16)>, Wrong> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_name = |label: &str| label.bytes().any(|byte| byte.is_ascii_alphabetic());
    if host.contains(':')
        || host.starts_with('[')
        || !host.trim_end_matches('.').rsplit('.').next().is_some_and(is_name)
    {
        return Ok(None);
    }
    // A dot at the end says that no search list is to be tried; it is part of what is asked.
    let bare = host.strip_suffix('.').unwrap_or(host);
    let name = scalar::host_name(bare)?;
    let name = if bare.len() < host.len() { format!("{name}.") } else { name };
    match port.parse::<u16>() {
        Ok(port @ 1..) => Ok(Some((name, port))),
        _ => Err(Wrong::new(
            format!("{text:?} has no port"),
            format!("write the port that its backends listen on: \"{bare}:8080\""),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_has_letters_at_its_end_and_a_port() {
        let read = |text: &str| name_and_port(text).map(|found| found.map(|(host, port)| format!("{host} {port}")));
        for (text, expected) in [
            ("app.internal:8080", Some("app.internal 8080")),
            ("App:80", Some("app 80")),
            ("app.internal.:80", Some("app.internal. 80")),
            ("1.2.3.com:80", Some("1.2.3.com 80")),
            ("192.0.2.1:80", None),
            ("192.0.2.1", None),
            ("[2001:db8::1]:80", None),
            ("2001:db8::a", None),
            ("", None),
        ] {
            assert_eq!(read(text).unwrap().as_deref(), expected, "{text}");
        }
        for bad in
            ["app.internal", "app.internal:", "app.internal:0", "app.internal:http", "a..b:80", "-a.b:80", "*.b:80"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = place(&text);
        }
    }
}
