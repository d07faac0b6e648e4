//! Backends: [`Backend::http`] answers with hyper what a function says, [`Backend::raw`] runs a script on each
//! connection.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// A server on a free port of 127.0.0.1; it ends with the test.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Rc<Cell<usize>>,
}

impl Backend {
    /// Connections it took so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Each connection is given, with its number from 0, to this script.
    pub(crate) async fn raw<F: Future<Output = ()> + 'static>(
        script: impl Fn(TcpStream, usize) -> F + 'static,
    ) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Rc::new(Cell::new(0));
        let count = connections.clone();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let n = count.replace(count.get() + 1);
                spawn_local(script(stream, n));
            }
        });
        Backend { address, connections }
    }

    /// Each request is answered by this function.
    pub(crate) async fn http<F>(answer: impl Fn(Request<Incoming>) -> F + 'static) -> Backend
    where
        F: Future<Output = Response<Body>> + 'static,
    {
        let answer = Rc::new(answer);
        Backend::raw(move |stream, _| serve(stream, answer.clone())).await
    }

    /// The same over TLS.
    pub(crate) async fn https<F>(
        config: Arc<rustls::ServerConfig>,
        answer: impl Fn(Request<Incoming>) -> F + 'static,
    ) -> Backend
    where
        F: Future<Output = Response<Body>> + 'static,
    {
        let answer = Rc::new(answer);
        Backend::tls(config, move |stream, _| serve(stream, answer.clone())).await
    }

    /// The same over TLS and HTTP/2.
    pub(crate) async fn h2<F>(
        config: Arc<rustls::ServerConfig>,
        answer: impl Fn(Request<Incoming>) -> F + 'static,
    ) -> Backend
    where
        F: Future<Output = Response<Body>> + 'static,
    {
        let answer = Rc::new(answer);
        Backend::tls(config, move |stream, _| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = hyper::server::conn::http2::Builder::new(super::client::Local);
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// Each connection is given to this script after its handshake.
    pub(crate) async fn tls<F: Future<Output = ()> + 'static>(
        config: Arc<rustls::ServerConfig>,
        script: impl Fn(TlsStream<TcpStream>, usize) -> F + 'static,
    ) -> Backend {
        let script = Rc::new(script);
        Backend::raw(move |stream, n| {
            let (config, script) = (config.clone(), script.clone());
            async move {
                if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                    script(stream, n).await;
                }
            }
        })
        .await
    }

    /// Answers everything with this text.
    pub(crate) async fn says(text: &'static str) -> Backend {
        Backend::http(move |_| async move { Response::new(full(text)) }).await
    }
}

async fn serve<T, A, F>(stream: T, answer: Rc<A>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// A body of this text.
pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// Read a request's header from a connection; None when it is closed before.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Read a request's header and answer with these bytes.
pub(crate) async fn answer_once(stream: &mut TcpStream, answer: &str) {
    if read_head(stream).await.is_some() {
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// Read until the other side closes.
pub(crate) async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    all
}
