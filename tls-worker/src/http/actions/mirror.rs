//! Requests that a second pool gets too. The client's request goes its own way: its body is copied in passing, by
//! reference, and the copy is sent when it is whole. Nobody waits for the answer.

use super::super::body::RequestBody;
use super::super::forward;
use super::split::Turn;
use crate::api;
use crate::persist::Pin;
use crate::stats::{Mirrored, ServiceStats};
use crate::upstream::PoolView;
use crate::view::Answered;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A request whose copy is on its way to a mirror. Dropped before its body was whole, it is not sent.
pub(in crate::http) struct Copying {
    request: Option<Request<()>>,
    chunks: Vec<Bytes>,
    /// Bytes that may still come.
    room: usize,
    /// Bytes that are yet to come, where that is known: who sends them on stops there, and does not wait for their end.
    left: Option<u64>,
    /// None: it was sent, or counted as given up.
    sending: Option<Sending>,
}

/// What a copy is sent by.
struct Sending {
    pool: Rc<PoolView>,
    stats: Arc<ServiceStats>,
    timeout: Duration,
    place: Place,
}

/// One of the mirrored requests that a route may have under way.
struct Place(Rc<Turn>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

/// Begin to copy a request that is ready for its backend. None: it is not to be mirrored, or was sent already, for it
/// has no body.
pub(in crate::http) fn begin<B: http_body::Body>(
    mirror: &api::Mirror,
    turn: &Rc<Turn>,
    pool: &Rc<PoolView>,
    stats: &Arc<ServiceStats>,
    request: &Request<B>,
) -> Option<Rc<RefCell<Copying>>> {
    if !turn.mirrors(mirror.percent) {
        return None;
    }
    if turn.in_flight.get() >= mirror.max_in_flight {
        stats.mirrored.inc(Mirrored::Busy);
        return None;
    }
    if request.body().size_hint().lower() > u64::from(mirror.max_body) {
        stats.mirrored.inc(Mirrored::TooLong);
        return None;
    }
    turn.in_flight.set(turn.in_flight.get() + 1);
    let place = Place(turn.clone());
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    let sending = Sending { pool: pool.clone(), stats: stats.clone(), timeout: mirror.timeout, place };
    let (room, left) = (mirror.max_body as usize, request.body().size_hint().exact());
    let mut copying = Copying { request: Some(copy), chunks: Vec::new(), room, left, sending: Some(sending) };
    if request.body().is_end_stream() {
        copying.send();
        return None;
    }
    Some(Rc::new(RefCell::new(copying)))
}

impl Copying {
    /// A part of the body has passed. False: the copy is given up.
    pub(in crate::http) fn passed(&mut self, data: &Bytes) -> bool {
        match self.room.checked_sub(data.len()) {
            Some(room) => {
                self.room = room;
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                self.chunks.push(data.clone());
                true
            }
            None => {
                self.give_up(Mirrored::TooLong);
                false
            }
        }
    }

    /// Whether all of it has passed, as far as its length is known.
    pub(in crate::http) fn is_whole(&self) -> bool {
        self.left == Some(0)
    }

    /// The body has passed whole.
    pub(in crate::http) fn whole(copying: Rc<RefCell<Copying>>) {
        copying.borrow_mut().send();
    }

    fn send(&mut self) {
        if let (Some(request), Some(sending)) = (self.request.take(), self.sending.take()) {
            let request = request.map(|()| RequestBody::copied(std::mem::take(&mut self.chunks)));
            tokio::task::spawn_local(sending.send(request));
        }
    }

    fn give_up(&mut self, outcome: Mirrored) {
        if let Some(sending) = self.sending.take() {
            sending.stats.mirrored.inc(outcome);
        }
    }
}

impl Drop for Copying {
    /// The client broke off, or its backend answered without having read all of the body.
    fn drop(&mut self) {
        self.give_up(Mirrored::Incomplete);
    }
}

impl Sending {
    async fn send(self, request: Request<RequestBody>) {
        let Sending { pool, stats, timeout, place } = self;
        let sent = async {
            let mut slot = Some(request);
            let order = forward::Order::of(&pool);
            let (mut by, mut pin) = (Answered::default(), Pin::default());
            let mut answer = forward::forward(&order, &mut slot, &mut by, &mut pin).await.ok()?;
            while let Some(frame) = answer.response.body_mut().frame().await {
                frame.ok()?;
            }
            answer.lease.finish();
            Some(())
        };
        let outcome = match tokio::time::timeout(timeout, sent).await {
            Ok(Some(())) => Mirrored::Answered,
            Ok(None) => Mirrored::Failed,
            Err(_) => Mirrored::Timeout,
        };
        stats.mirrored.inc(outcome);
        drop(place);
    }
}
