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
        self.told().1.trim_end()
    }

    fn told(self) -> (StatusCode, &'static str) {
        match self {
            Fault::Rejected(Rejection::Host) => (StatusCode::BAD_REQUEST, "400 exactly one valid host is needed\n"),
            Fault::Rejected(Rejection::Target) => (StatusCode::BAD_REQUEST, "400 the request target is not a path\n"),
            Fault::Rejected(Rejection::Method) => (StatusCode::METHOD_NOT_ALLOWED, "405 this method is not served\n"),
            Fault::Rejected(Rejection::NoBackend) | Fault::NoBackend => {
                (StatusCode::SERVICE_UNAVAILABLE, "503 no backend is available\n")
            }
            Fault::Rejected(Rejection::NoRoute) => (StatusCode::NOT_FOUND, "404 nothing is served here\n"),
            Fault::Rejected(Rejection::Misdirected) => {
                (StatusCode::MISDIRECTED_REQUEST, "421 connect anew for this host\n")
            }
            Fault::Rejected(Rejection::ClientCert) => {
                (StatusCode::FORBIDDEN, "403 the client certificate is not accepted\n")
            }
            Fault::Rejected(Rejection::Limited) | Fault::Limited { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "429 too many requests\n")
            }
            Fault::Rejected(Rejection::Denied) => (StatusCode::FORBIDDEN, "403 this is not allowed\n"),
            Fault::Rejected(Rejection::Loop) => (StatusCode::LOOP_DETECTED, "508 a callout came back as a request\n"),
            Fault::ClientBroke => (StatusCode::BAD_REQUEST, "400 the request's body broke off\n"),
            Fault::BadGateway => (StatusCode::BAD_GATEWAY, "502 the backend did not answer properly\n"),
            Fault::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "504 the time for it is over\n"),
            Fault::GatewayTimeout => (StatusCode::GATEWAY_TIMEOUT, "504 the backend did not answer in time\n"),
        }
    }

    /// What the client is told.
    pub(crate) fn response(self) -> Response<ResponseBody> {
        let (status, text) = self.told();
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
}
