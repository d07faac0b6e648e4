//! What a request must be: the keys of a route, and those of the tables within `any`, `all` and `not`.

use super::super::net;
use super::super::problem::{Problem, Problems};
use super::super::scalar::{self, Wrong};
use super::super::section::{Section, string};
use super::text::{When, regex, template};
use tls_worker::api::{ClientCertField, Condition, FieldMatch, MAX_CONDITION_DEPTH, PathMatch, Subject, TextMatch};
use toml_span::Value;
use toml_span::value::ValueInner;

/// Most entries of one list or table.
const MAX_ENTRIES: usize = 256;
/// Parts of a certificate that are asked for.
const CERTIFICATE: [(&str, ClientCertField); 6] = [
    ("subject", ClientCertField::Subject),
    ("issuer", ClientCertField::Issuer),
    ("san", ClientCertField::San),
    ("serial", ClientCertField::Serial),
    ("fingerprint", ClientCertField::Fingerprint),
    ("fingerprint_sha1", ClientCertField::FingerprintSha1),
];

/// What one table asks.
#[derive(Debug, Default)]
pub(in crate::config) struct Matches {
    pub(in crate::config) hosts: Vec<String>,
    pub(in crate::config) path: PathMatch,
    pub(in crate::config) methods: Vec<String>,
    pub(in crate::config) headers: Vec<FieldMatch>,
    pub(in crate::config) query: Vec<FieldMatch>,
    more: Vec<Condition>,
}

impl Matches {
    /// Read the keys; the caller finishes the section.
    pub(in crate::config) fn read(section: &mut Section<'_>, p: &mut Problems) -> Matches {
        read(section, p, 0)
    }

    /// What is asked beside the fields.
    pub(in crate::config) fn when(&mut self) -> Option<Condition> {
        joined(std::mem::take(&mut self.more))
    }

    fn condition(self) -> Option<Condition> {
        let value =
            |of: fn(String) -> Subject| move |field: FieldMatch| Condition::Value { of: of(field.name), is: field.is };
        let mut list = Vec::new();
        list.extend((!self.hosts.is_empty()).then_some(Condition::Host(self.hosts)));
        list.extend((self.path != PathMatch::Any).then_some(Condition::Path(self.path)));
        list.extend((!self.methods.is_empty()).then_some(Condition::Method(self.methods)));
        list.extend(self.headers.into_iter().map(value(Subject::Header)));
        list.extend(self.query.into_iter().map(value(Subject::Query)));
        list.extend(self.more);
        joined(list)
    }
}

fn joined(mut list: Vec<Condition>) -> Option<Condition> {
    match list.len() {
        0 | 1 => list.pop(),
        _ => Some(Condition::All(list)),
    }
}

fn read(section: &mut Section<'_>, p: &mut Problems, depth: usize) -> Matches {
    let hosts = section.parsed_list(p, "hosts", scalar::host_pattern).unwrap_or_default();
    let mut matches = Matches {
        hosts: hosts.into_iter().map(|at| at.value).collect(),
        path: path(section, p),
        methods: methods(section, p),
        ..Matches::default()
    };
    let more = &mut matches.more;
    for (key, list, of) in [
        ("headers", Some(&mut matches.headers), Subject::Header as fn(String) -> Subject),
        ("query", Some(&mut matches.query), Subject::Query),
        ("cookies", None, Subject::Cookie),
        ("values", None, Subject::Text),
    ] {
        fields(section, key, p, list, more, of);
    }
    if let Some(list) = section.parsed_list(p, "clients", net::network) {
        bounded(section, "clients", list.len(), p);
        more.push(Condition::Client(list.into_iter().map(|at| at.value).collect()));
    }
    if let Some(names) = section.parsed_list(p, "sni", scalar::host_pattern) {
        bounded(section, "sni", names.len(), p);
        more.push(Condition::Sni(names.into_iter().map(|at| at.value).collect()));
    }
    if let Some(inner) = section.section(p, "client_cert") {
        certificate(inner, p, more);
    }
    for (key, make) in [("any", Condition::Any as fn(Vec<Condition>) -> Condition), ("all", Condition::All)] {
        let Some(list) = section.list(p, key) else { continue };
        bounded(section, key, list.len(), p);
        more.push(make(list.iter().filter_map(|value| nested(key, value, p, depth + 1)).collect()));
    }
    if let Some(value) = section.value("not") {
        more.extend(nested("not", value, p, depth + 1).map(|inner| Condition::Not(Box::new(inner))));
    }
    matches
}

