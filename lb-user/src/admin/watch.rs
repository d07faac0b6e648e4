//! Dropped packets, live: a response that goes on for as long as the watcher and the daemon do.

use super::api::{SeenView, WatchLine, WatchRequest};
use super::refused::Refused;
use super::router::Answer;
use crate::config::nearest;
use crate::datapath::PacketEvent;
use crate::reconcile::{ServiceIds, Watch};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Response, StatusCode, header};
use lb_common::Verdict;
use lb_common::abi::{NO_SERVICE, PROTO_TCP, PROTO_UDP};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// Watchers at one time: half of the connections that there may be.
const MAX_WATCHERS: usize = 16;
/// An empty line goes out after so long without an event, so that a watcher that left is seen to have left.
const QUIET: Duration = Duration::from_secs(10);

/// Room for watchers.
#[derive(Clone)]
pub(super) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WATCHERS)))
    }
}

impl Watchers {
    /// A place, and the filter when it means something.
    pub(super) fn admit(&self, filter: WatchRequest) -> Result<(OwnedSemaphorePermit, WatchRequest), Refused> {
        if let Some(word) = &filter.verdict
            && !Verdict::ALL.iter().any(|verdict| verdict.name() == word)
        {
            let hint = match nearest(word, Verdict::ALL.iter().map(|verdict| verdict.name())) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => "the names are those of the metric bailey_packets_total, such as \"denied\"".into(),
            };
            return Err(Refused::new(StatusCode::NOT_FOUND, format!("there is no verdict {word:?}"), Some(&hint)));
        }
        let permit = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let error = format!("{MAX_WATCHERS} watch already, and that is the bound");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, error, Some("end one of them"))
        })?;
        Ok((permit, filter))
    }
}

/// Whether a connection carries a stream now.
#[derive(Clone, Default)]
pub(super) struct Streaming(Arc<AtomicBool>);

impl Streaming {
    pub(super) fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Marks the connection for as long as the stream lives.
struct Mark(Streaming);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

struct Stream {
    watch: Watch,
    filter: WatchRequest,
    _permit: OwnedSemaphorePermit,
    _mark: Mark,
}

/// The stream as an answer.
pub(super) fn answer(
    watch: Watch,
    filter: WatchRequest,
    permit: OwnedSemaphorePermit,
    streaming: &Streaming,
) -> Answer {
    streaming.0.store(true, Ordering::Relaxed);
    let stream = Stream { watch, filter, _permit: permit, _mark: Mark(streaming.clone()) };
    let lines = futures_util::stream::unfold(stream, async |mut stream| {
        let line = stream.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), stream))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    let kind = header::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

impl Stream {
    /// The next line; none: the edge ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let line = tokio::select! {
                event = self.watch.events.recv() => match event {
                    Ok(event) => match seen(&event, &self.watch.names.borrow(), &self.filter) {
                        Some(line) => WatchLine::Seen(line),
                        None => continue,
                    },
                    Err(RecvError::Lagged(lost)) => WatchLine::Lost { lost },
                    Err(RecvError::Closed) => return None,
                },
                changed = self.watch.names.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return None,
                },
                () = sleep(QUIET) => return Some(Bytes::from_static(b"\n")),
            };
            let mut text = serde_json::to_vec(&line).unwrap_or_default();
            text.push(b'\n');
            return Some(text.into());
        }
    }
}

/// As it is told, when it was asked for.
fn seen(event: &PacketEvent, names: &ServiceIds, filter: &WatchRequest) -> Option<SeenView> {
    let service = (event.service != NO_SERVICE).then(|| names.name(event.service)).flatten();
    let verdict_wanted = filter.verdict.as_deref().is_none_or(|verdict| verdict == event.verdict);
    let service_wanted = filter.service.is_none() || filter.service.as_deref() == service;
    if !(verdict_wanted && service_wanted) {
        return None;
    }
    let meaning = Verdict::ALL.iter().find(|verdict| verdict.name() == event.verdict).map(|verdict| verdict.meaning());
    Some(SeenView {
        unix_ms: event.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        verdict: event.verdict.into(),
        reason: meaning.unwrap_or_default().trim().into(),
        service: service.map(str::to_owned),
        source: event.source,
        destination: event.destination,
        protocol: match event.protocol {
            PROTO_TCP => "tcp".into(),
            PROTO_UDP => "udp".into(),
            other => other.to_string(),
        },
        bytes: event.bytes,
        interface: event.interface,
    })
}
