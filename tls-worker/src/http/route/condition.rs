//! Conditions of routes, made ready: what is asked of a request, and its answer without a copy of anything where
//! nothing has to be decoded.

use super::pattern::Pattern;
use super::{host_in, normal_host};
use crate::api::{Condition, FieldMatch, MAX_CONDITION_DEPTH, PathMatch, Subject, TextMatch};
use crate::vars::{Lookup, Source, Template};
use http::{HeaderName, Method};
use ipnet::IpNet;
use std::collections::HashMap;

/// Regular expressions that are ready, by their text: those of the last snapshot need not be made again.
#[derive(Debug, Default, Clone)]
pub(crate) struct Patterns {
    last: HashMap<Box<str>, Pattern>,
    now: HashMap<Box<str>, Pattern>,
}

impl Patterns {
    /// For the next snapshot.
    pub(crate) fn next(&self) -> Patterns {
        Patterns { last: self.now.clone(), now: HashMap::new() }
    }

    /// All that were asked for.
    pub(crate) fn done(mut self) -> Patterns {
        self.last = HashMap::new();
        self
    }

    pub(crate) fn ready(&mut self, text: &str) -> Result<Pattern, String> {
        if let Some(pattern) = self.now.get(text).or_else(|| self.last.get(text)).cloned() {
            self.now.insert(text.into(), pattern.clone());
            return Ok(pattern);
        }
        let pattern = Pattern::new(text).map_err(|e| format!("regular expression {text:?}: {e}"))?;
        self.now.insert(text.into(), pattern.clone());
        Ok(pattern)
    }
}

/// A [`PathMatch`], ready.
#[derive(Debug)]
pub(super) enum PathTest {
    Exact(Box<str>),
    /// Without its last slash; empty takes every path.
    Prefix(Box<str>),
    Regex(Pattern),
}

impl PathTest {
    pub(super) fn new(path: &PathMatch, patterns: &mut Patterns) -> Result<PathTest, String> {
        Ok(match path {
            PathMatch::Any => PathTest::Prefix("".into()),
            PathMatch::Exact(path) => PathTest::Exact(path.as_str().into()),
            PathMatch::Prefix(prefix) => PathTest::Prefix(prefix.trim_end_matches('/').into()),
            PathMatch::Regex(text) => PathTest::Regex(patterns.ready(text)?),
        })
    }

    pub(super) fn holds(&self, path: &str) -> bool {
        match self {
            PathTest::Exact(exact) => path == &**exact,
            PathTest::Prefix(prefix) => has_prefix(path, prefix),
            PathTest::Regex(pattern) => pattern.is_match(path.as_bytes()),
        }
    }
}

/// Whole elements: `/a` is a prefix of `/a` and `/a/b`, not of `/ab`.
pub(crate) fn has_prefix(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.is_empty() || rest.starts_with('/'))
}

/// A [`TextMatch`], ready.
#[derive(Debug)]
pub(super) enum TextTest {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Pattern),
}

impl TextTest {
    fn new(text: &TextMatch, patterns: &mut Patterns) -> Result<TextTest, String> {
        Ok(match text {
            TextMatch::Present => TextTest::Present,
            TextMatch::Exact(text) => TextTest::Exact(text.as_bytes().into()),
            TextMatch::Prefix(text) => TextTest::Prefix(text.as_bytes().into()),
            TextMatch::Suffix(text) => TextTest::Suffix(text.as_bytes().into()),
            TextMatch::Contains(text) => TextTest::Contains(text.as_bytes().into()),
            TextMatch::Regex(text) => TextTest::Regex(patterns.ready(text)?),
        })
    }

