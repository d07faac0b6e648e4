//! The one place that reads who and what a request asks for, before anything else looks at it. Whatever is asked of a
//! request's host and path later, and what is forwarded, is what stands here: one host, and one path in one form.

mod path;

use super::respond::Fault;
use super::route::normal_host;
use super::websocket;
use crate::api::{HttpLimits, PathPolicy};
use crate::stats::Rejection;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, Version, header};
use std::borrow::Cow;

/// Whom a request asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// As the client wrote it, port included.
    pub(super) authority: HeaderValue,
    /// Lower case, without port.
    pub(super) host: Box<str>,
}

/// Read it, and put its path into the form that the policy asks for.
pub(super) fn normalise<B>(request: &mut Request<B>, policy: &PathPolicy, limits: &HttpLimits) -> Result<Asked, Fault> {
    bounds(request, limits).map_err(Fault::Rejected)?;
    let authority = check(request)?;
    let host = normal_host(host_of(&authority)?).into();
    let uri = request.uri();
    if uri.path() != "*" {
        let normal = path::normal(uri.path(), policy).ok_or(Fault::Rejected(Rejection::Path))?;
        if let Cow::Owned(normal) = normal {
            let replaced = with_path(uri, &normal).ok_or(Fault::Rejected(Rejection::Path))?;
            *request.uri_mut() = replaced;
        }
    }
    Ok(Asked { authority, host })
}

/// Of HTTP/1.1, the stream has seen to them.
fn bounds<B>(request: &Request<B>, limits: &HttpLimits) -> Result<(), Rejection> {
    if request.version() != Version::HTTP_2 {
        return Ok(());
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.uri_bytes as usize {
        return Err(Rejection::UriLength);
    }
    if request.headers().len() > limits.header_fields as usize { Err(Rejection::HeaderCount) } else { Ok(()) }
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// See that a request may be served; its authority, as the client wrote it.
fn check<B>(request: &Request<B>) -> Result<HeaderValue, Fault> {
    let tunnel = *request.method() == Method::CONNECT && !websocket::is_asked(request);
    if tunnel || *request.method() == Method::TRACE {
        return Err(Fault::Rejected(Rejection::Method));
    }
    let path = request.uri().path();
    let of_server = path == "*" && *request.method() == Method::OPTIONS;
    let query = request.uri().query().unwrap_or("");
    let of_path = path.starts_with('/') && path.is_ascii() && query.is_ascii();
    if !(of_path || of_server) {
        return Err(Fault::Rejected(Rejection::Target));
    }
    let wrong = Fault::Rejected(Rejection::Host);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next(), request.uri().authority()) {
        (Some(_), Some(_), _) => Err(wrong),
        (Some(host), None, None) => Ok(host.clone()),
        (Some(host), None, Some(authority)) if host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Ok(host.clone())
        }
        (None, None, Some(authority)) if request.version() == Version::HTTP_2 => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| wrong)
        }
        _ => Err(wrong),
    }
}

/// The host in an authority, without its port.
pub(super) fn host_of(authority: &HeaderValue) -> Result<&str, Fault> {
    let wrong = Fault::Rejected(Rejection::Host);
    let text = authority.to_str().map_err(|_| wrong)?;
    let (host, port, known) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(wrong)?;
            let known = host.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
            (host, port, known)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let known = text[..end].bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            (&text[..end], &text[end..], known)
        }
    };
    let port = port.strip_prefix(':').unwrap_or(if port.is_empty() { "0" } else { "x" });
    let port_known = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if known && port_known && !host.is_empty() && host.len() <= 255 { Ok(host) } else { Err(wrong) }
}

#[cfg(test)]
#[path = "normalise_tests.rs"]
mod tests;
