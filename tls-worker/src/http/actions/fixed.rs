//! An answer that is always the same.

use crate::api::{FixedAnswer, MAX_FIXED_BODY};
use crate::http::body::ResponseBody;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

/// An [`FixedAnswer`], ready.
#[derive(Debug)]
pub(in crate::http) struct Fixed {
    status: StatusCode,
    body: Bytes,
    content_type: HeaderValue,
}

impl Fixed {
    pub(super) fn new(fixed: &FixedAnswer) -> Result<Fixed, String> {
        let status = StatusCode::from_u16(fixed.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
        let status = status.ok_or_else(|| format!("{} is no status of an answer", fixed.status))?;
        if fixed.body.len() > MAX_FIXED_BODY {
            return Err(format!("a body of {} bytes is longer than {MAX_FIXED_BODY}", fixed.body.len()));
        }
        // RFC 9110, 15.3.5, 15.3.6 and 15.4.5.
        if matches!(fixed.status, 204 | 205 | 304) && !fixed.body.is_empty() {
            return Err(format!("an answer of status {} has no body", fixed.status));
        }
        let content_type = match &fixed.content_type {
            None => HeaderValue::from_static("text/plain; charset=utf-8"),
            Some(text) => HeaderValue::from_str(text).map_err(|_| format!("{text:?} is no content type"))?,
        };
        Ok(Fixed { status, body: Bytes::from(fixed.body.clone()), content_type })
    }

    pub(in crate::http) fn response(&self, method: &Method) -> Response<ResponseBody> {
        let head = *method == Method::HEAD;
        let body = if head { ResponseBody::empty() } else { ResponseBody::bytes(self.body.clone()) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !self.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, self.content_type.clone());
            if head {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            }
        }
        response
    }
}
