//! WebSocket by extended CONNECT (RFC 8441): a stream of HTTP/2 becomes an upgrade of HTTP/1.1 towards the backend. The
//! handshake's key is the edge's own, as HTTP/2 has none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::ext::Protocol;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use ring::rand::{SecureRandom, SystemRandom};

/// What a server adds to a key (RFC 6455, 4.2.2).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const SEC_WEBSOCKET_ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// Whether it asks for a WebSocket by CONNECT.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.version() == Version::HTTP_2
        && *request.method() == Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// What the backend has to say to be the one that was asked.
#[derive(Debug)]
pub(super) struct Handshake {
    accept: String,
}

impl Handshake {
    /// Make the request the one of HTTP/1.1, if it is one.
    pub(super) fn begin<B>(request: &mut Request<B>) -> Option<Self> {
        if !is_asked(request) {
            return None;
        }
        let mut key = [0; 16];
        // ring's system generator does not fail once the kernel's has begun.
        let _ = SystemRandom::new().fill(&mut key);
        let key = STANDARD.encode(key);
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(&key).ok()?);
        headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
        Some(Handshake { accept: accept(&key) })
    }

    /// Whether the backend's 101 is the answer to it.
    pub(super) fn is_answered(&self, headers: &HeaderMap) -> bool {
        let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        accepts.next().is_some_and(|value| value.as_bytes() == self.accept.as_bytes()) && accepts.next().is_none()
    }

    /// What the client gets in its place.
    pub(super) fn finish(status: &mut StatusCode, headers: &mut HeaderMap) {
        headers.remove(SEC_WEBSOCKET_ACCEPT);
        headers.remove(header::CONTENT_LENGTH);
        *status = StatusCode::OK;
    }
}

fn accept(key: &str) -> String {
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(MAGIC);
    STANDARD.encode(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(protocol: &'static str) -> Request<()> {
        let mut request = Request::connect("https://a.test/chat").version(Version::HTTP_2).body(()).unwrap();
        request.extensions_mut().insert(Protocol::from_static(protocol));
        request
    }

    #[test]
    fn the_answer_to_the_rfcs_key() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_connect_becomes_a_get_with_a_key_of_its_own() {
        let mut request = connect("websocket");
        let handshake = Handshake::begin(&mut request).unwrap();
        assert_eq!(
            (request.method(), &request.headers()["sec-websocket-version"]),
            (&Method::GET, &"13".parse().unwrap())
        );
        let key = request.headers()["sec-websocket-key"].to_str().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        assert!(!handshake.is_answered(&headers));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept(&key).parse().unwrap());
        assert!(handshake.is_answered(&headers));
        let (mut other, mut status) = (connect("websocket"), StatusCode::SWITCHING_PROTOCOLS);
        assert!(!Handshake::begin(&mut other).unwrap().is_answered(&headers));
        Handshake::finish(&mut status, &mut headers);
        assert_eq!((status, headers.len()), (StatusCode::OK, 0));
    }

    #[test]
    fn other_protocols_and_versions_are_none() {
        assert!(!is_asked(&connect("connect-udp")) && is_asked(&connect("websocket")));
        let mut old = connect("websocket");
        *old.version_mut() = Version::HTTP_11;
        assert!(!is_asked(&old) && Handshake::begin(&mut old).is_none());
    }
}
