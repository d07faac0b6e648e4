//! One check: the I/O beside the machine.

use crate::config::Probe;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tls_worker::api::ProxyVersion;
use tls_worker::api::tls::UpstreamIdentity;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it counts as good.
    pub good: bool,
    /// For people: `HTTP 503 after 12 ms`.
    pub text: String,
}

/// PROXY protocol, version 2, command LOCAL: a connection of the proxy's own, for nobody else (HAProxy's
/// proxy-protocol.txt, 2.2).
const LOCAL: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// What version 1 has for the same (2.1).
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// What a backend expects before the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening<'a> {
    /// A header of this version of the PROXY protocol.
    pub proxy_version: Option<ProxyVersion>,
    /// TLS.
    pub identity: Option<&'a UpstreamIdentity>,
}

/// Check once. Never longer than `deadline`.
pub async fn probe(address: SocketAddr, probe: &Probe, opening: Opening<'_>, deadline: Duration) -> Outcome {
    let began = Instant::now();
    let (good, what) = match timeout(deadline, ask(address, probe, opening)).await {
        Ok(Ok((good, what))) => (good, what),
        Ok(Err(why)) => (false, why),
        Err(_) => (false, "no answer".into()),
    };
    Outcome { good, text: format!("{what} after {} ms", began.elapsed().as_millis()) }
}

async fn ask(address: SocketAddr, probe: &Probe, opening: Opening<'_>) -> Result<(bool, String), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|e| format!("connect: {e}"))?;
    let Probe::Http { path, host, codes } = probe else { return Ok((true, "connected".into())) };
    let authority = host.clone().unwrap_or_else(|| address.to_string());
    let request = Request::get(path.as_str())
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("bailey/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("request: {e}"))?;
    if let Some(version) = opening.proxy_version {
        let local: &[u8] = match version {
            ProxyVersion::V1 => UNKNOWN,
            ProxyVersion::V2 => LOCAL,
        };
        stream.write_all(local).await.map_err(|e| format!("PROXY header: {e}"))?;
    }
    let code = match opening.identity {
        None => get(stream, request).await?,
        Some(identity) => {
            let connector = TlsConnector::from(identity.for_probe());
            let name = identity.server_name(address);
            let stream = connector.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
            get(stream, request).await?
        }
    };
    Ok((codes.iter().any(|(low, high)| (*low..=*high).contains(&code)), format!("HTTP {code}")))
}

/// The status code; the body is left where it is.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<u16, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| format!("HTTP: {e}"))?;
    tokio::pin!(connection);
    let response = sender.send_request(request);
    tokio::pin!(response);
    let mut ended = false;
    loop {
        tokio::select! {
            biased;
            response = &mut response => return response.map(|r| r.status().as_u16()).map_err(|e| format!("HTTP: {e}")),
            _ = &mut connection, if !ended => ended = true,
        }
    }
}
