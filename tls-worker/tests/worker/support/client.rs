//! Clients: hyper's over clear text and TLS, and bare sockets.

use super::{soon, tls};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tls_worker::api::Certificate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Body = BoxBody<Bytes, Infallible>;
pub(crate) type H1 = http1::SendRequest<Body>;
pub(crate) type H2 = http2::SendRequest<Body>;

/// Executes hyper's tasks on this thread.
#[derive(Clone)]
pub(crate) struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(async move {
            task.await;
        });
    }
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

/// `GET path` for a host, as HTTP/1.1 has it.
pub(crate) fn get(host: &str, path: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", host).body(empty()).unwrap()
}

/// `GET path` for a host, as HTTP/2 has it.
pub(crate) fn get2(host: &str, path: &str) -> Request<Body> {
    Request::builder().uri(format!("https://{host}{path}")).version(http::Version::HTTP_2).body(empty()).unwrap()
}

/// HTTP/1.1 over clear text.
pub(crate) async fn h1(at: SocketAddr) -> H1 {
    h1_on(TcpStream::connect(at).await.unwrap()).await
}

/// HTTP/1.1 over any stream.
pub(crate) async fn h1_on<T>(stream: T) -> H1
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(connection.with_upgrades());
    sender
}

/// HTTP/2 over any stream.
pub(crate) async fn h2_on<T>(stream: T) -> H2
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

/// TLS to a name, trusting this certificate.
pub(crate) async fn tls(at: SocketAddr, name: &str, trusted: &Certificate, alpn: &[&str]) -> TlsStream<TcpStream> {
    let config = tls::client(&[trusted], alpn, rustls::ALL_VERSIONS);
    try_tls(at, name, config).await.unwrap()
}

/// TLS over any stream.
pub(crate) async fn tls_on<T>(stream: T, name: &str, config: rustls::ClientConfig) -> std::io::Result<TlsStream<T>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// TLS by a configuration.
pub(crate) async fn try_tls(
    at: SocketAddr,
    name: &str,
    config: rustls::ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    tls_on(TcpStream::connect(at).await.unwrap(), name, config).await
}

/// Status, header and whole body.
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: String,
    pub(crate) trailers: Option<http::HeaderMap>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

/// The whole of a response; the body must not break off.
pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = soon("a body", body.collect()).await.unwrap();
    let trailers = body.trailers().cloned();
    Answer { head, body: String::from_utf8(body.to_bytes().to_vec()).unwrap(), trailers }
}

/// One request on a connection, when it is ready for one.
pub(crate) async fn ask(on: &mut H1, request: Request<Body>) -> Answer {
    soon("a ready connection", on.ready()).await.unwrap();
    whole(soon("a response", on.send_request(request)).await.unwrap()).await
}

/// The same over HTTP/2.
pub(crate) async fn ask2(on: &mut H2, request: Request<Body>) -> Answer {
    soon("a ready connection", on.ready()).await.unwrap();
    whole(soon("a response", on.send_request(request)).await.unwrap()).await
}

/// `GET path` on a connection of its own.
pub(crate) async fn once(at: SocketAddr, path: &str) -> Answer {
    ask(&mut h1(at).await, get("a.test", path)).await
}

/// Send these bytes on a new connection, and read until it is closed.
pub(crate) async fn bare(at: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

/// Read until it is closed.
pub(crate) async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let _ = soon("the end of a connection", stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}
