//! Asks a responder over HTTP (RFC 6960, A.1): one POST, one bounded answer, one deadline over all of it.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Longest answer, bytes: one with a signer's whole chain has a tenth of it.
pub const MAX_RESPONSE: usize = 64 << 10;
/// Addresses of a responder's name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why a responder gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not the URL of an HTTP server.
    #[error("{0:?} is not the URL of a responder; write http://HOST/PATH")]
    Url(String),
    /// Over TLS.
    #[error(
        "{0:?}: responders are asked over plain http, as RFC 6960 has it: answers are signed, and TLS would need an \
         answer first; write http://"
    )]
    Https(String),
    /// Its name leads nowhere.
    #[error("cannot resolve {host:?}: {source}")]
    Resolve {
        /// Of the URL.
        host: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The last that was tried.
        address: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It spoke no HTTP, or went away.
    #[error("the responder broke off: {0}")]
    Http(#[from] hyper::Error),
    /// A code other than 200; redirects are not followed.
    #[error("the responder answers HTTP {0}")]
    Status(u16),
    /// More than [`MAX_RESPONSE`], or broken off within.
    #[error("the answer cannot be taken: {0}; at most {MAX_RESPONSE} bytes are read")]
    Body(String),
    /// Too slow.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

/// Where a responder is.
#[derive(Debug)]
struct Place {
    host: String,
    port: u16,
    /// Value of the Host header.
    authority: String,
    path: String,
}

/// Post a request to a URL, and have what came back with code 200.
pub async fn post(url: &str, request: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, FetchError> {
    let place = place(url)?;
    timeout(deadline, exchange(&place, request)).await.map_err(|_| FetchError::Deadline(deadline))?
}

fn place(url: &str) -> Result<Place, FetchError> {
    let bad = || FetchError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(FetchError::Https(url.to_owned())),
        _ => return Err(bad()),
    }
    let authority = uri.authority().ok_or_else(bad)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(bad());
    }
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => 80,
        _ => authority.port_u16().ok_or_else(bad)?,
    };
    Ok(Place {
        host: authority.host().trim_matches(['[', ']']).to_owned(),
        port,
        authority: authority.as_str().to_owned(),
        path: uri.path_and_query().map_or_else(|| "/".into(), ToString::to_string),
    })
}

async fn exchange(place: &Place, request: Vec<u8>) -> Result<Vec<u8>, FetchError> {
    let stream = connect(place).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let bad = || FetchError::Url(place.authority.clone());
    let request = Request::builder()
        .method(Method::POST)
        .uri(&place.path)
        .header(HOST, &place.authority)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/ocsp-request"))
        .body(Full::new(Bytes::from(request)))
        .map_err(|_| bad())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status() != hyper::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
        Ok(body.map_err(|error| FetchError::Body(error.to_string()))?.to_bytes().to_vec())
    };
    // The connection is driven here and ends with the answer: no task is left behind by a deadline.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended?;
            answer.await
        }
    }
}

async fn connect(place: &Place) -> Result<TcpStream, FetchError> {
    let resolve = |source| FetchError::Resolve { host: place.host.clone(), source };
    let found: Vec<SocketAddr> =
        lookup_host((place.host.as_str(), place.port)).await.map_err(resolve)?.take(MAX_ADDRESSES).collect();
    let mut last = resolve(std::io::Error::other("it has no address"));
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => last = FetchError::Connect { address: address.to_string(), source },
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_host_or_says_what_to_write() {
        let place = |url: &str| place(url).map(|p| (p.host, p.port, p.path)).map_err(|e| e.to_string());
        assert_eq!(place("http://ocsp.example"), Ok(("ocsp.example".into(), 80, "/".into())));
        assert_eq!(place("http://[2001:db8::1]:8080/a?b"), Ok(("2001:db8::1".into(), 8080, "/a?b".into())));
        assert!(place("https://ocsp.example/").unwrap_err().contains("write http://"));
        for url in ["ocsp.example", "/ocsp", "ldap://x/", "http://", "http://a@b/", "", "http://x:99999/", "\0"] {
            assert!(place(url).unwrap_err().contains("HOST/PATH"), "{url}");
        }
    }
}
