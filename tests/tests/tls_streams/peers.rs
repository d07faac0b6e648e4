//! Who stands at both ends besides nginx and haproxy: a server that echoes until its client has ended and then says who it is,
//! and a client that ends its side first.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use lb_tests::client::{Target, within};
use lb_tests::edge::Edge;
use lb_tests::netns::runtime;
use lb_tests::pki::Identity;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A server on a thread of its own; it ends when dropped.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Echo {
    /// In clear text. What it says at the end of a client's bytes: `NAME -`.
    pub(crate) fn clear(name: &'static str) -> Result<Self> {
        Self::start(name, None)
    }

    /// Behind TLS with these protocols. At the end: `NAME PROTOCOL`, with `-` where none was agreed on.
    pub(crate) fn tls(name: &'static str, identity: &Identity, alpn: &[&str]) -> Result<Self> {
        let mut config = (*identity.server()?).clone();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::start(name, Some(Arc::new(config).into()))
    }

    fn start(name: &'static str, tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = StdListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime()?.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                tokio::select! {
                    () = accept(listener, name, tls) => {}
                    _ = stopped => {}
                }
                Ok(())
            })
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, name: &'static str, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let tls = tls.clone();
        tokio::spawn(async move {
            let Some(tls) = tls else { return echo(stream, format!("{name} -")).await };
            let stream = tls.accept(stream).await?;
            let agreed = stream.get_ref().1.alpn_protocol().unwrap_or(b"-");
            let last = format!("{name} {}", String::from_utf8_lossy(agreed));
            echo(stream, last).await
        });
    }
}

async fn echo(stream: impl AsyncRead + AsyncWrite, last: String) -> std::io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await?;
    write.write_all(last.as_bytes()).await?;
    write.shutdown().await
}

/// Send these bytes over TLS, end the own side, and read until the other side has ended its own in order.
pub(crate) fn talk(target: &Target, alpn: &[&str], bytes: &[u8]) -> Result<(Vec<u8>, SocketAddr)> {
    runtime()?.block_on(async {
        let stream = target.tls(alpn).await.with_context(|| format!("{} {alpn:?}", target.host))?;
        let local = stream.get_ref().0.local_addr()?;
        Ok((converse(stream, bytes).await?, local))
    })
}

/// The same with a configuration of the caller's own.
pub(crate) fn talk_with(target: &Target, config: rustls::ClientConfig, bytes: &[u8]) -> Result<Vec<u8>> {
    runtime()?.block_on(async {
        let name = ServerName::try_from(target.host.clone())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, target.tcp().await?).await?;
        converse(stream, bytes).await
    })
}

async fn converse(stream: tokio_rustls::client::TlsStream<TcpStream>, bytes: &[u8]) -> Result<Vec<u8>> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut back = Vec::new();
    within("the end of the connection", async {
        let send = async {
            write.write_all(bytes).await?;
            write.shutdown().await
        };
        let (sent, got) = tokio::join!(send, read.read_to_end(&mut back));
        sent.context("send")?;
        got.context("receive")?;
        Ok(())
    })
    .await?;
    Ok(back)
}

/// Handshakes of a service that failed for this reason.
pub(crate) fn failed(edge: &Edge<'_>, service: &str, reason: &str) -> Result<f64> {
    Ok(edge.metrics()?.sum("bailey_tls_handshake_failures_total", &[("service", service), ("reason", reason)]))
}
