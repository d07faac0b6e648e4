//! A client's connection, from its stream to its end: HTTP/1.1 or HTTP/2 by hyper, one watchdog, and the thread's
//! signals.

use super::gather::Gather;
use super::handle;
use crate::conn::{Client, ConnState, Registration, Signal};
use crate::io::{Metered, Plain};
use crate::stats::ClientTimeout;
use crate::tls::ClientTls;
use crate::watchdog::Watchdog;
use bytes::Bytes;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest header of a request, bytes.
const MAX_HEADER: usize = 64 << 10;
/// Most that is buffered of one direction of an HTTP/1.1 connection, bytes.
const MAX_BUFFER: usize = 256 << 10;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What an HTTP/2 client may send ahead on one stream, and on all, bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is buffered for an HTTP/2 client on one stream, bytes.
const SEND_BUFFER: usize = 128 << 10;
/// How long a connection that is told to end may take for its last bytes.
const LAST: Duration = Duration::from_secs(1);
const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncontent-length: 38\r\n\
    connection: close\r\n\r\n408 the header did not arrive in time\n";

/// Serve a connection after its handshake.
pub(crate) fn tls(stream: ClientTls, client: Rc<Client>, registration: Registration) -> Serving {
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    serve(stream, is_h2, Bytes::new(), client, registration)
}

/// Serve a connection in clear text.
pub(crate) async fn clear(mut stream: Metered<TcpStream, ConnState>, client: Rc<Client>, registration: Registration) {
    client.unsecured(&registration);
    let mut watchdog = Watchdog::new(client.state.shortest());
    let ended = tokio::select! {
        sniffed = sniff(&mut stream, &client.state) => Ok(sniffed),
        // Nothing was asked yet, so nothing is lost by closing.
        ended = poll_fn(|cx| match registration.poll(cx) {
            Signal::Serve => watchdog.poll(cx, || client.state.deadline().0).map(Some),
            Signal::Finish | Signal::Cut => Poll::Ready(None),
        }) => Err(ended),
    };
    match ended {
        Ok(Some((is_h2, read))) => serve(stream, is_h2, read, client, registration).await,
        Ok(None) | Err(None) => {}
        Err(Some(())) => client.state.stats().timeouts.inc(client.state.deadline().1),
    }
}

/// Whether HTTP/2 begins here, with what was read to see it. None: the client went away.
async fn sniff<T: AsyncRead + Unpin>(stream: &mut T, state: &ConnState) -> Option<(bool, Bytes)> {
    let mut read = [0; PREFACE.len()];
    let mut n = 0;
    loop {
        match stream.read(&mut read[n..]).await {
            Ok(more @ 1..) => n += more,
            _ => return None,
        }
        state.plain_bytes_read();
        if read[..n] != PREFACE[..n] || n == PREFACE.len() {
            return Some((read[..n] == PREFACE[..], Bytes::copy_from_slice(&read[..n])));
        }
    }
}

/// A connection being served. Boxed: a task is as large as the larger of the two, and lives as long as it is idle.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

fn serve<T>(stream: T, is_h2: bool, read_before: Bytes, client: Rc<Client>, registration: Registration) -> Serving
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Plain::new(stream, read_before, client.state.clone());
    if is_h2 {
        Box::pin(serve_h2(stream, client, registration))
    } else {
        Box::pin(serve_h1(stream, client, registration))
    }
}

/// Why a connection ended.
enum End {
    /// By itself.
    Done,
    /// At a deadline.
    Overdue(ClientTimeout),
    /// By a signal.
    Cut,
}

// Not `async fn`: that would keep room for its arguments beside what is made of them.
fn serve_h1<T>(stream: Plain<T>, client: Rc<Client>, registration: Registration) -> impl Future<Output = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = client.state.clone();
    // Boxed: hyper keeps room for the future of a request also while there is none.
    let service = service_fn(move |request| Box::pin(handle(client.clone(), request)));
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_header_size(MAX_HEADER).max_buf_size(MAX_BUFFER);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut watchdog = Watchdog::new(state.shortest());
    async move {
        let mut finishing = false;
        let end = poll_fn(|cx| {
            match registration.poll(cx) {
                Signal::Serve => {}
                Signal::Finish if finishing => {}
                Signal::Finish => {
                    finishing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Signal::Cut => return Poll::Ready(End::Cut),
            }
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(End::Done);
            }
            watchdog.poll(cx, || state.deadline().0).map(|()| End::Overdue(state.deadline().1))
        })
        .await;
        let End::Overdue(timeout) = end else { return };
        state.stats().timeouts.inc(timeout);
        let Some(parts) = connection.into_parts().filter(|_| state.is_quiet()) else { return };
        Box::pin(goodbye(parts.io.into_inner(), timeout)).await;
    }
}

/// Close a connection that is overdue, with a word where one is expected.
async fn goodbye<T: AsyncWrite + Unpin>(mut stream: T, timeout: ClientTimeout) {
    let words = async {
        if timeout == ClientTimeout::Header {
            stream.write_all(TIMED_OUT).await?;
        }
        stream.shutdown().await
    };
    // It does not matter whether the client stays to hear it.
    let _ = tokio::time::timeout(LAST, words).await;
}

fn serve_h2<T>(stream: Plain<T>, client: Rc<Client>, registration: Registration) -> impl Future<Output = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = client.state.clone();
    state.set_multiplexed();
    // Boxed: the tasks of streams are moved about by hyper and tokio.
    let service = service_fn(move |request| Box::pin(handle(client.clone(), request)));
    let mut builder = http2::Builder::new(LocalTasks);
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER as u32)
        .max_send_buf_size(SEND_BUFFER)
        .enable_connect_protocol();
    let out = Gather::new(stream);
    let mut connection = builder.serve_connection(TokioIo::new(out.clone()), service);
    let mut watchdog = Watchdog::new(state.shortest());
    async move {
        let mut finishing = false;
        let mut done = false;
        let end = poll_fn(|cx| {
            match registration.poll(cx) {
                Signal::Serve => {}
                Signal::Finish if finishing => {}
                Signal::Finish => {
                    finishing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Signal::Cut => return Poll::Ready(End::Cut),
            }
            if turn(&mut connection, &mut done, &out, cx).is_ready() {
                return Poll::Ready(End::Done);
            }
            watchdog.poll(cx, || state.deadline().0).map(|()| End::Overdue(state.deadline().1))
        })
        .await;
        let End::Overdue(timeout) = end else { return };
        state.stats().timeouts.inc(timeout);
        if state.is_quiet() {
            // GOAWAY, so that the client does not take it for a failure.
            Pin::new(&mut connection).graceful_shutdown();
            let last = poll_fn(|cx| turn(&mut connection, &mut done, &out, cx));
            let _ = tokio::time::timeout(LAST, last).await;
        }
    }
}

/// Let a connection do what it can, then send what it wrote. Ready when it is done and all is sent, or cannot be.
fn turn<C, T>(connection: &mut C, done: &mut bool, out: &Gather<T>, cx: &mut Context<'_>) -> Poll<()>
where
    C: Future + Unpin,
    T: AsyncWrite + Unpin,
{
    *done = *done || Pin::new(connection).poll(cx).is_ready();
    match out.poll_out(cx) {
        Poll::Ready(Ok(())) if !*done => Poll::Pending,
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    }
}

/// hyper's tasks for HTTP/2 streams stay on this thread.
#[derive(Clone, Copy)]
struct LocalTasks;

impl<F> Executor<F> for LocalTasks
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
}
