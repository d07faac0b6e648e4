//! Calls of gRPC: the edge's own answers in the form that its clients read, and the deadline that they ask for.

use super::body::ResponseBody;
use super::respond::Fault;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version, header};
use std::time::Duration;
use tokio::time::Instant;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Longer than anybody waits; so that adding it to a time is never too much.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// Of the status codes of gRPC.
const DEADLINE_EXCEEDED: HeaderValue = HeaderValue::from_static("4");
const OVERDUE: HeaderValue = HeaderValue::from_static("the deadline is over");

/// A call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// When its client no longer waits.
    pub(super) deadline: Option<Instant>,
}

impl Call {
    /// None: the request is none.
    pub(super) fn of(version: Version, headers: &HeaderMap, began: std::time::Instant) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE).filter(|_| version == Version::HTTP_2)?;
        let rest = kind.as_bytes().strip_prefix(b"application/grpc")?;
        if !matches!(rest, [] | [b'+' | b';' | b' ', ..]) {
            return None;
        }
        let timeout = headers.get(GRPC_TIMEOUT).and_then(|value| timeout(value.to_str().ok()?));
        Some(Call { deadline: timeout.map(|timeout| Instant::from_std(began) + timeout) })
    }

    /// The answer to a call that the edge refuses: a header that is the trailers as well.
    pub(super) fn refuse(fault: Fault) -> Response<ResponseBody> {
        let plain = fault.response();
        // What gRPC's clients make of the status of HTTP (http-grpc-status-mapping.md).
        let code = match (fault, plain.status().as_u16()) {
            (Fault::DeadlineExceeded, _) => 4,
            (_, 400) => 13,
            (_, 401) => 16,
            (_, 403) => 7,
            (_, 404 | 405) => 12,
            (_, 429 | 502..=504) => 14,
            _ => 2,
        };
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, code.into());
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(fault.text()));
        if let Some(after) = plain.headers().get(header::RETRY_AFTER) {
            headers.insert(header::RETRY_AFTER, after.clone());
        }
        response
    }
}

/// How an answer ends whose time is over.
pub(super) fn overdue() -> HeaderMap {
    [(GRPC_STATUS, DEADLINE_EXCEEDED), (GRPC_MESSAGE, OVERDUE)].into_iter().collect()
}

/// `100m`: at most eight digits and a unit (PROTOCOL-HTTP2.md).
fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&number.len()) || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Rejection;
    use proptest::prelude::*;

    #[test]
    fn what_is_a_call() {
        let of = |version, kind: &'static str| {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect();
            Call::of(version, &headers, std::time::Instant::now()).is_some()
        };
        assert!(
            ["application/grpc", "application/grpc+proto", "application/grpc;x"].iter().all(|k| of(Version::HTTP_2, k))
        );
        assert!(!of(Version::HTTP_2, "application/grpc-web") && !of(Version::HTTP_2, "application/json"));
        assert!(!of(Version::HTTP_11, "application/grpc"));
    }

    #[test]
    fn timeouts() {
        for (text, want) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("99999999H", Some(LONGEST)),
            ("100000000m", None),
            ("", None),
            ("m", None),
            ("10", None),
            ("-1S", None),
            ("+1S", None),
            ("1ü", None),
        ] {
            assert_eq!(timeout(text), want, "{text}");
        }
    }

    #[test]
    fn refusals_are_told_as_grpc_has_them() {
        for (fault, code) in [
            (Fault::DeadlineExceeded, "4"),
            (Fault::GatewayTimeout, "14"),
            (Fault::NoBackend, "14"),
            (Fault::BadGateway, "14"),
            (Fault::Limited { seconds: 1 }, "14"),
            (Fault::Rejected(Rejection::NoRoute), "12"),
            (Fault::Rejected(Rejection::ClientCert), "7"),
            (Fault::Rejected(Rejection::Host), "13"),
        ] {
            let response = Call::refuse(fault);
            assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &code.parse().unwrap()));
            assert!(!response.headers()["grpc-message"].is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_timeout_makes_it_panic(text in "\\PC{0,12}") {
            if let Some(timeout) = timeout(&text) {
                prop_assert!(timeout <= LONGEST);
            }
        }
    }
}
