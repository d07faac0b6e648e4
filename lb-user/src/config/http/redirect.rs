//! Answers that the edge makes: `redirect`, `respond`, and a service's `redirect_https`; and the words of another path,
//! which `rewrite` has too.

use super::super::problem::{Problem, Problems};
use super::super::scalar::{self, Wrong};
use super::super::section::{At, Section, integer};
use super::matches::only_one;
use super::text::{When, regex, template};
use std::ops::Range;
use tls_worker::api::{EdgeAnswer, FixedAnswer, MAX_FIXED_BODY, PathChange, PathMatch, Redirect};
use toml_span::value::ValueInner;

/// Codes that make clients ask elsewhere.
const CODES: [u32; 5] = [301, 302, 303, 307, 308];

/// `redirect`: an address, or a table of its parts.
pub(super) fn redirect(section: &mut Section<'_>, matched: &PathMatch, p: &mut Problems) -> Option<EdgeAnswer> {
    let value = section.value("redirect")?;
    if let ValueInner::String(text) = value.as_ref() {
        let to = address(&At { value: text, span: value.span.into() }, p)?;
        return Some(EdgeAnswer::Redirect(Redirect { to: Some(to), code: 302, ..Redirect::default() }));
    }
    let mut inner = Section::of(p, "`redirect`".into(), value.span.into(), value)?;
    let to = inner.string(p, "to").and_then(|at| address(&at, p));
    let scheme = inner.choice(p, "scheme", &[("http", "http"), ("https", "https")]).map(str::to_owned);
    let host = inner.parsed(p, "host", host_alone).map(|at| at.value);
    let port = inner.integer(p, "port", 1..=65535).map(|port| port as u16);
    let path = new_path(&mut inner, matched, p);
    let drop_query = inner.boolean(p, "keep_query") == Some(false);
    let code = code(&mut inner, p).unwrap_or(302);
    let parts = ["scheme", "host", "port", "path", "path_prefix", "path_regex"];
    for part in parts {
        only_one(&inner, &["to", part], p);
    }
    only_one(&inner, &["to", "keep_query"], p);
    if !inner.has("to") && !parts.iter().any(|part| inner.has(part)) {
        let problem = Problem::error(inner.span.clone(), "this sends clients to where they are");
        p.push(problem.help("name `to`, or one of `scheme`, `host`, `port` and the paths"));
    }
    inner.finish(p);
    Some(EdgeAnswer::Redirect(Redirect { to, scheme, host, port, path, drop_query, code }))
}

fn code(section: &mut Section<'_>, p: &mut Problems) -> Option<u16> {
    let code = section.integer(p, "code", 300..=399)?;
    if !CODES.contains(&code) {
        let problem = Problem::error(section.span_of("code"), format!("{code} is no code of redirects"));
        p.push(problem.help("write 301, 302, 303, 307 or 308; the last two keep method and body"));
    }
    Some(code as u16)
}

fn address(at: &At<&str>, p: &mut Problems) -> Option<String> {
    template(p, at, When::Request)?;
    if !["http://", "https://", "/", "${"].iter().any(|begin| at.value.starts_with(begin)) {
        p.push(
            Problem::error(at.span.clone(), format!("{:?} is no address", at.value))
                .help("write \"https://www.example.com${request.uri}\", or a path"),
        );
        return None;
    }
    Some(at.value.to_owned())
}

fn host_alone(text: &str) -> Result<String, Wrong> {
    let authority = scalar::host_header(text)?;
    match authority.rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => {
            Err(Wrong::new(format!("{text:?} holds a port"), "write the host alone, and `port` beside it"))
        }
        _ => Ok(authority),
    }
}

