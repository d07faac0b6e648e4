//! What variables there are.

use crate::api::{ALL_CLIENT_CERT_FIELDS, ClientCertField};
use http::HeaderName;

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// Address of the client, as trusted proxies tell it.
    ClientIp,
    /// Port of the client's connection.
    ClientPort,
    /// Address that the client's connection came to.
    ServerIp,
    /// Its port.
    ServerPort,
    /// The request's id: 32 hexadecimal digits.
    RequestId,
    /// `GET`
    Method,
    /// `http` or `https`, as the client's connection has it.
    Scheme,
    /// Host without port, lower case.
    Host,
    /// Path, as routes see it.
    Path,
    /// What follows the `?`; undefined without one.
    Query,
    /// Path and query.
    Uri,
    /// Scheme, authority as the client wrote it, path and query.
    Url,
    /// `HTTP/1.1`
    HttpVersion,
    /// Of the request. Of several fields the first.
    Header(HeaderName),
    /// Value of a parameter of the query, decoded; the first of that name.
    QueryParameter(Box<str>),
    /// Value of a cookie; the first of that name.
    Cookie(Box<str>),
    /// An element of the path, from 1, not decoded.
    PathPart(usize),
    /// `1.3`
    TlsVersion,
    /// Cipher suite, IANA name.
    TlsCipher,
    /// Server name that the client asked for.
    TlsSni,
    /// Application protocol that was agreed on.
    TlsAlpn,
    /// A part of the client's certificate.
    ClientCert(ClientCertField),
    /// Name of the service.
    Service,
    /// Name of the route.
    Route,
    /// Name of the pool.
    Pool,
    /// Address of the backend that answered.
    Backend,
    /// Status of the answer.
    Status,
    /// Of the backend's answer. Of several fields the first.
    ResponseHeader(HeaderName),
    /// Access log: bytes of the answer's body that went to the client.
    ResponseBytes,
    /// Access log: seconds from the request's header to the end of the answer's body.
    Seconds,
    /// Access log: how the answer ended, `complete` or `aborted`.
    ResponseEnd,
    /// Access log: seconds from the request's header to the answer's.
    HeaderSeconds,
    /// When the request came: `2026-01-31T12:00:00.123Z`
    Time,
    /// The same in seconds of Unix time, with milliseconds.
    TimeUnix,
    /// The same as Apache's logs have it: `31/Jan/2026:12:00:00 +0000`
    TimeClf,
}

/// Variables by their names in the config; `tls.client_cert.FIELD` besides.
pub(super) const NAMES: &[(&str, Source)] = &[
    ("client.ip", Source::ClientIp),
    ("client.port", Source::ClientPort),
    ("server.ip", Source::ServerIp),
    ("server.port", Source::ServerPort),
    ("request.id", Source::RequestId),
    ("request.method", Source::Method),
    ("request.scheme", Source::Scheme),
    ("request.host", Source::Host),
    ("request.path", Source::Path),
    ("request.query", Source::Query),
    ("request.uri", Source::Uri),
    ("request.url", Source::Url),
    ("request.protocol", Source::HttpVersion),
    ("tls.version", Source::TlsVersion),
    ("tls.cipher", Source::TlsCipher),
    ("tls.sni", Source::TlsSni),
    ("tls.alpn", Source::TlsAlpn),
    ("service", Source::Service),
    ("route", Source::Route),
    ("pool", Source::Pool),
    ("backend", Source::Backend),
    ("response.status", Source::Status),
    ("response.bytes", Source::ResponseBytes),
    ("response.seconds", Source::Seconds),
    ("response.header_seconds", Source::HeaderSeconds),
    ("response.end", Source::ResponseEnd),
    ("time", Source::Time),
    ("time.unix", Source::TimeUnix),
    ("time.clf", Source::TimeClf),
];

/// Functions that are variables with a name of their own: `header('user-agent')`.
pub(super) const KEYED: &[&str] = &["header", "query", "cookie", "path_part", "response_header"];

/// `tls.client_cert.subject`
pub(super) fn client_cert_name(field: ClientCertField) -> String {
    let word = serde_json::to_value(field).ok().and_then(|word| word.as_str().map(str::to_owned));
    format!("tls.client_cert.{}", word.unwrap_or_default())
}

impl Source {
    /// The variable of a name.
    pub(super) fn of(name: &str) -> Option<Source> {
        if let Some((_, source)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(source.clone());
        }
        ALL_CLIENT_CERT_FIELDS.into_iter().find(|field| client_cert_name(*field) == name).map(Source::ClientCert)
    }

    /// The variable of a function and its key. The error says what the key must be.
    pub(super) fn keyed(function: &str, key: &str) -> Option<Result<Source, &'static str>> {
        let header = |make: fn(HeaderName) -> Source| {
            HeaderName::try_from(key).map(make).map_err(|_| "a header's name, such as 'user-agent'")
        };
        let named = |make: fn(Box<str>) -> Source| {
            if key.is_empty() { Err("a name, such as 'id'") } else { Ok(make(key.into())) }
        };
        Some(match function {
            "header" => header(Source::Header),
            "response_header" => header(Source::ResponseHeader),
            "query" => named(Source::QueryParameter),
            "cookie" => named(Source::Cookie),
            "path_part" => match key.parse::<usize>() {
                Ok(place @ 1..=64) => Ok(Source::PathPart(place)),
                _ => Err("a place from '1' to '64'"),
            },
            _ => return None,
        })
    }

    /// Known only when the backend has answered.
    pub(super) fn is_of_response(&self) -> bool {
        matches!(self, Source::Backend | Source::Status | Source::ResponseHeader(_) | Source::HeaderSeconds)
            || self.is_of_end()
    }

    /// Known only when the answer's body has ended.
    pub(super) fn is_of_end(&self) -> bool {
        matches!(self, Source::ResponseBytes | Source::Seconds | Source::ResponseEnd)
    }

    /// Stands in the request's header.
    pub(super) fn is_of_head(&self) -> bool {
        use Source::*;
        matches!(
            self,
            Method | Path | Query | Uri | Url | HttpVersion | Header(_) | QueryParameter(_) | Cookie(_) | PathPart(_)
        )
    }

    /// May be a credential.
    pub(super) fn is_secret(&self) -> bool {
        match self {
            Source::Cookie(_) => true,
            Source::Header(name) | Source::ResponseHeader(name) => {
                ["authorization", "proxy-authorization", "cookie", "set-cookie"].contains(&name.as_str())
            }
            _ => false,
        }
    }

    /// A number, as it is written.
    pub(crate) fn is_number(&self) -> bool {
        use Source::*;
        matches!(self, ClientPort | ServerPort | Status | ResponseBytes | Seconds | HeaderSeconds | TimeUnix)
    }
}
