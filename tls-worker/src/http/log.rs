//! The access log of a request: begun when it comes, written when its answer has gone.

use super::body::ResponseBody;
use super::exchange::{Exchange, Head};
use crate::log::{End, LogView, Start, Unfinished};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use std::rc::Rc;
use std::time::Instant;

/// A request that is to be written.
pub(super) struct Begun {
    log: Rc<LogView>,
    start: Start,
    /// For an error alone.
    skipped: bool,
    is_head: bool,
}

/// A line that waits for the end of the answer's body. It is written when this is dropped, as bodies are.
pub(crate) struct Line {
    log: Rc<LogView>,
    unfinished: Option<Unfinished>,
    began: Instant,
    bytes: u64,
    complete: bool,
}

impl Line {
    /// A frame of the body passed; None: there is none any more.
    pub(super) fn passed<E>(&mut self, frame: Option<Result<&Frame<Bytes>, E>>, ended: bool) {
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(|frame| frame.data_ref())) {
            self.bytes += data.map_or(0, |data| data.len() as u64);
        }
        self.complete |= frame.is_none() || ended;
    }
}

/// Keep what a request says, if it is to be written.
pub(super) fn begin<B>(exchange: &Exchange, request: &Request<B>) -> Option<Begun> {
    let place = exchange.view.compiled.services[exchange.service.index].access_log?;
    let log = exchange.view.logs[place].clone();
    let skipped = !log.is_turn();
    if skipped && !log.plan.errors_always {
        return None;
    }
    let start = log.plan.begin(&exchange.facts(Head::from(request)));
    Some(Begun { log, start, skipped, is_head: request.method() == Method::HEAD })
}

/// What stands in the log for a request that could not be read: its method is `-`.
pub(super) fn unread() -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(b"-").unwrap_or_default();
    *request.uri_mut() = Uri::from_static("*");
    request
}

/// The answer's header is as the client gets it.
pub(super) fn answered(begun: Begun, exchange: &Exchange, response: &mut Response<ResponseBody>) {
    let status = response.status();
    if begun.skipped && !status.is_server_error() {
        return;
    }
    // What the request's header says was kept before.
    let (uri, headers) = (Uri::default(), HeaderMap::new());
    let head = Head { method: &Method::GET, uri: &uri, version: Version::HTTP_11, headers: &headers };
    let facts = exchange.facts(head).with_answer(status, response.headers());
    let unfinished = begun.log.plan.answered(begun.start, &facts);
    let bodiless = begun.is_head
        || status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
        || http_body::Body::is_end_stream(response.body());
    let line =
        Line { log: begun.log, unfinished: Some(unfinished), began: exchange.began, bytes: 0, complete: bodiless };
    response.body_mut().log(line);
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(unfinished) = self.unfinished.take() {
            let end = End { bytes: self.bytes, took: self.began.elapsed(), complete: self.complete };
            self.log.write(&unfinished.finish(&end));
        }
    }
}
