//! Answers are made smaller for clients that take it. Here is decided which: `accept` reads what the client takes,
//! `encoder` does the work, `body` is the answer's body meanwhile.
//!
//! Never touched: what is compressed already, parts (206, `Content-Range`), what says `no-transform` (RFC 9110, 7.7), what
//! has a digest of its own bytes, answers without a body, and clients of HTTP/1.0.

mod accept;
mod body;
mod encoder;

pub(crate) use body::Compressing;

use super::body::ResponseBody;
use super::headers::has_token;
use crate::api::{Coding, Compression};
use crate::stats::ServiceStats;
use crate::thread::Thread;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body::Body;
use std::rc::Rc;
use std::sync::Arc;

/// Digests of the bytes as they are (RFC 9530; RFC 3230; RFC 2616, 14.15).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What an answer needs to know of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    rules_apply: bool,
    coding: Option<Coding>,
}

impl Wish {
    /// What this client takes. `rules`: of the request's route; none: nothing is compressed.
    pub(super) fn of(rules: Option<&Compression>, method: &Method, version: Version, headers: &HeaderMap) -> Self {
        let Some(rules) = rules.filter(|_| version >= Version::HTTP_11) else {
            return Wish { rules_apply: false, coding: None };
        };
        let fields = headers.get_all(header::ACCEPT_ENCODING);
        let coding = if *method == Method::HEAD { None } else { accept::best(fields.iter(), &rules.codings) };
        Wish { rules_apply: true, coding }
    }
}

/// Compress an answer, where that is wanted on both sides.
pub(super) fn compress(
    rules: &Compression,
    wish: Wish,
    response: Response<ResponseBody>,
    thread: &Rc<Thread>,
    stats: &Arc<ServiceStats>,
) -> Response<ResponseBody> {
    let mut response = response;
    if !wish.rules_apply || !may(rules, &response) {
        return response;
    }
    // Whether this client gets it compressed or not: a cache must ask for each.
    vary(response.headers_mut());
    let Some(coding) = wish.coding else { return response };
    if thread.compressing.get() >= rules.at_once {
        stats.compression.busy.inc();
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    weaken(headers);
    stats.compression.responses[coding as usize].inc();
    response.map(|body| ResponseBody::compressed(body, coding, thread, stats))
}

/// Whether an answer may be touched, and is worth it.
fn may(rules: &Compression, response: &Response<ResponseBody>) -> bool {
    let headers = response.headers();
    let status = response.status();
    let has_body = !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT)
        && !response.body().is_end_stream();
    let is_plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
    let untouchable = headers.contains_key(header::CONTENT_RANGE)
        || DIGESTS.iter().any(|name| headers.contains_key(*name))
        || has_token(headers, header::CACHE_CONTROL, "no-transform");
    let large = response.body().size_hint().exact().is_none_or(|n| n >= rules.min_size.into());
    has_body && is_plain && !untouchable && large && is_of(&rules.types, headers)
}

/// Whether the media type is one of these.
fn is_of(types: &[String], headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let kind = value.split(';').next().unwrap_or("").trim();
    types.iter().any(|known| match known.strip_suffix('*') {
        // `text/`
        Some(class) => kind.get(..class.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(class)),
        None => kind.eq_ignore_ascii_case(known),
    })
}

fn vary(headers: &mut HeaderMap) {
    if !has_token(headers, header::VARY, "accept-encoding") && !has_token(headers, header::VARY, "*") {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// RFC 9110, 8.8.1: a strong validator is one of the bytes, and these change.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests;
