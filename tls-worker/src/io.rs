//! [`Metered`], a stream around the TCP socket that notes what passes: bytes as TCP carries them, and when.

use bytes::Bytes;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Told of bytes that passed.
pub(crate) trait Meter {
    /// So many bytes were read.
    fn read(&self, n: usize);
    /// So many bytes were written.
    fn wrote(&self, n: usize);
    /// Nothing can be written now.
    fn blocked(&self) {}
    /// The stream is closed.
    fn closed(&self);
}

/// A stream whose bytes are told to a [`Meter`].
pub(crate) struct Metered<T, M: Meter> {
    inner: T,
    meter: Arc<M>,
    /// What was read, and counted, before its turn.
    before: Bytes,
}

impl<T, M: Meter> Metered<T, M> {
    pub(crate) fn new(inner: T, meter: Arc<M>) -> Self {
        Metered { inner, meter, before: Bytes::new() }
    }

    /// These bytes, which were read from it, are to be read again.
    pub(crate) fn put_before(&mut self, bytes: impl Into<Bytes>) {
        self.before = bytes.into();
    }

    /// Who is told of bytes; of those that pass without this stream, by whoever passes them.
    pub(crate) fn meter(&self) -> &Arc<M> {
        &self.meter
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.inner
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(n)) => self.meter.wrote(*n),
            Poll::Pending => self.meter.blocked(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<M: Meter> Metered<tokio::net::TcpStream, M> {
    /// The next byte, which stays to be read. None: there is no more.
    pub(crate) async fn first(&self) -> io::Result<Option<u8>> {
        if let Some(first) = self.before.first() {
            return Ok(Some(*first));
        }
        let mut first = [0; 1];
        Ok((self.inner.peek(&mut first).await? > 0).then_some(first[0]))
    }
}

impl<T, M: Meter> Drop for Metered<T, M> {
    fn drop(&mut self) {
        self.meter.closed();
    }
}

impl<T: AsyncRead + Unpin, M: Meter> AsyncRead for Metered<T, M> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let n = self.before.len().min(buf.remaining());
            buf.put_slice(&self.before.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.meter.read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin, M: Meter> AsyncWrite for Metered<T, M> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One buffer is the common case, and send(2) costs the kernel less than writev(2).
        let written = match bufs {
            [one] => Pin::new(&mut self.inner).poll_write(cx, one),
            _ => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
        };
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
