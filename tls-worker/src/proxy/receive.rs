//! The PROXY header of a connection that has just been accepted.

use super::{ProxyFault, Read, Told, read};
use crate::conn::ConnState;
use crate::io::Metered;
use crate::networks::Networks;
use crate::stats::ProxyHeaders;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Bytes that are read at once: headers are shorter.
const FIRST_READ: usize = 512;

/// What a service says of PROXY headers.
#[derive(Debug)]
pub(crate) struct ProxyRules {
    pub(crate) from: Networks,
    pub(crate) required: bool,
    pub(crate) timeout: Duration,
    pub(crate) max: usize,
}

/// The ends of a connection, as a header tells them.
pub(crate) type Received = Option<(SocketAddr, SocketAddr)>;

impl ProxyRules {
    /// Whether a connection of this peer may be served at all.
    pub(crate) fn may_come(&self, peer: IpAddr) -> bool {
        !self.required || self.from.contains(peer)
    }
}

/// Read the header, if there is one. What was read beyond it is put before the stream's other bytes. An error: the
/// connection is to be closed.
pub(crate) async fn receive(
    stream: &mut Metered<TcpStream, ConnState>,
    peer: IpAddr,
    rules: &ProxyRules,
) -> Result<Received, ProxyHeaders> {
    let reading = header(stream, rules.max);
    let (told, bytes) = tokio::time::timeout(rules.timeout, reading).await.map_err(|_| ProxyHeaders::Timeout)??;
    stream.meter().header_read(bytes.len());
    stream.put_before(bytes);
    let told = match told {
        None if rules.required => return Err(ProxyHeaders::Missing),
        None => return Ok(None),
        Some(_) if !rules.from.contains(peer) => return Err(ProxyHeaders::Untrusted),
        Some(told) => told,
    };
    Ok(match told {
        Told::Local => None,
        Told::Proxied { client, service } => Some((client, service)),
    })
}

async fn header(
    stream: &mut Metered<TcpStream, ConnState>,
    max: usize,
) -> Result<(Option<Told>, Vec<u8>), ProxyHeaders> {
    let mut bytes = Vec::with_capacity(FIRST_READ);
    loop {
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return Err(ProxyHeaders::Closed),
        }
        match read(&bytes, max) {
            Read::NeedMore => {}
            Read::None => return Ok((None, bytes)),
            Read::Header(told, length) => {
                bytes.drain(..length);
                return Ok((Some(told), bytes));
            }
            Read::Wrong(ProxyFault::TooLong) => return Err(ProxyHeaders::TooLong),
            Read::Wrong(ProxyFault::Malformed) => return Err(ProxyHeaders::Malformed),
        }
    }
}
