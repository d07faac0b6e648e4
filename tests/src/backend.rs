//! A server that records what it is asked and says so: HTTP/1.1, clear text or TLS, WebSocket echo.
//!
//! It answers with JSON of what it saw. The query changes the answer: `size=N` gives N bytes of a pattern,
//! `delay_ms=N` waits before the header, `status=N`, `trailers=1` ends the body with a trailer `x-checksum`,
//! `early_hop=1` adds hop-by-hop headers, `silent=1` never answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};

use crate::netns::{self, Namespace};

/// A request as the backend saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and target.
    pub line: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Bytes of body.
    pub body_bytes: u64,
    /// SHA-256 of the body, hex.
    pub body_sha256: String,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
    /// The edge's side of the connection.
    pub peer: SocketAddr,
}

type Record = Arc<Mutex<Vec<Seen>>>;

/// A backend on a thread of its own; it ends when dropped.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    record: Record,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Backend {
    /// Listen inside `space`; `name` is in every answer.
    pub fn start(space: &Namespace, name: &str, address: SocketAddr) -> Result<Self> {
        Self::launch(name, address, None, |work| space.spawn(work))
    }

    /// The same behind TLS.
    pub fn start_tls(
        space: &Namespace,
        name: &str,
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
    ) -> Result<Self> {
        Self::launch(name, address, Some(tls.into()), |work| space.spawn(work))
    }

    /// On this host's loopback, any port.
    pub fn start_here(name: &str) -> Result<Self> {
        Self::launch(name, SocketAddr::from(([127, 0, 0, 1], 0)), None, |work| Ok(std::thread::spawn(work)))
    }

    /// What it was asked, in order of the ends of the requests.
    pub fn seen(&self) -> Vec<Seen> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests it was asked.
    pub fn count(&self) -> usize {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn launch(
        name: &str,
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        spawn: impl FnOnce(Box<dyn FnOnce() -> Result<()> + Send>) -> Result<std::thread::JoinHandle<Result<()>>>,
    ) -> Result<Self> {
        let record = Record::default();
        let (stop, stopped) = oneshot::channel();
        let (bound, address_of) = std::sync::mpsc::channel();
        let (name, kept) = (name.to_string(), record.clone());
        let thread = spawn(Box::new(move || {
            let runtime = netns::runtime()?;
            runtime.block_on(async {
                let listener = TcpListener::bind(address).await.with_context(|| format!("backend on {address}"))?;
                bound.send(listener.local_addr()?).ok();
                tokio::select! {
                    () = accept(listener, Arc::from(name), kept, tls) => {}
                    _ = stopped => {}
                }
                Ok(())
            })
        }))?;
        match address_of.recv_timeout(Duration::from_secs(10)) {
            Ok(address) => Ok(Self { address, record, stop: Some(stop), thread: Some(thread) }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => anyhow::bail!("the backend on {address} did not start"),
            },
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, name: Arc<str>, record: Record, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (name, record, tls) = (name.clone(), record.clone(), tls.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, name.clone(), record.clone(), peer));
            let http = hyper::server::conn::http1::Builder::new();
            // A connection that breaks is the edge's doing and seen by the test there.
            let _ = match tls {
                None => http.serve_connection(TokioIo::new(stream), service).with_upgrades().await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => http.serve_connection(TokioIo::new(stream), service).with_upgrades().await,
                    Err(_) => return,
                },
            };
        });
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(
    mut request: Request<Incoming>,
    name: Arc<str>,
    record: Record,
    peer: SocketAddr,
) -> Result<Response<Body>, hyper::Error> {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let upgrade = headers.get("upgrade").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let (mut body_bytes, mut trailers) = (0, None);
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    while !upgrade && let Some(frame) = request.body_mut().frame().await {
        match frame?.into_data() {
            Ok(data) => {
                body_bytes += data.len() as u64;
                digest.update(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let body_sha256 = hex(digest.finish().as_ref());
    let told = json!({
        "backend": &*name, "line": line, "headers": told(&headers), "body_bytes": body_bytes,
        "body_sha256": body_sha256, "peer": peer.to_string(),
    });
    record.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
        line,
        headers: headers.clone(),
        body_bytes,
        body_sha256,
        trailers,
        peer,
    });
    if upgrade {
        return Ok(websocket(request, &headers));
    }
    Ok(respond(&request, &name, told).await)
}

async fn respond(request: &Request<Incoming>, name: &str, told: Value) -> Response<Body> {
    let wish = |key: &str| query(request.uri().query().unwrap_or_default(), key);
    if wish("silent").is_some() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(wish("delay_ms").unwrap_or(0))).await;
    let mut frames = match wish("size") {
        Some(size) => pattern(size),
        None => vec![Frame::data(Bytes::from(told.to_string()))],
    };
    let mut response = Response::builder().header("x-backend", name).header("content-type", "application/json");
    if wish("trailers").is_some() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", http::HeaderValue::from_static("done"));
        frames.push(Frame::trailers(trailers));
        response = response.header("trailer", "x-checksum");
    }
    if wish("early_hop").is_some() {
        response = response.header("connection", "x-hop").header("x-hop", "1").header("keep-alive", "timeout=9");
    }
    let status = wish("status").and_then(|code| StatusCode::from_u16(code as u16).ok()).unwrap_or(StatusCode::OK);
    let frames = futures_util::stream::iter(frames.into_iter().map(Ok));
    let body = BodyExt::boxed(StreamBody::new(frames));
    response.status(status).body(body).unwrap_or_default()
}

fn websocket(request: Request<Incoming>, headers: &HeaderMap) -> Response<Body> {
    let key = headers.get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes())).unwrap_or_default();
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let response = response.header("connection", "upgrade").header("upgrade", "websocket");
    response.header("sec-websocket-accept", key).body(Body::default()).unwrap_or_default()
}

/// `size` bytes that tell their place, so that a byte lost or doubled shows in a checksum.
pub fn pattern_bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect()
}

fn pattern(size: u64) -> Vec<Frame<Bytes>> {
    let whole = Bytes::from(pattern_bytes(size as usize));
    (0..whole.len())
        .step_by(64 << 10)
        .map(|at| Frame::data(whole.slice(at..whole.len().min(at + (64 << 10)))))
        .collect()
}

fn query(query: &str, key: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

fn told(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(key, value)| (key.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