/// A table within `any`, `all` or `not`.
fn nested(key: &str, value: &Value<'_>, p: &mut Problems, depth: usize) -> Option<Condition> {
    let mut section = Section::of(p, format!("`{key}`"), value.span.into(), value)?;
    // `all` of a table's own keys is a level of its own.
    if depth * 2 >= MAX_CONDITION_DEPTH {
        p.push(
            Problem::error(value.span.into(), "conditions nest too deep")
                .help(format!("write at most {} tables within one another", MAX_CONDITION_DEPTH / 2 - 1)),
        );
        return None;
    }
    let bare = section.entries().is_empty();
    let before = p.has_errors();
    let condition = read(&mut section, p, depth).condition();
    section.finish(p);
    if condition.is_none() && (bare || !(before || p.has_errors())) {
        p.push(
            Problem::error(value.span.into(), "this asks nothing: every request is so")
                .help("name a path, a header, a client, …"),
        );
    }
    condition
}

/// A list of nothing is true for none, a long one is slow.
fn bounded(section: &Section<'_>, key: &str, length: usize, p: &mut Problems) {
    if section.is_empty_list(key) {
        p.push(
            Problem::error(section.span_of(key), format!("`{key}` is empty: no request is so"))
                .help(format!("write at least one, or remove `{key}`")),
        );
    } else if length > MAX_ENTRIES {
        p.push(
            Problem::error(section.span_of(key), format!("{length} are too many"))
                .help(format!("`{key}` has at most {MAX_ENTRIES}")),
        );
    }
}

fn path(section: &mut Section<'_>, p: &mut Problems) -> PathMatch {
    let prefix = section.parsed(p, "path", scalar::path_prefix).and_then(|at| at.value).map(PathMatch::Prefix);
    let exact = section.parsed(p, "path_exact", scalar::path_exact).map(|at| PathMatch::Exact(at.value));
    let pattern = section.string(p, "path_regex").and_then(|at| regex(p, &at)).map(PathMatch::Regex);
    only_one(section, &["path", "path_exact", "path_regex"], p);
    prefix.or(exact).or(pattern).unwrap_or_default()
}

/// Of these keys, at most one is there.
pub(super) fn only_one(section: &Section<'_>, keys: &[&str], p: &mut Problems) {
    let there: Vec<&&str> = keys.iter().filter(|key| section.has(key)).collect();
    if let [first, second, ..] = there[..] {
        p.push(
            Problem::error(section.span_of(second), format!("`{second}` does not go with `{first}`"))
                .label("second")
                .also(section.span_of(first), "first")
                .help("keep one of them"),
        );
    }
}

fn methods(section: &mut Section<'_>, p: &mut Problems) -> Vec<String> {
    let list = section.parsed_list(p, "methods", |text| {
        let help = "write a method in capital letters, such as \"GET\"";
        match hyper::Method::from_bytes(text.as_bytes()) {
            Ok(hyper::Method::CONNECT | hyper::Method::TRACE) => {
                Err(Wrong::new(format!("{text} is never served"), "remove it"))
            }
            Ok(_) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) => Ok(text.to_owned()),
            _ => Err(Wrong::new(format!("{text:?} is no method"), help)),
        }
    });
    let Some(list) = list else { return Vec::new() };
    bounded(section, "methods", list.len(), p);
    list.into_iter().map(|at| at.value).collect()
}

/// A table of names and what their values must be. What is said of one that must not be there, and of several values,
/// goes to `more`.
fn fields(
    section: &mut Section<'_>,
    key: &'static str,
    p: &mut Problems,
    list: Option<&mut Vec<FieldMatch>>,
    more: &mut Vec<Condition>,
    of: fn(String) -> Subject,
) {
    let Some(inner) = section.section(p, key) else { return };
    let (mut list, entries) = (list, inner.entries());
    if entries.len() > MAX_ENTRIES {
        bounded(section, key, entries.len(), p);
        return;
    }
    for (name, value) in entries {
        let known = match key {
            "headers" => scalar::header_name(name.value).map_err(|wrong| p.push(wrong.at(name.span.clone()))).ok(),
            "values" => template(p, &name, When::Request).map(|_| name.value.to_owned()),
            _ if name.value.is_empty() => {
                p.push(Problem::error(name.span.clone(), "the name is empty").help("write a name"));
                None
            }
            _ => Some(name.value.to_owned()),
        };
        let (Some(name), Some(read)) = (known, wanted(name.value, value, p)) else { continue };
        let value = |is| Condition::Value { of: of(name.clone()), is };
        match (read, &mut list) {
            (Wanted::Is(is), Some(list)) => list.push(FieldMatch { name, is }),
            (Wanted::Is(is), None) => more.push(value(is)),
            (Wanted::Absent, _) => more.push(Condition::Not(Box::new(value(TextMatch::Present)))),
            (Wanted::OneOf(texts), _) => {
                more.push(Condition::Any(texts.into_iter().map(|text| value(TextMatch::Exact(text))).collect()));
            }
        }
    }
}

