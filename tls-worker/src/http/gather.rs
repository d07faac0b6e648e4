//! What an HTTP/2 connection writes in one turn, put together. h2 flushes after every data frame: without this, each
//! response on a connection would be a TLS record, a system call and a TCP segment of its own.
//!
//! The stream's owner polls the connection, which writes into the buffer, and then [`Gather::poll_out`], which sends it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are held before the stream has to take them: four full TLS records.
const BOUND: usize = 64 << 10;

/// See the module. Clones are the same stream.
pub(super) struct Gather<T>(Rc<RefCell<Inner<T>>>);

struct Inner<T> {
    stream: T,
    buffer: Vec<u8>,
    /// How many bytes of the buffer the stream has.
    sent: usize,
    /// Bytes of the last turn: as much room is made for the next one. An idle connection holds no buffer.
    last: usize,
    /// The stream has bytes that it was not told to flush.
    unflushed: bool,
}

impl<T> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Gather(self.0.clone())
    }
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    pub(super) fn new(stream: T) -> Self {
        Gather(Rc::new(RefCell::new(Inner { stream, buffer: Vec::new(), sent: 0, last: 0, unflushed: false })))
    }

    /// Ask the stream something.
    pub(super) fn with<A>(&self, ask: impl FnOnce(&T) -> A) -> A {
        ask(&self.0.borrow().stream)
    }

    /// Send what was gathered and then `last`, if the last thing that was gathered is whole, and close.
    pub(super) async fn end_with(&self, last: &[u8]) -> io::Result<()> {
        {
            let mut inner = self.0.borrow_mut();
            if inner.buffer.len() < BOUND {
                inner.buffer.extend_from_slice(last);
            }
        }
        poll_fn(|cx| self.poll_out(cx)).await?;
        poll_fn(|cx| Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)).await
    }

    /// Send what was gathered. Pending: the task is woken when the stream takes more.
    pub(super) fn poll_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_out(cx)
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.buffer.len() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.buffer[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
            self.unflushed = true;
        }
        if self.sent > 0 {
            self.last = self.sent;
            self.buffer = Vec::new();
            self.sent = 0;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Take as much as there is room for.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(BOUND - self.buffer.len());
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(n.max(self.last));
        }
        self.buffer.extend_from_slice(&bytes[..n]);
        n
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() < BOUND { Poll::Ready(Ok(())) } else { self.poll_out(cx) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        Poll::Ready(Ok(inner.take(buf)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        Poll::Ready(Ok(bufs.iter().map(|buf| inner.take(buf)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The owner's to do, at the end of its turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_out(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_is_written_and_flushed_leaves_at_the_end_of_the_turn() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut gather = Gather::new(near);
        gather.write_all(b"one ").await.unwrap();
        gather.flush().await.unwrap();
        gather.write_all(b"two").await.unwrap();
        gather.flush().await.unwrap();
        let mut read = [0; 16];
        let nothing = poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut read);
            Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut buf).is_pending())
        });
        assert!(nothing.await);
        poll_fn(|cx| gather.poll_out(cx)).await.unwrap();
        let n = far.read(&mut read).await.unwrap();
        assert_eq!(&read[..n], b"one two");
        assert_eq!(gather.0.borrow().buffer.capacity(), 0);
    }

    #[tokio::test]
    async fn a_slow_stream_bounds_what_is_held_and_loses_nothing() {
        let (near, mut far) = tokio::io::duplex(1000);
        let gather = Gather::new(near);
        let sent: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let mut writer = gather.clone();
        let write = async {
            for part in sent.chunks(7001) {
                writer.write_all(part).await.unwrap();
                assert!(gather.0.borrow().buffer.len() <= BOUND);
            }
            writer.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (_, all) = tokio::join!(write, far.read_to_end(&mut read));
        all.unwrap();
        assert!(read == sent);
    }
}