/// `path`, `path_prefix` or `path_regex`: what stands in place of the path.
pub(super) fn new_path(section: &mut Section<'_>, matched: &PathMatch, p: &mut Problems) -> Option<PathChange> {
    let full = section.parsed(p, "path", scalar::path_exact).map(|at| PathChange::Full(at.value));
    let prefix = section.parsed(p, "path_prefix", scalar::path_exact).map(|at| PathChange::Prefix(at.value));
    if prefix.is_some() && matched.prefix().is_none() {
        p.push(
            Problem::error(section.span_of("path_prefix"), "a prefix is replaced where a prefix is matched")
                .help("give the route `path` in place of `path_exact` or `path_regex`, or write `path_regex` here"),
        );
    }
    let pattern = section.section(p, "path_regex").and_then(|mut inner| {
        let pattern = inner.string(p, "pattern").and_then(|at| regex(p, &at));
        let with = inner.string(p, "with").map(|at| at.value.to_owned());
        for key in ["pattern", "with"] {
            if !inner.has(key) {
                inner.missing(key, "write { pattern = '^/old/(.*)$', with = '/new/$1' }");
            }
        }
        inner.finish(p);
        Some(PathChange::Regex { pattern: pattern?, with: with? })
    });
    only_one(section, &["path", "path_prefix", "path_regex"], p);
    full.or(prefix).or(pattern)
}

/// `respond`: a status, or a table.
pub(super) fn respond(section: &mut Section<'_>, p: &mut Problems) -> Option<EdgeAnswer> {
    let value = section.value("respond")?;
    if matches!(value.as_ref(), ValueInner::Integer(_)) {
        let status = integer(p, value, "respond", 200..=599)? as u16;
        return Some(EdgeAnswer::Fixed(FixedAnswer { status, ..FixedAnswer::default() }));
    }
    let mut inner = Section::of(p, "`respond`".into(), value.span.into(), value)?;
    let status = inner.integer(p, "status", 200..=599);
    if !inner.has("status") {
        inner.missing("status", "write { status = 503, body = \"text\" }");
    }
    let body = inner.string(p, "body").map(|at| at.value.to_owned()).unwrap_or_default();
    if body.len() > MAX_FIXED_BODY {
        let problem = Problem::error(inner.span_of("body"), format!("{} bytes are too long", body.len()));
        p.push(problem.help(format!("write at most {MAX_FIXED_BODY} bytes")));
    }
    if let Some(status @ (204 | 205 | 304)) = status.filter(|_| !body.is_empty()) {
        let problem = Problem::error(inner.span_of("body"), format!("an answer of status {status} has no body"));
        p.push(problem.help("remove `body`, or write another status"));
    }
    let content_type = inner.parsed(p, "content_type", content_type).map(|at| at.value);
    inner.finish(p);
    Some(EdgeAnswer::Fixed(FixedAnswer { status: status? as u16, body, content_type }))
}

fn content_type(text: &str) -> Result<String, Wrong> {
    let value = hyper::header::HeaderValue::from_str(text);
    if value.is_ok() && text.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty()) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{text:?} is no media type"), "write \"text/html; charset=utf-8\""))
}

/// A service's `redirect_https`, and where it stands. None: it has none; no answer: what stands there is wrong.
pub(in crate::config) fn to_https(
    section: &mut Section<'_>,
    p: &mut Problems,
) -> Option<(Option<EdgeAnswer>, Range<usize>)> {
    let value = section.value("redirect_https")?;
    let span = section.span_of("redirect_https");
    let (port, code) = match value.as_ref() {
        ValueInner::Boolean(false) => return None,
        ValueInner::Boolean(true) => (None, 308),
        ValueInner::Table(_) => {
            let mut inner = Section::of(p, "`redirect_https`".into(), span.clone(), value)?;
            let port = inner.integer(p, "port", 1..=65535).map(|port| port as u16);
            let code = code(&mut inner, p).unwrap_or(308);
            inner.finish(p);
            (port, code)
        }
        _ => {
            p.push(
                Problem::error(span.clone(), "`redirect_https` is true, false or a table")
                    .help("write redirect_https = true, or { code = 301, port = 8443 }"),
            );
            return Some((None, span));
        }
    };
    let redirect = Redirect { scheme: Some("https".into()), port, code, ..Redirect::default() };
    Some((Some(EdgeAnswer::Redirect(redirect)), span))
}