    fn holds(&self, value: &[u8]) -> bool {
        match self {
            TextTest::Present => true,
            TextTest::Exact(text) => *value == **text,
            TextTest::Prefix(text) => value.starts_with(text),
            TextTest::Suffix(text) => value.ends_with(text),
            TextTest::Contains(text) => text.is_empty() || value.windows(text.len()).any(|part| *part == **text),
            TextTest::Regex(pattern) => pattern.is_match(value),
        }
    }
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Value {
    Source(Source),
    Text(Template),
}

/// A [`Condition`], ready.
#[derive(Debug)]
pub(super) enum Test {
    All(Box<[Test]>),
    Any(Box<[Test]>),
    Not(Box<Test>),
    Host(Source, Box<[Box<str>]>),
    Path(PathTest),
    Method(Box<[Method]>),
    Client(Box<[IpNet]>),
    Value(Value, TextTest),
}

impl Test {
    pub(super) fn new(condition: &Condition, patterns: &mut Patterns) -> Result<Test, String> {
        if !condition.is_shallow() {
            return Err(format!("conditions nest deeper than {MAX_CONDITION_DEPTH}"));
        }
        let mut list = |list: &[Condition]| list.iter().map(|one| Test::new(one, patterns)).collect::<Result<_, _>>();
        let lower = |hosts: &[String]| hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect();
        Ok(match condition {
            Condition::All(inner) => Test::All(list(inner)?),
            Condition::Any(inner) => Test::Any(list(inner)?),
            Condition::Not(inner) => Test::Not(Box::new(Test::new(inner, patterns)?)),
            Condition::Host(hosts) => Test::Host(Source::Host, lower(hosts)),
            Condition::Sni(hosts) => Test::Host(Source::TlsSni, lower(hosts)),
            Condition::Path(path) => Test::Path(PathTest::new(path, patterns)?),
            Condition::Method(names) => Test::Method(methods(names)?),
            Condition::Client(networks) => Test::Client(networks.clone().into()),
            Condition::Value { of, is } => Test::Value(value(of)?, TextTest::new(is, patterns)?),
        })
    }

    /// The condition that a header, or a parameter of the query, is this.
    pub(super) fn of_field(field: &FieldMatch, query: bool, patterns: &mut Patterns) -> Result<Test, String> {
        let name = field.name.clone();
        let of = if query { Subject::Query(name) } else { Subject::Header(name) };
        Ok(Test::Value(value(&of)?, TextTest::new(&field.is, patterns)?))
    }

    pub(super) fn holds(&self, asked: &dyn Lookup) -> bool {
        match self {
            Test::All(list) => list.iter().all(|test| test.holds(asked)),
            Test::Any(list) => list.iter().any(|test| test.holds(asked)),
            Test::Not(test) => !test.holds(asked),
            Test::Host(source, hosts) => asked.any(source, &mut |name| {
                let name = str::from_utf8(name).unwrap_or_default();
                let name = normal_host(name);
                hosts.iter().any(|host| host_in(&name, host))
            }),
            Test::Path(test) => {
                asked.any(&Source::Path, &mut |path| str::from_utf8(path).is_ok_and(|path| test.holds(path)))
            }
            Test::Method(list) => {
                asked.any(&Source::Method, &mut |method| list.iter().any(|one| one.as_str().as_bytes() == method))
            }
            Test::Client(networks) => {
                asked.client().is_some_and(|ip| networks.iter().any(|network| network.contains(&ip.to_canonical())))
            }
            Test::Value(Value::Source(source), text) => asked.any(source, &mut |value| text.holds(value)),
            Test::Value(Value::Text(template), text) => template.value(asked).is_some_and(|value| text.holds(&value)),
        }
    }
}

pub(super) fn methods(names: &[String]) -> Result<Box<[Method]>, String> {
    let parse = |name: &String| Method::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no method"));
    names.iter().map(parse).collect()
}

fn value(of: &Subject) -> Result<Value, String> {
    Ok(match of {
        Subject::Header(name) => {
            let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?;
            Value::Source(Source::Header(name))
        }
        Subject::Query(name) => Value::Source(Source::QueryParameter(name.as_str().into())),
        Subject::Cookie(name) => Value::Source(Source::Cookie(name.as_str().into())),
        Subject::ClientCert(field) => Value::Source(Source::ClientCert(*field)),
        Subject::Text(text) => {
            let template = Template::parse(text).map_err(|error| format!("text {text:?}: {error}"))?;
            if template.uses_response() {
                return Err(format!("text {text:?} asks for the answer, which is not there yet"));
            }
            Value::Text(template)
        }
    })
}
