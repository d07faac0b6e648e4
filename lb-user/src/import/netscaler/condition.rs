//! Conditions of policies as conditions of routes.

use super::expr::{Call, Expr, plain};
use crate::import::toml::{key, list, quote};

/// What a request must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// Any.
    Always,
    /// All of it holds.
    All(Vec<Condition>),
    /// Some of it holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// A key of a route, and its value as TOML.
    Is(String, String),
    /// What a callout says: its name, how its answer is tested, and by what.
    Callout(String, &'static str, String),
}

/// The condition of an expression, or why there is none.
pub(super) fn condition(expr: &Expr) -> Result<Condition, String> {
    match expr {
        Expr::Or(list) => Ok(Condition::Any(list.iter().map(condition).collect::<Result<_, _>>()?)),
        Expr::And(list) => Ok(all(list.iter().map(condition).collect::<Result<_, _>>()?)),
        Expr::Not(inner) => Ok(not(condition(inner)?)),
        Expr::Compare(left, operator, right) => {
            let equal = compared(left, right)?;
            match operator.as_str() {
                "==" => Ok(equal),
                "!=" => Ok(not(equal)),
                _ => Err(format!("{operator} has no counterpart")),
            }
        }
        Expr::Text(text) if text.eq_ignore_ascii_case("true") => Ok(Condition::Always),
        Expr::Chain(None, calls) => chain(calls),
        Expr::Chain(Some(base), calls) => match &calls[..] {
            [call] if call.name == "NOT" => Ok(not(condition(base)?)),
            _ => Err("a function of what stands in parentheses has no counterpart".into()),
        },
        Expr::Text(_) | Expr::Concat(_) => Err("a text is no condition".into()),
    }
}

/// Both, without the parts that always hold.
pub(super) fn all(list: Vec<Condition>) -> Condition {
    let mut flat = Vec::new();
    for one in list {
        match one {
            Condition::Always => {}
            Condition::All(inner) => flat.extend(inner),
            one => flat.push(one),
        }
    }
    match flat.len() {
        0 => Condition::Always,
        1 => flat.remove(0),
        _ => Condition::All(flat),
    }
}

pub(super) fn not(inner: Condition) -> Condition {
    match inner {
        Condition::Not(inner) => *inner,
        inner => Condition::Not(Box::new(inner)),
    }
}

fn compared(left: &Expr, right: &Expr) -> Result<Condition, String> {
    let Expr::Chain(None, calls) = left else { return Err("a comparison of this has no counterpart".into()) };
    let mut calls = calls.clone();
    calls.push(Call { name: "EQ".into(), arguments: vec![right.clone()] });
    chain(&calls)
}

fn chain(calls: &[Call]) -> Result<Condition, String> {
    if let Some((last, before)) = calls.split_last()
        && last.name == "NOT"
    {
        return Ok(not(chain(before)?));
    }
    let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    match &names[..] {
        ["TRUE" | "NS_TRUE"] | ["HTTP", "REQ", "IS_VALID"] => return Ok(Condition::Always),
        ["FALSE" | "NS_FALSE"] => return Ok(not(Condition::Always)),
        ["CLIENT", "SSL", "CLIENT_CERT", "EXISTS"] => {
            return Ok(Condition::Is("client_cert.present".into(), "true".into()));
        }
        ["HTTP", "REQ", "METHOD", "EQ"] => {
            let method = argument(calls.last())?.to_ascii_uppercase();
            return Ok(Condition::Is("methods".into(), list(&[method])));
        }
        ["CLIENT", "IP", "SRC", "EQ" | "IN_SUBNET"] => return clients(&argument(calls.last())?),
        _ => {}
    }
    let (subject, rest) = subject(calls)?;
    let ignores_case = |call: &Call| {
        call.name == "SET_TEXT_MODE" && call.arguments.first().and_then(plain).is_some_and(|mode| mode == "IGNORECASE")
    };
    let folded = rest.iter().any(ignores_case);
    let tests: Vec<&Call> = rest.iter().filter(|call| !ignores_case(call)).collect();
    let [test] = tests[..] else { return Err(format!("{} has no counterpart", names.join("."))) };
    if test.name == "EXISTS" {
        return Ok(Condition::Is(subject.key(), "{ present = true }".into()));
    }
    let text = argument(Some(test))?;
    subject.test(&test.name, &text, folded).ok_or_else(|| format!(".{} has no counterpart", test.name))
}

fn argument(call: Option<&Call>) -> Result<String, String> {
    let first = call.and_then(|call| call.arguments.first());
    first.and_then(plain).ok_or_else(|| "what it is compared with is no text".into())
}

fn clients(text: &str) -> Result<Condition, String> {
    let network = text.parse::<ipnet::IpNet>().map(|network| network.trunc().to_string());
    let address = || text.parse::<std::net::IpAddr>().map(|address| address.to_string());
    match network.or_else(|_| address()) {
        Ok(network) => Ok(Condition::Is("clients".into(), list(&[network]))),
        Err(_) => Err(format!("{text:?} is no network")),
    }
}

