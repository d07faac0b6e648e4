//! A client's connection, from its stream to its end: HTTP/1.1 or HTTP/2 by hyper, one watchdog, and the thread's
//! signals.

use super::gather::Gather;
use super::guard::Bounds;
use super::guard::frames::Counted;
use super::guard::stream::Guarded;
use super::handle;
use super::stall::Streams;
use crate::conn::{Client, ConnState, Registration, Signal};
use crate::io::Metered;
use crate::stats::{Abuse, ClientTimeout};
use crate::tls::ClientTls;
use crate::watchdog::Watchdog;
use bytes::Bytes;
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
use tokio::time::Sleep;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most that is buffered of one direction of an HTTP/1.1 connection, bytes.
const MAX_BUFFER: usize = 256 << 10;
/// What an HTTP/2 client may send ahead on one stream, and on all, bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is buffered for an HTTP/2 client on one stream, bytes.
const SEND_BUFFER: usize = 128 << 10;
/// How long a connection that is told to end may take for its last bytes, and what is read meanwhile, bytes.
const LAST: Duration = Duration::from_secs(1);
const LAST_READ: u64 = 1 << 20;
/// When a worker ends, how long a connection that has nothing open waits for a request that its client has sent already.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// hyper keeps room for so many fields without being told.
const FIELDS_OF_HYPER: u32 = 100;
/// Streams that a client reset before they were looked at; more end the connection.
const MAX_UNSEEN_RESETS: usize = 64;
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
    let mut quiet: Option<Pin<Box<Sleep>>> = None;
    let ended = tokio::select! {
        sniffed = sniff(&mut stream, &client.state) => Ok(sniffed),
        // Nothing was asked yet, so nothing is lost by closing, but for what is on its way.
        ended = poll_fn(|cx| match registration.poll(cx) {
            Signal::Finish if registration.is_last() => {
                let wait = quiet.get_or_insert_with(|| Box::pin(tokio::time::sleep(ON_ITS_WAY)));
                wait.as_mut().poll(cx).map(|()| None)
            }
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
    let limits = *client.state.limits();
    if is_h2 {
        let stream = Counted::new(stream, read_before, client.state.clone(), limits.http2);
        Box::pin(serve_h2(stream, client, registration))
    } else {
        let bounds = Bounds {
            header: limits.header_bytes as usize,
            fields: limits.header_fields as usize,
            target: limits.uri_bytes as usize,
        };
        let stream = Guarded::new(stream, read_before, client.state.clone(), bounds);
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
    /// For what the client does too much of; the highest stream that it opened.
    Abused(Abuse, u32),
}

// Not `async fn`: that would keep room for its arguments beside what is made of them.
fn serve_h1<T>(stream: Guarded<T>, client: Rc<Client>, registration: Registration) -> impl Future<Output = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = client.state.clone();
    // Boxed: hyper keeps room for the future of a request also while there is none.
    let service = service_fn(move |request| Box::pin(handle(client.clone(), request)));
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(MAX_BUFFER);
    let limits = state.limits();
    // The stream has seen to both; hyper's own bounds are to be no smaller.
    builder.max_header_size((limits.header_bytes as usize).max(8 << 10));
    if limits.header_fields > FIELDS_OF_HYPER {
        builder.max_headers(limits.header_fields as usize);
    }
    let mut connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut watchdog = Watchdog::new(state.shortest());
    async move {
        let mut finishing = false;
        // Set while a quiet connection waits for a request that may be on its way.
        let mut quiet: Option<Pin<Box<Sleep>>> = None;
        let end = poll_fn(|cx| {
            match registration.poll(cx) {
                Signal::Serve => {}
                Signal::Finish if finishing || quiet.is_some() => {}
                Signal::Finish if registration.is_last() && state.is_quiet() => {
                    quiet = Some(Box::pin(tokio::time::sleep(ON_ITS_WAY)));
                }
                Signal::Finish => {
                    finishing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Signal::Cut => return Poll::Ready(End::Cut),
            }
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(End::Done);
            }
            if let Some(wait) = &mut quiet
                && (!state.is_quiet() || wait.as_mut().poll(cx).is_ready())
            {
                // The request has come, and its answer says that it is the last; or none came.
                (finishing, quiet) = (true, None);
                Pin::new(&mut connection).graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            if state.pipeline.is_waiting() && state.is_quiet() {
                // The answer was no upgrade: what waited for it is read now.
                state.pipeline.set_waiting(false);
                cx.waker().wake_by_ref();
            }
            if !finishing && state.is_spent() {
                finishing = true;
                Pin::new(&mut connection).graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            watchdog.poll(cx, || state.deadline().0).map(|()| End::Overdue(state.deadline().1))
        })
        .await;
        let timeout = match end {
            End::Overdue(timeout) => {
                state.stats().timeouts.inc(timeout);
                Some(timeout)
            }
            End::Done if state.pipeline.lingers() => None,
            End::Done | End::Cut | End::Abused(..) => return,
        };
        let Some(parts) = connection.into_parts().filter(|_| state.is_quiet()) else { return };
        let stream = parts.io.into_inner().into_inner();
        match timeout {
            Some(timeout) => Box::pin(goodbye(stream, timeout)).await,
            None => Box::pin(linger(stream)).await,
        }
    }
}

/// Everything is said and nothing more is heard: but a client that is still sending would lose the answer to the reset
/// that it gets when the connection is closed with bytes unread (RFC 9112, 9.6).
async fn linger<T: AsyncRead + Unpin>(stream: T) {
    let rest = async move { tokio::io::copy(&mut stream.take(LAST_READ), &mut tokio::io::sink()).await };
    let _ = tokio::time::timeout(LAST, rest).await;
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

fn serve_h2<T>(stream: Counted<T>, client: Rc<Client>, registration: Registration) -> impl Future<Output = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = client.state.clone();
    state.set_multiplexed();
    // Boxed: the tasks of streams are moved about by hyper and tokio.
    let streams = Streams::new(state.clone());
    let told = streams.clone();
    let service = service_fn(move |request| {
        let answering = handle(client.clone(), request);
        let told = told.next();
        Box::pin(async move {
            let mut answer = answering.await?;
            answer.body_mut().watch(told);
            Ok::<_, std::convert::Infallible>(answer)
        })
    });
    let limits = *state.limits();
    let mut builder = http2::Builder::new(streams);
    builder
        .max_concurrent_streams(limits.http2.streams)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(limits.header_bytes)
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
            if turn(&mut connection, &mut done, &out, &state, cx).is_ready() {
                return Poll::Ready(End::Done);
            }
            if let Some((abuse, last_stream)) = out.with(|stream| stream.abuse()) {
                return Poll::Ready(End::Abused(abuse, last_stream));
            }
            if !finishing && state.is_spent() {
                finishing = true;
                Pin::new(&mut connection).graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            watchdog.poll(cx, || state.deadline().0).map(|()| End::Overdue(state.deadline().1))
        })
        .await;
        let timeout = match end {
            End::Overdue(timeout) => timeout,
            End::Abused(abuse, last_stream) => {
                state.stats().http2_abuse.inc(abuse);
                drop(connection);
                let goaway = calm_down(last_stream);
                let _ = tokio::time::timeout(LAST, out.end_with(&goaway)).await;
                return;
            }
            End::Done | End::Cut => return,
        };
        state.stats().timeouts.inc(timeout);
        if state.is_quiet() {
            // GOAWAY, so that the client does not take it for a failure.
            Pin::new(&mut connection).graceful_shutdown();
            let last = poll_fn(|cx| turn(&mut connection, &mut done, &out, &state, cx));
            let _ = tokio::time::timeout(LAST, last).await;
        }
    }
}

/// Why h2 ended a connection.
fn reason(error: &hyper::Error) -> Option<h2::Reason> {
    std::error::Error::source(error)?.downcast_ref::<h2::Error>()?.reason()
}

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 6.8 and 7).
fn calm_down(last_stream: u32) -> [u8; 17] {
    let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame
}

/// Let a connection do what it can, then send what it wrote. Ready when it is done and all is sent, or cannot be.
fn turn<C, T>(connection: &mut C, done: &mut bool, out: &Gather<T>, state: &ConnState, cx: &mut Context<'_>) -> Poll<()>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
    T: AsyncWrite + Unpin,
{
    if !*done && let Poll::Ready(ended) = Pin::new(connection).poll(cx) {
        *done = true;
        if ended.as_ref().err().and_then(reason) == Some(h2::Reason::ENHANCE_YOUR_CALM) {
            state.stats().http2_abuse.inc(Abuse::Other);
        }
    }
    match out.poll_out(cx) {
        Poll::Ready(Ok(())) if !*done => Poll::Pending,
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    }
}
