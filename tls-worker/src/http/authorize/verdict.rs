//! What the answer to a callout means.

use super::ready::Ready;
use crate::api::{BodyTest, TextTest};
use crate::http::body::ResponseBody;
use crate::stats::CalloutFailure;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;

/// What is read of a body after the part that is looked at, so that its connection can be kept, bytes.
const MAX_REST: usize = 64 << 10;

/// See the module.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) status: StatusCode,
    /// What the request goes on with, or the refusal has.
    pub(super) headers: HeaderMap,
}

impl Verdict {
    /// Of nobody.
    pub(super) fn failed() -> Self {
        Verdict { allowed: false, status: StatusCode::FORBIDDEN, headers: HeaderMap::new() }
    }

    /// Of an answer.
    pub(super) async fn of(response: Response<ResponseBody>, ready: &Ready) -> Result<Self, CalloutFailure> {
        let (parts, mut body) = response.into_parts();
        let test = ready.allow.body.as_ref();
        let wanted = test.map_or(0, |test| test.first as usize);
        let (mut text, mut rest) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| CalloutFailure::Broken)?;
            let Some(data) = frame.data_ref() else { continue };
            let room = (wanted - text.len()).min(data.len());
            text.extend_from_slice(&data[..room]);
            rest += data.len() - room;
            if rest > MAX_REST {
                break;
            }
        }
        let code = parts.status.as_u16();
        let by_status = match (&ready.allow.status[..], test) {
            ([], None) => parts.status.is_success(),
            ([], Some(_)) => true,
            (ranges, _) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&code)),
        };
        let allowed = by_status && test.is_none_or(|test| holds(test, &text));
        let copied = if allowed { &ready.request_headers } else { &ready.refusal_headers };
        let mut headers = HeaderMap::new();
        for name in copied {
            for value in parts.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Ok(Verdict { allowed, status: parts.status, headers })
    }
}

/// Whether a body is what it must be.
fn holds(test: &BodyTest, body: &[u8]) -> bool {
    let text = test.text.as_bytes();
    match test.test {
        TextTest::Equals => body.trim_ascii() == text.trim_ascii(),
        TextTest::Prefix => body.starts_with(text),
        TextTest::Contains => text.is_empty() || body.windows(text.len()).any(|window| window == text),
    }
}

/// An answer of the edge's own with this status, where it is one of a refusal; else 403.
pub(super) fn refusal(status: StatusCode) -> Response<ResponseBody> {
    let status = match status.as_u16() {
        300..=499 => status,
        _ => StatusCode::FORBIDDEN,
    };
    let text = match status.as_u16() {
        401 => "401 who you are must be shown\n",
        300..=399 => "go on elsewhere\n",
        _ => "this is not allowed\n",
    };
    let mut response = Response::new(ResponseBody::text(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    // What one client was refused is nothing for a cache that others share.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_tested_as_they_are_written() {
        let test = |test, text: &str| BodyTest { first: 20, test, text: text.into() };
        assert!(holds(&test(TextTest::Equals, "Allow"), b"Allow\r\n"));
        assert!(!holds(&test(TextTest::Equals, "Allow"), b"allow"));
        assert!(!holds(&test(TextTest::Equals, "Allow"), b"Allowed"));
        assert!(holds(&test(TextTest::Prefix, "Allow"), b"Allowed"));
        assert!(holds(&test(TextTest::Contains, "low"), b"Allow"));
        assert!(!holds(&test(TextTest::Contains, "Allow"), b"Deny"));
        assert!(!holds(&test(TextTest::Contains, "Allow"), b"All"));
    }

    #[test]
    fn a_refusal_is_never_a_success() {
        assert_eq!(refusal(StatusCode::OK).status(), StatusCode::FORBIDDEN);
        assert_eq!(refusal(StatusCode::BAD_GATEWAY).status(), StatusCode::FORBIDDEN);
        assert_eq!(refusal(StatusCode::UNAUTHORIZED).status(), StatusCode::UNAUTHORIZED);
    }
}
