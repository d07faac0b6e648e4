//! The edge's own answers: a status, and a line of text for people.

use super::body::ResponseBody;
use crate::stats::Rejection;
use http::{HeaderValue, Response, StatusCode, header};

/// Why a request got no answer of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request's own fault, or nobody's.
    Rejected(Rejection),
    /// Over a limit; so long to wait.
    Limited { seconds: u32 },
    /// The client's body broke off.
    ClientBroke,
    /// No backend may be chosen.
    NoBackend,
    /// The backend cannot be reached, or broke off.
    BadGateway,
    /// The backend took too long.
    GatewayTimeout,
    /// The client said how long it would wait, and that is over.
    DeadlineExceeded,
}

impl Fault {
    /// What it is counted as, where the edge refused the request.
    pub(super) fn rejection(self) -> Option<Rejection> {
        match self {
            Fault::Rejected(reason) => Some(reason),
            Fault::Limited { .. } => Some(Rejection::Limited),
            _ => None,
        }
    }

    /// What it says to people.
    pub(super) fn text(self) -> &'static str {
        self.said().1.trim_end()
    }

    /// What the client is told.
    pub(crate) fn response(self) -> Response<ResponseBody> {
        let (status, text) = self.said();
        let mut response = Response::new(ResponseBody::text(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let served = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            headers.insert(header::ALLOW, served);
        }
        if let Fault::Limited { seconds } = self {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    fn said(self) -> (StatusCode, &'static str) {
        match self {
            Fault::Rejected(reason) => of(reason),
            Fault::Limited { .. } => of(Rejection::Limited),
            Fault::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "504 the time for it is over\n"),
            Fault::NoBackend => of(Rejection::NoBackend),
            Fault::ClientBroke => (StatusCode::BAD_REQUEST, "400 the request's body broke off\n"),
            Fault::BadGateway => (StatusCode::BAD_GATEWAY, "502 the backend did not answer properly\n"),
            Fault::GatewayTimeout => (StatusCode::GATEWAY_TIMEOUT, "504 the backend did not answer in time\n"),
        }
    }
}

fn of(reason: Rejection) -> (StatusCode, &'static str) {
    let (status, text) = match reason {
        Rejection::NoRoute => (404, "404 nothing is served here\n"),
        Rejection::Method => (405, "405 this method is not served\n"),
        Rejection::BodySlow => (408, "408 the body did not arrive in time\n"),
        Rejection::BodySize => (413, "413 the body is longer than is taken here\n"),
        Rejection::UriLength => (414, "414 the request target is too long\n"),
        Rejection::Misdirected => (421, "421 connect anew for this host\n"),
        Rejection::Limited => (429, "429 too many requests\n"),
        Rejection::HeaderCount => (431, "431 the header has too many fields\n"),
        Rejection::HeaderSize => (431, "431 the header is too long\n"),
        Rejection::ClientCert => (403, "403 the client certificate is not accepted\n"),
        Rejection::Denied => (403, "403 this is not allowed\n"),
        Rejection::Loop => (508, "508 a callout came back as a request\n"),
        Rejection::QueueFull | Rejection::QueueTimeout | Rejection::CircuitRequests | Rejection::CircuitPending => {
            (503, "503 the backends are busy\n")
        }
        Rejection::NoBackend => (503, "503 no backend is available\n"),
        Rejection::Deadline => (504, "504 there was no answer in time\n"),
        Rejection::Rewrite => (400, "400 the request cannot be passed on as it is written\n"),
        Rejection::Host => (400, "400 exactly one valid host is needed\n"),
        Rejection::Target => (400, "400 the request target is not a path\n"),
        Rejection::Path => (400, "400 the path can be read in more than one way\n"),
        Rejection::Fragment => (400, "400 the request target has a fragment\n"),
        Rejection::RequestLine => (400, "400 the request line is malformed\n"),
        Rejection::Version => (400, "400 this version of HTTP is not served\n"),
        Rejection::Leading => (400, "400 white space before the first field\n"),
        Rejection::LineEnd => (400, "400 a line does not end in CR LF\n"),
        Rejection::Fold => (400, "400 a field on more than one line\n"),
        Rejection::HeaderName => (400, "400 a field's name is malformed\n"),
        Rejection::SpaceBeforeColon => (400, "400 white space before a colon\n"),
        Rejection::Control => (400, "400 a control character in a field\n"),
        Rejection::TwoFramings => (400, "400 two lengths of one body\n"),
        Rejection::OldChunked => (400, "400 HTTP/1.0 has no transfer codings\n"),
        Rejection::TransferEncoding => (400, "400 the only transfer coding is chunked, once\n"),
        Rejection::ContentLength => (400, "400 the content length is no number, or more than one\n"),
        Rejection::Chunk | Rejection::Trailer => (400, "400 the body is malformed\n"),
    };
    (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), text)
}
