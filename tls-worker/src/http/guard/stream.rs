//! The stream that hyper reads a client's HTTP/1.1 from: what the [`Guard`] lets through of another one.
//!
//! A request that is refused becomes a request that hyper understands, and [`Pipeline::refused`] says that it is the one:
//! so it is answered like every other, in its turn, and the connection ends with it.

use super::{Bounds, Guard, Step};
use crate::conn::ConnState;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What hyper reads in place of a request that is refused.
const IN_ITS_PLACE: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";
/// Bytes that are read at once behind some that are held.
const PORTION: usize = 4 << 10;
/// Bytes that are held while an upgrade is asked for: a client that sends more waits for the answer.
const MAX_WAITING: usize = 16 << 10;

/// See the module.
pub(crate) struct Guarded<T> {
    inner: T,
    state: Arc<ConnState>,
    guard: Guard,
    /// Read from `inner`, and not by hyper.
    held: Vec<u8>,
    /// How many of `held` may be read, and how many were.
    passed: usize,
    given: usize,
    /// Whether the guard has seen what of `held` may not be read yet.
    looked: bool,
    end: Option<End>,
}

enum End {
    /// By a refused request. Open: hyper ends the connection when it is answered.
    Refused,
    /// In a body.
    Broken,
}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T, read_before: Bytes, state: Arc<ConnState>, bounds: Bounds) -> Self {
        Guarded {
            inner,
            state,
            guard: Guard::new(bounds),
            looked: read_before.is_empty(),
            held: read_before.into(),
            passed: 0,
            given: 0,
            end: None,
        }
    }

    pub(crate) fn into_inner(self) -> T {
        self.inner
    }

    /// Take note of what the guard said; how many of the bytes that it was shown may pass.
    fn note(&mut self, step: Step) -> usize {
        match step {
            Step::Pass(n) | Step::Waits(n) => n,
            Step::Refused(n, reason) => {
                self.state.pipeline.refuse(self.guard.heads() + 1, reason);
                self.end = Some(End::Refused);
                n
            }
            Step::Broken(n, reason) => {
                self.state.stats().rejected.inc(reason);
                self.state.pipeline.set_lingers();
                self.end = Some(End::Broken);
                n
            }
        }
    }

    /// Look at what is held; nothing of it is given yet.
    fn look(&mut self) {
        let step = self.guard.feed(&self.held);
        self.passed = self.note(step);
        self.looked = true;
        if matches!(self.end, Some(End::Refused)) {
            self.held.truncate(self.passed);
            self.held.extend_from_slice(IN_ITS_PLACE);
            self.passed = self.held.len();
        }
        self.note_part();
    }

    fn note_part(&self) {
        self.state.pipeline.set_part_of_head(self.guard.is_in_head() && self.held.len() > self.passed);
    }

    /// Give what may pass.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let n = (self.passed - self.given).min(buf.remaining());
        buf.put_slice(&self.held[self.given..self.given + n]);
        self.given += n;
        if self.given == self.passed {
            // An idle connection holds no buffer.
            self.held = self.held.split_off(self.passed);
            (self.passed, self.given) = (0, 0);
        }
    }
}

impl<T: AsyncRead + Unpin> Guarded<T> {
    /// Read straight into hyper's buffer, and take back what may not pass. Ready: there is something in it, or the end.
    fn read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.state.plain_bytes_read();
        let step = self.guard.feed(new);
        if step == Step::Pass(new.len()) {
            return Poll::Ready(Ok(true));
        }
        let n = self.note(step);
        match self.end {
            Some(End::Refused) => {
                self.held = IN_ITS_PLACE.to_vec();
                self.passed = self.held.len();
            }
            Some(End::Broken) => {}
            None => self.held = buf.filled()[before + n..].to_vec(),
        }
        buf.set_filled(before + n);
        self.note_part();
        Poll::Ready(Ok(n > 0))
    }

    /// Read more behind what is held. Ready with true at the end.
    fn read_behind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut portion = [MaybeUninit::uninit(); PORTION];
        let mut portion = ReadBuf::uninit(&mut portion);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut portion))?;
        if portion.filled().is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.state.plain_bytes_read();
        self.held.extend_from_slice(portion.filled());
        self.looked = false;
        Poll::Ready(Ok(false))
    }

    /// While the answer to an upgrade is awaited. Ready with true at the end of the stream.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let pipeline = &self.state.pipeline;
        let upgraded = pipeline.is_upgraded();
        if upgraded || pipeline.answered() >= self.guard.heads() {
            pipeline.set_waiting(false);
            self.guard.answered(upgraded);
            self.looked = self.held.is_empty();
            return Poll::Ready(Ok(false));
        }
        pipeline.set_waiting(true);
        if self.held.len() >= MAX_WAITING {
            return Poll::Pending;
        }
        self.read_behind(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.given < this.passed {
                this.give(buf);
                return Poll::Ready(Ok(()));
            }
            match this.end {
                Some(End::Refused) => return Poll::Pending,
                Some(End::Broken) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                None => {}
            }
            if this.guard.is_waiting() {
                if ready!(this.wait(cx))? {
                    return Poll::Ready(Ok(()));
                }
            } else if !this.looked {
                this.look();
            } else if this.held.is_empty() {
                if ready!(this.read_through(cx, buf))? {
                    return Poll::Ready(Ok(()));
                }
            } else if ready!(this.read_behind(cx))? {
                // It went away in the middle of a header.
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.state.sent_all();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
