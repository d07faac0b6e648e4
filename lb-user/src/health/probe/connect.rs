//! Ways to a backend: TCP from the chosen source, a PROXY header, TLS.

use super::{Answer, Fault, Question};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tls_worker::api::ProxyVersion;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

/// PROXY protocol, version 2, command LOCAL: a connection of the proxy's own, for nobody else (HAProxy's
/// proxy-protocol.txt, 2.2).
const LOCAL: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// What version 1 has for the same (2.1).
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection over which the backend is asked.
pub(super) struct Line {
    pub(super) stream: Box<dyn Stream>,
    /// What ALPN agreed on.
    pub(super) alpn: Option<Vec<u8>>,
}

/// Whether a connection is taken, and nothing else.
pub(super) async fn only(question: Question<'_>) -> Answer {
    let stream = tcp(question).await?;
    // Closed by a reset: otherwise each check would leave a port in TIME_WAIT for a minute.
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
    Ok((true, "connected".into()))
}

/// Whether a TLS handshake is done.
pub(super) async fn handshake(question: Question<'_>) -> Answer {
    open(question).await.map(|_| (true, "TLS handshake".into()))
}

/// A connection on which everything that goes ahead has gone.
pub(super) async fn open(question: Question<'_>) -> Result<Line, Fault> {
    let mut stream = tcp(question).await?;
    if let Some(version) = question.prepared.check.proxy_version {
        stream.write_all(header(version)).await.map_err(|e| Fault::Backend(format!("PROXY header: {e}")))?;
    }
    let Some((identity, config)) = &question.prepared.tls else {
        return Ok(Line { stream: Box::new(stream), alpn: None });
    };
    let connector = TlsConnector::from(config.clone());
    let tls = connector.connect(identity.server_name(question.to), stream).await;
    let tls = tls.map_err(|e| Fault::Backend(format!("TLS: {e}")))?;
    let alpn = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Ok(Line { stream: Box::new(tls), alpn })
}

fn header(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => UNKNOWN,
        ProxyVersion::V2 => LOCAL,
    }
}

/// Whose fault an error of the system is.
pub(super) fn blame(what: &str, error: &io::Error) -> Fault {
    match ours(error) {
        true => Fault::Edge(format!("cannot {what}: {error}")),
        false => Fault::Backend(format!("{what}: {error}")),
    }
}

/// A connection of bytes.
pub(super) async fn tcp(question: Question<'_>) -> Result<TcpStream, Fault> {
    let to = question.to;
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|e| Fault::Edge(format!("no socket: {e}")))?;
    if let Some(from) = source(question)? {
        socket.set_reuseaddr(true).and_then(|()| socket.bind(from)).map_err(|e| bind_fault(from, &e))?;
    }
    socket.connect(to).await.map_err(|error| blame("connect", &error))
}

/// A socket for datagrams to the backend alone.
pub(super) async fn udp(question: Question<'_>) -> Result<UdpSocket, Fault> {
    let to = question.to;
    let any = if to.is_ipv4() { SocketAddr::from(([0, 0, 0, 0], 0)) } else { SocketAddr::from(([0; 16], 0)) };
    let from = source(question)?.unwrap_or(any);
    let socket = UdpSocket::bind(from).await.map_err(|e| bind_fault(from, &e))?;
    socket.connect(to).await.map_err(|e| blame("connect", &e))?;
    Ok(socket)
}

/// Where the backend is to be asked from.
fn source(question: Question<'_>) -> Result<Option<SocketAddr>, Fault> {
    match question.prepared.check.source {
        Some(ip) if ip.is_ipv4() != question.to.is_ipv4() => {
            Err(Fault::Edge(format!("from {ip} there is no way to {}: they are of two families", question.to.ip())))
        }
        Some(ip) => Ok(Some(SocketAddr::new(ip, 0))),
        None => Ok(None),
    }
}

fn bind_fault(from: SocketAddr, error: &io::Error) -> Fault {
    Fault::Edge(format!("no socket at {}: {error}", from.ip()))
}

/// Whether an error says that this host has run out of something.
fn ours(error: &io::Error) -> bool {
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| errors.contains(&Errno::from_raw_os_error(code)))
}
