//! The subrequest: made from texts with variables, and from nothing else of the request.

use super::ready::Ready;
use super::{CDN_LOOP, process_token};
use crate::http::body::RequestBody;
use crate::http::exchange::Facts;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use std::fmt::Write as _;

/// What cannot stand in a path as it is (RFC 3986, 3.3), so that no value of a client ends the path.
const NOT_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`');

/// None: what comes out is no request.
pub(super) fn question(ready: &Ready, facts: &Facts<'_>) -> Option<Request<RequestBody>> {
    let mut target = percent_encode(&ready.path.fill(facts), NOT_IN_PATH).to_string();
    for (place, (name, value)) in ready.query.iter().enumerate() {
        let mark = if place == 0 { '?' } else { '&' };
        let value = value.fill(facts);
        write!(target, "{mark}{name}={}", percent_encode(&value, NON_ALPHANUMERIC)).ok()?;
    }
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = ready.method.clone();
    *request.uri_mut() = Uri::try_from(target).ok()?;
    let headers: &mut HeaderMap = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_bytes(&ready.host.fill(facts)).ok().filter(|h| !h.is_empty())?);
    headers.insert(CDN_LOOP, HeaderValue::from_static(process_token()));
    if request.method().as_str() != "GET" && request.method().as_str() != "HEAD" {
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    for (name, value) in &ready.headers {
        // Undefined: left out. What is no value of a header (a decoded line break) would be another header.
        if let Some(value) = value.value(facts).and_then(|value| HeaderValue::from_bytes(&value).ok()) {
            request.headers_mut().insert(name.clone(), value);
        }
    }
    Some(request)
}
