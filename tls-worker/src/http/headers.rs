//! How a request and its answer are rebuilt for the other side: nothing that belongs to one connection passes, and what
//! the edge says about the client is never taken from the client.

use super::respond::Fault;
use crate::api::ClientCertField;
use crate::conn::Client;
use crate::stats::Rejection;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header};
use http_body::Body;

/// Host and port of an authority that was checked; an IPv6 address keeps its brackets.
pub(super) fn split_authority(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// The protocol that an HTTP/1.1 request asks to switch to. HTTP/2 in clear text is not among them: behind such a
/// tunnel, requests would pass that nobody looked at.
pub(super) fn upgrade_of<B>(request: &Request<B>) -> Option<HeaderValue> {
    let to = request.headers().get(header::UPGRADE)?;
    let asked = request.version() == Version::HTTP_11 && has_token(request.headers(), header::CONNECTION, "upgrade");
    let is_h2c = tokens(to).any(|t| t.eq_ignore_ascii_case("h2c"));
    (asked && !is_h2c).then(|| to.clone())
}

/// Make the request that the backend gets.
pub(super) fn rebuild_request(
    parts: &mut Parts,
    body: &impl Body,
    authority: &HeaderValue,
    upgrade: Option<&HeaderValue>,
) {
    let headers = &mut parts.headers;
    let wants_trailers = headers.contains_key(header::TE) && has_token(headers, header::TE, "trailers");
    remove_hop_by_hop(headers, |name| matches!(name, "expect" | "http2-settings") || is_edges_own(name));
    if parts.version == Version::HTTP_2 {
        headers.insert(header::HOST, authority.clone());
        join_cookies(headers);
    }
    if let Some(to) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, to.clone());
    } else if wants_trailers {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if !body.is_end_stream() && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() || parts.uri.scheme().is_some() {
        let whole = std::mem::take(&mut parts.uri).into_parts();
        parts.uri = Uri::from(whole.path_and_query.unwrap_or(PathAndQuery::from_static("/")));
    }
}

/// What the backend is told of the client's certificate, and never by the client: what came under one of `names` goes.
pub(super) fn tell_certificate(
    headers: &mut HeaderMap,
    names: &[HeaderName],
    told: &[(HeaderName, ClientCertField)],
    client: &Client,
) {
    for name in names {
        headers.remove(name);
    }
    for (name, field) in told {
        if let Some(value) = client.certificate_header(*field) {
            headers.insert(name.clone(), value);
        }
    }
}

/// What the edge alone says of the client. A backend behind CGI or WSGI takes `_` for `-`: then what looks like one of
/// these, or like framing, is one.
pub(crate) fn is_edges_own(name: &str) -> bool {
    if name.contains('_') {
        let name = name.replace('_', "-");
        return matches!(&*name, "content-length" | "transfer-encoding") || is_edges_own(&name);
    }
    matches!(name, "forwarded" | "x-real-ip") || name.starts_with("x-forwarded-")
}

/// Take out of trailers what the edge alone says; `names` are those of client certificates.
pub(super) fn remove_edges_own(trailers: &mut HeaderMap, names: &[HeaderName]) {
    let doomed: Vec<_> = trailers.keys().filter(|n| is_edges_own(n.as_str()) || names.contains(n)).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Make a rebuilt request one of the HTTP that its connection speaks. It may have been one of the other before: a
/// request that was not taken is sent again on another connection.
pub(super) fn speak(request: &mut Request<impl Body>, http2: bool) -> Result<(), Fault> {
    match (request.version() == Version::HTTP_2, http2) {
        (false, true) => to_http2(request),
        (true, false) => {
            to_http1(request);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// RFC 9113, 8.2.2 and 8.3.1: the authority is a part of the target, and framing is none of the header's.
fn to_http2(request: &mut Request<impl Body>) -> Result<(), Fault> {
    let headers = request.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    let authority = headers.remove(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    // HTTP/2 is spoken to backends over TLS alone.
    target.scheme = Some(Scheme::HTTPS);
    target.authority = Some(authority.ok_or(Fault::Rejected(Rejection::Host))?);
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| Fault::Rejected(Rejection::Target))?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

fn to_http1(request: &mut Request<impl Body>) {
    let target = std::mem::take(request.uri_mut()).into_parts();
    let host = target.authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    *request.uri_mut() = Uri::from(target.path_and_query.unwrap_or(PathAndQuery::from_static("/")));
    *request.version_mut() = Version::HTTP_11;
    let chunked = !request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_LENGTH);
    let headers = request.headers_mut();
    headers.extend(host.map(|host| (header::HOST, host)));
    if headers.contains_key(header::TE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if chunked {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Make the answer that the client gets.
pub(super) fn rebuild_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers, |_| false);
}

/// RFC 9110, 7.6.1: what belongs to one connection, what `Connection` names, and what else is `doomed`.
fn remove_hop_by_hop(headers: &mut HeaderMap, doomed: impl Fn(&str) -> bool) {
    let mut remove: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        let text = name.as_str();
        if matches!(text, "connection" | "keep-alive" | "te" | "transfer-encoding" | "upgrade")
            || text.starts_with("proxy-")
            || doomed(text)
        {
            remove.push(name.clone());
        }
    }
    if remove.contains(&header::CONNECTION) {
        for name in headers.get_all(header::CONNECTION).iter().flat_map(tokens) {
            // What frames and addresses the message stays, whatever a sender names.
            if !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case("content-length") {
                remove.extend(HeaderName::from_bytes(name.as_bytes()));
            }
        }
    }
    for name in remove {
        headers.remove(name);
    }
}

/// RFC 9113, 8.2.3: HTTP/2 may split cookies over several fields, HTTP/1.1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

pub(super) fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().flat_map(tokens).any(|t| t.eq_ignore_ascii_case(token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim).filter(|t| !t.is_empty())
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
