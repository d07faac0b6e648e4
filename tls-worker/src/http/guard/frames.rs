//! The frames of an HTTP/2 connection, counted by their headers as the client sends them: some cost the edge more than
//! they cost the client, and h2 takes any number of those. Payloads are passed over.

use crate::api::Http2Limits;
use crate::clock::{self, Millis};
use crate::conn::ConnState;
use crate::stats::Abuse;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 9113, 3.4: the preface that no frame is.
const PREFACE: usize = 24;
/// RFC 9113, 4.1: length (3), type, flags, stream (4).
const HEADER: usize = 9;
/// What is counted is counted for so long.
const WINDOW: Millis = 1000;
/// Bytes sent to the client for which it may open its windows once more.
const BYTES_A_WINDOW_UPDATE: u64 = 16;

/// Counts frames. See the module.
#[derive(Debug)]
pub(crate) struct Frames {
    limits: Http2Limits,
    /// Bytes to pass over before the next header.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
    since: Millis,
    counts: [u32; Abuse::NAMES.len()],
    /// Highest stream that the client opened.
    last_stream: u32,
}

impl Frames {
    pub(crate) fn new(limits: Http2Limits) -> Self {
        Frames {
            limits,
            skip: PREFACE,
            header: [0; HEADER],
            have: 0,
            since: 0,
            counts: [0; Abuse::NAMES.len()],
            last_stream: 0,
        }
    }

    /// Highest stream that the client opened.
    pub(crate) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Look at bytes as they come; `sent`: to the client of late. What there is too much of.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], now: Millis, sent: impl Fn() -> u64) -> Option<Abuse> {
        if now.saturating_sub(self.since) >= WINDOW {
            (self.since, self.counts) = (now, Default::default());
        }
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let n = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == HEADER {
                self.have = 0;
                if let Some(abuse) = self.frame(&sent) {
                    return Some(abuse);
                }
            }
        }
        None
    }

    fn frame(&mut self, sent: impl Fn() -> u64) -> Option<Abuse> {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        let limits = &self.limits;
        // RFC 9113, 6. END_STREAM and ACK are the same bit.
        let (what, most) = match (kind, flags & 1) {
            (0, 0) if self.skip == 0 => (Abuse::EmptyData, limits.empty_data),
            (1, _) => {
                self.last_stream = self.last_stream.max(stream);
                return None;
            }
            (2, _) => (Abuse::Priority, limits.priorities),
            (3, _) => (Abuse::Reset, limits.resets),
            (4, 0) => (Abuse::Settings, limits.settings),
            (6, 0) => (Abuse::Ping, limits.pings),
            (8, _) => (Abuse::WindowUpdate, limits.window_updates),
            (9, _) => (Abuse::Continuation, limits.continuations),
            // Frames that nobody knows, and answers to what was never asked.
            (10.., _) | (4 | 6, _) => (Abuse::Unknown, limits.pings),
            _ => return None,
        };
        let count = &mut self.counts[usize::from(what)];
        *count += 1;
        if *count <= most {
            return None;
        }
        let earned = if what == Abuse::WindowUpdate { sent() / BYTES_A_WINDOW_UPDATE } else { 0 };
        (u64::from(*count) > u64::from(most).saturating_add(earned)).then_some(what)
    }
}

/// The stream that hyper reads a client's HTTP/2 from, with bytes in front of it that were read to see what it is.
pub(crate) struct Counted<T> {
    inner: T,
    read_before: Bytes,
    state: Arc<ConnState>,
    frames: Frames,
    /// When a window of counting began, and what was sent then and a window before.
    since: Millis,
    sent: [u64; 2],
    abuse: Option<Abuse>,
}

impl<T> Counted<T> {
    pub(crate) fn new(inner: T, read_before: Bytes, state: Arc<ConnState>, limits: Http2Limits) -> Self {
        Counted { inner, read_before, state, frames: Frames::new(limits), since: 0, sent: [0; 2], abuse: None }
    }

    /// What the client does too much of, and the highest stream that it opened.
    pub(crate) fn abuse(&self) -> Option<(Abuse, u32)> {
        Some((self.abuse?, self.frames.last_stream()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.abuse.is_some() {
            // Its owner ends it.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.read_before.is_empty() {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        } else {
            let n = this.read_before.len().min(buf.remaining());
            buf.put_slice(&this.read_before[..n]);
            this.read_before.advance(n);
        }
        let now = clock::now();
        let written = this.state.bytes_written();
        if now.saturating_sub(this.since) >= WINDOW {
            (this.since, this.sent) = (now, [this.sent[1], written]);
        }
        let sent = written - this.sent[0];
        this.abuse = this.frames.feed(&buf.filled()[before..], now, || sent);
        if this.abuse.is_some() {
            // What is too much is read by nobody.
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut bytes = (payload as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEADER + payload, 0xff);
        bytes
    }

    fn counting() -> Frames {
        let limits = Http2Limits { pings: 2, window_updates: 1, ..Http2Limits::default() };
        let mut frames = Frames::new(limits);
        assert_eq!(frames.feed(&[b'x'; PREFACE], 1, || 0), None);
        frames
    }

    #[test]
    fn frames_are_counted_by_kind_whatever_they_hold_and_however_they_come() {
        let stream = [frame(1, 4, 7, 20), frame(0, 0, 7, 300), frame(6, 0, 0, 8), frame(6, 1, 0, 8), frame(6, 0, 0, 8)];
        for portion in [1, 7, 9, 1000] {
            let mut frames = counting();
            let bytes = stream.concat();
            assert!(bytes.chunks(portion).all(|part| frames.feed(part, 1, || 0).is_none()));
            assert_eq!(frames.last_stream(), 7);
            assert_eq!(frames.feed(&frame(6, 0, 0, 8), 1, || 0), Some(Abuse::Ping));
        }
    }

    #[test]
    fn each_second_counts_anew_and_data_sent_earns_window_updates() {
        let mut frames = counting();
        let update = frame(8, 0, 0, 4);
        assert_eq!(frames.feed(&update, 1, || 0), None);
        assert_eq!(frames.feed(&update, 1, || 16), None);
        assert_eq!(frames.feed(&update, 1, || 16), Some(Abuse::WindowUpdate));
        assert_eq!(frames.feed(&update, 1001, || 0), None);
    }
}