/// What is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Uri,
    Path,
    Host,
    Header(String),
    Query(String),
    Cookie(String),
    Callout(String),
}

/// It, and what is done with it.
fn subject(calls: &[Call]) -> Result<(Subject, &[Call]), String> {
    let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    let named = |at: usize| argument(calls.get(at));
    Ok(match &names[..] {
        ["HTTP", "REQ", "URL", "QUERY", "VALUE", ..] => (Subject::Query(named(4)?), &calls[5..]),
        ["HTTP", "REQ", "URL", "PATH", ..] => (Subject::Path, &calls[4..]),
        ["HTTP", "REQ", "URL", ..] => (Subject::Uri, &calls[3..]),
        ["HTTP", "REQ", "HOSTNAME", "SERVER", ..] => (Subject::Host, &calls[4..]),
        ["HTTP", "REQ", "HOSTNAME", ..] => (Subject::Host, &calls[3..]),
        ["HTTP", "REQ", "HEADER", "VALUE", ..] => (Subject::Header(named(2)?), &calls[4..]),
        ["HTTP", "REQ", "HEADER", ..] => {
            let name = named(2)?;
            let host = name.eq_ignore_ascii_case("host");
            (if host { Subject::Host } else { Subject::Header(name) }, &calls[3..])
        }
        ["HTTP", "REQ", "COOKIE", "VALUE", ..] => (Subject::Cookie(named(4 - 1)?), &calls[4..]),
        ["SYS", "HTTP_CALLOUT", ..] => (Subject::Callout(named(1)?), &calls[2..]),
        _ => return Err(format!("{} has no counterpart", names.join("."))),
    })
}

impl Subject {
    fn key(&self) -> String {
        match self {
            Subject::Uri => format!("values.{}", key("${request.uri}")),
            Subject::Path => format!("values.{}", key("${request.path}")),
            Subject::Host => format!("values.{}", key("${request.host}")),
            Subject::Header(name) => format!("headers.{}", key(name)),
            Subject::Query(name) => format!("query.{}", key(name)),
            Subject::Cookie(name) => format!("cookies.{}", key(name)),
            Subject::Callout(_) => String::new(),
        }
    }

    fn test(&self, test: &str, text: &str, folded: bool) -> Option<Condition> {
        let word = match test {
            "STARTSWITH" => "prefix",
            "ENDSWITH" => "suffix",
            "CONTAINS" => "contains",
            "EQ" => "exact",
            _ => return None,
        };
        if let Subject::Callout(name) = self {
            let word = match word {
                "exact" => "body_equals",
                "prefix" => "body_prefix",
                "contains" => "body_contains",
                _ => return None,
            };
            return Some(Condition::Callout(name.clone(), word, text.to_owned()));
        }
        let is = |key: String, value: String| Some(Condition::Is(key, value));
        let host_name = |text: &str| crate::config::dns_name(text).is_ok();
        match (self, word) {
            (Subject::Host, "exact") if host_name(text) => is("hosts".into(), list(&[text.to_ascii_lowercase()])),
            // By characters, as there; `path` goes by whole elements.
            (Subject::Uri | Subject::Path, "prefix") if text.starts_with('/') && !text.contains('?') => {
                let fold = if folded { "(?i)" } else { "" };
                is("path_regex".into(), quote(&format!("{fold}^{}", escaped(text))))
            }
            (Subject::Path, "exact") if !folded && text.starts_with('/') => is("path_exact".into(), quote(text)),
            _ if folded => {
                let (from, to) = match word {
                    "prefix" => ("^", ""),
                    "suffix" => ("", "$"),
                    "exact" => ("^", "$"),
                    _ => ("", ""),
                };
                let pattern = quote(&format!("(?i){from}{}{to}", escaped(text)));
                is(self.key(), format!("{{ regex = {pattern} }}"))
            }
            _ => is(self.key(), format!("{{ {word} = {} }}", quote(text))),
        }
    }
}

/// As a regular expression that finds this and nothing else.
fn escaped(text: &str) -> String {
    let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Keys and values of a route, as TOML.
pub(super) fn keys(condition: &Condition) -> Vec<(String, String)> {
    match condition {
        Condition::Always | Condition::Callout(..) => Vec::new(),
        Condition::Is(key, value) => vec![(key.clone(), value.clone())],
        Condition::Not(inner) => vec![("not".into(), inline(inner))],
        Condition::Any(list) => vec![("any".into(), tables(list))],
        Condition::All(list) => {
            let (mut found, mut rest): (Vec<(String, String)>, Vec<Condition>) = (Vec::new(), Vec::new());
            for one in list {
                let own = keys(one);
                match own.iter().any(|(key, _)| found.iter().any(|(taken, _)| taken == key)) {
                    true => rest.push(one.clone()),
                    false => found.extend(own),
                }
            }
            if !rest.is_empty() {
                found.push(("all".into(), tables(&rest)));
            }
            found
        }
    }
}

fn tables(list: &[Condition]) -> String {
    format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", "))
}

fn inline(condition: &Condition) -> String {
    let keys = keys(condition).into_iter().map(|(key, value)| format!("{key} = {value}"));
    format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "))
}
