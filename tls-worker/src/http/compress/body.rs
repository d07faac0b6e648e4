//! A body that is compressed as it passes. What its backend has sent goes on as soon as the backend pauses: a stream of
//! events stays one.

use super::encoder::Encoder;
use crate::api::Coding;
use crate::http::body::{BodyError, ResponseBody};
use crate::stats::ServiceStats;
use crate::thread::Thread;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Bytes that come out before they are sent on without waiting for more.
const ENOUGH: usize = 16 << 10;

/// See the module.
pub(crate) struct Compressing {
    inner: ResponseBody,
    encoder: Encoder,
    /// Something went in that did not come out.
    held: bool,
    ended: bool,
    trailers: Option<HeaderMap>,
    coding: Coding,
    stats: Arc<ServiceStats>,
    _turn: Turn,
}

/// Counted among those that the thread compresses at once.
struct Turn(Rc<Thread>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.compressing.set(self.0.compressing.get() - 1);
    }
}

impl Compressing {
    /// The body that is left over comes back where there is no encoder to be had.
    pub(crate) fn new(
        inner: ResponseBody,
        coding: Coding,
        thread: &Rc<Thread>,
        stats: &Arc<ServiceStats>,
    ) -> io::Result<Self> {
        let encoder = Encoder::new(coding)?;
        thread.compressing.set(thread.compressing.get() + 1);
        let (stats, turn) = (stats.clone(), Turn(thread.clone()));
        Ok(Compressing { inner, encoder, held: false, ended: false, trailers: None, coding, stats, _turn: turn })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.stats.compression.bytes_in[self.coding as usize].add(data.len() as u64);
                        self.encoder.write(&data).map_err(BodyError::Encoder)?;
                        self.held |= !data.is_empty();
                        if self.encoder.ready() >= ENOUGH {
                            let out = self.encoder.take();
                            return self.send(out);
                        }
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    self.ended = true;
                    self.encoder.finish().map_err(BodyError::Encoder)?;
                    let out = self.encoder.take();
                    return self.send(out);
                }
                Poll::Pending => {
                    if std::mem::take(&mut self.held) {
                        self.encoder.flush().map_err(BodyError::Encoder)?;
                        let out = self.encoder.take();
                        if !out.is_empty() {
                            return self.send(out);
                        }
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn send(&self, out: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.stats.compression.bytes_out[self.coding as usize].add(out.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(out))))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ended && self.trailers.is_none()
    }
}
