//! Clients: HTTP/1.1 and HTTP/2 over TLS, and WebSocket. Run them on a thread inside a namespace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::pki::provider;

/// No client of the lab waits longer than this for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Where to go and whom to believe.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address.
    pub address: SocketAddr,
    /// SNI, Host, and the name that is verified.
    pub host: String,
    /// Trusted authorities.
    pub roots: Arc<RootCertStore>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
    /// The client's side of the connection.
    pub local: SocketAddr,
}

/// Protocols offered by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
}

impl Reply {
    /// A header as text, empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{} with body {:?}", self.status, self.body))
    }
}

/// A connection that requests go over one by one.
pub struct Connection {
    send: Sender,
    /// The client's side.
    pub local: SocketAddr,
    host: String,
}

enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Target {
    /// A TCP connection with a TLS handshake, no session resumed.
    pub async fn tls(&self, alpn: &[&str]) -> Result<TlsStream<TcpStream>> {
        let stream = self.tcp().await?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(self.host.clone())?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        within("TLS handshake", async { Ok(handshake.await?) }).await
    }

    /// A TCP connection.
    pub async fn tcp(&self) -> Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let address = self.address;
        let stream = within("connect", async { Ok(socket.connect(address).await?) }).await;
        let stream = stream.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connect over TLS with this protocol.
    pub async fn connect(&self, protocol: Protocol) -> Result<Connection> {
        let alpn = if protocol == Protocol::Http1 { "http/1.1" } else { "h2" };
        let stream = self.tls(&[alpn]).await?;
        if stream.get_ref().1.alpn_protocol() != Some(alpn.as_bytes()) {
            bail!("the server chose {:?} by ALPN, not {alpn}", stream.get_ref().1.alpn_protocol());
        }
        let local = stream.get_ref().0.local_addr()?;
        let send = match protocol {
            Protocol::Http1 => {
                let (send, drive) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                // Its error comes back from the request that it breaks.
                tokio::spawn(async { drive.await.ok() });
                Sender::Http1(send)
            }
            Protocol::Http2 => {
                let io = TokioIo::new(stream);
                let (send, drive) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(async { drive.await.ok() });
                Sender::Http2(send)
            }
        };
        Ok(Connection { send, local, host: self.host.clone() })
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, protocol: Protocol, path: &str) -> Result<Reply> {
        self.connect(protocol).await?.get(path).await
    }

    /// An open WebSocket, over HTTP/1.1 and TLS.
    pub async fn websocket_open(&self, path: &str) -> Result<WebSocketStream<TlsStream<TcpStream>>> {
        let stream = self.tls(&["http/1.1"]).await?;
        let address = format!("wss://{}{path}", self.host);
        Ok(tokio_tungstenite::client_async(address, stream).await?.0)
    }

    /// Send texts over a WebSocket one by one; what came back for each.
    pub async fn websocket(&self, path: &str, texts: &[&str]) -> Result<Vec<String>> {
        let work = async {
            let mut socket = self.websocket_open(path).await?;
            let mut echoes = Vec::new();
            for text in texts {
                socket.send(Message::text(*text)).await?;
                let echo = socket.next().await.context("the WebSocket ended")??;
                echoes.push(echo.into_text()?.to_string());
            }
            socket.close(None).await?;
            Ok(echoes)
        };
        within("WebSocket", work).await
    }
}

impl Connection {
    /// GET with nothing but a Host header.
    pub async fn get(&mut self, path: &str) -> Result<Reply> {
        self.send(Request::get(path), Bytes::new()).await
    }

    /// Any request; `request` needs only a path.
    pub async fn send(&mut self, request: http::request::Builder, body: Bytes) -> Result<Reply> {
        let mut request = request.body(Full::new(body))?;
        let local = self.local;
        let work = async {
            let response = match &mut self.send {
                Sender::Http1(send) => {
                    request.headers_mut().insert("host", self.host.parse()?);
                    send.ready().await?;
                    send.send_request(request).await?
                }
                Sender::Http2(send) => {
                    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                    *request.uri_mut() = format!("https://{}{path}", self.host).parse()?;
                    send.ready().await?;
                    send.send_request(request).await?
                }
            };
            let (head, body) = response.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes(), trailers, local })
        };
        within("an answer", work).await
    }
}

/// The work, or an error when it takes longer than [`DEADLINE`].
pub async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, work).await.with_context(|| format!("no {what} within {DEADLINE:?}"))?
}