/// What a value must be.
enum Wanted {
    Is(TextMatch),
    OneOf(Vec<String>),
    Absent,
}

impl Wanted {
    fn condition(self, of: &Subject) -> Condition {
        let value = |is| Condition::Value { of: of.clone(), is };
        match self {
            Wanted::Is(is) => value(is),
            Wanted::Absent => Condition::Not(Box::new(value(TextMatch::Present))),
            Wanted::OneOf(texts) => {
                Condition::Any(texts.into_iter().map(|text| value(TextMatch::Exact(text))).collect())
            }
        }
    }
}

/// `"text"`, `["one", "other"]`, or a table of one of the words.
fn wanted(name: &str, value: &Value<'_>, p: &mut Problems) -> Option<Wanted> {
    match value.as_ref() {
        ValueInner::String(text) => return Some(Wanted::Is(TextMatch::Exact(text.to_string()))),
        ValueInner::Array(list) if !list.is_empty() && list.len() <= MAX_ENTRIES => {
            let texts = list.iter().filter_map(|one| string(p, one, name)).map(|at| at.value.to_owned()).collect();
            return Some(Wanted::OneOf(texts));
        }
        ValueInner::Table(_) => {}
        _ => {
            p.push(
                Problem::error(value.span.into(), format!("what {name:?} must be is not understood"))
                    .help("write \"text\", [\"one\", \"other\"], { prefix = \"text\" } or { present = true }"),
            );
            return None;
        }
    }
    let mut section = Section::of(p, format!("what {name:?} must be"), value.span.into(), value)?;
    let words: [(&'static str, fn(String) -> TextMatch); 4] = [
        ("exact", TextMatch::Exact),
        ("prefix", TextMatch::Prefix),
        ("suffix", TextMatch::Suffix),
        ("contains", TextMatch::Contains),
    ];
    let mut found = Vec::new();
    for (key, make) in words {
        found.extend(section.string(p, key).map(|at| Wanted::Is(make(at.value.to_owned()))));
    }
    let pattern = section.string(p, "regex");
    found.extend(pattern.and_then(|at| regex(p, &at)).map(|text| Wanted::Is(TextMatch::Regex(text))));
    let present = section.boolean(p, "present");
    found.extend(present.map(|there| if there { Wanted::Is(TextMatch::Present) } else { Wanted::Absent }));
    only_one(&section, &["exact", "prefix", "suffix", "contains", "regex", "present"], p);
    if section.entries().is_empty() {
        p.push(
            Problem::error(value.span.into(), format!("nothing is said of {name:?}"))
                .help("write { present = true }, or what it must be"),
        );
    }
    section.finish(p);
    found.into_iter().next()
}

/// The client's certificate. What is asked of its parts is asked of a verified one, unless the table says
/// `verified = false`.
fn certificate(mut section: Section<'_>, p: &mut Problems, more: &mut Vec<Condition>) {
    let is = |field, is| Condition::Value { of: Subject::ClientCert(field), is };
    let verified = || is(ClientCertField::Verify, TextMatch::Exact("SUCCESS".into()));
    let not = |condition| Condition::Not(Box::new(condition));
    let said = section.boolean(p, "verified");
    let present = section.boolean(p, "present");
    let before = more.len();
    more.extend(present.map(|there| {
        let shown = is(ClientCertField::Fingerprint, TextMatch::Present);
        if there { shown } else { not(shown) }
    }));
    match said {
        Some(true) => more.push(verified()),
        Some(false) => more.push(not(verified())),
        None => {}
    }
    for (key, field) in CERTIFICATE {
        let Some(read) = section.value(key).and_then(|value| wanted(key, value, p)) else { continue };
        if said.is_none() && !more[before..].contains(&verified()) {
            more.push(verified());
        }
        more.push(read.condition(&Subject::ClientCert(field)));
    }
    if section.entries().is_empty() {
        p.push(
            Problem::error(section.span.clone(), "nothing is said of the certificate")
                .help("write { present = true }, { verified = true } or { subject = \"CN=…\" }"),
        );
    }
    section.finish(p);
}

/// Where a route asks for what no client of its service has.
pub(in crate::config) fn asks_certificate(section: &Section<'_>, asked: bool, p: &mut Problems) {
    if section.has("client_cert") && !asked {
        p.push(
            Problem::warning(section.span_of("client_cert"), "the service asks no client for a certificate")
                .help("add a table `client_cert` to the service, or remove this"),
        );
    }
}
