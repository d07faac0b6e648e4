//! Sending a request on a connection, in the HTTP that the backend speaks on it, and hyper's tasks behind that.

use crate::http::body::RequestBody;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use tokio::task::JoinSet;

/// Sends on a connection of HTTP/1.1, one request at a time.
pub(super) type Http1 = http1::SendRequest<RequestBody>;
/// Sends on a connection of HTTP/2; clones are streams of the same one.
pub(super) type Http2 = http2::SendRequest<RequestBody>;

/// What came of sending a request.
pub(crate) enum Sent {
    /// The header of an answer.
    Answer(Response<Incoming>),
    /// Nothing. The error has the request in it where nothing of it was sent.
    Broken(TrySendError<Request<RequestBody>>),
    /// Nothing in time, on a connection that goes on.
    Overdue,
}

impl From<Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> for Sent {
    fn from(sent: Result<Response<Incoming>, TrySendError<Request<RequestBody>>>) -> Self {
        sent.map_or_else(Sent::Broken, Sent::Answer)
    }
}

/// Whether the backend says that it did nothing with the request, so that it can be sent again whatever it is
/// (RFC 9113, 8.7): a refused stream, or one above the last that a GOAWAY without error names.
pub(crate) fn is_refused(error: &hyper::Error) -> bool {
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else { return false };
    match cause.reason() {
        Some(h2::Reason::REFUSED_STREAM) => cause.is_remote() && cause.is_reset(),
        Some(h2::Reason::NO_ERROR) => cause.is_remote() && cause.is_go_away(),
        _ => false,
    }
}

/// hyper's tasks of one HTTP/2 connection. They stay on this thread, and end with the connection's driver: hyper would
/// have them wait for a backend that is silent.
#[derive(Clone, Default)]
pub(super) struct Tasks(Rc<RefCell<JoinSet<()>>>);

/// Ends the tasks when it is dropped.
pub(super) struct TasksGuard(pub(super) Tasks);

impl Drop for TasksGuard {
    fn drop(&mut self) {
        self.0.0.borrow_mut().abort_all();
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        let mut tasks = self.0.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task);
    }
}
