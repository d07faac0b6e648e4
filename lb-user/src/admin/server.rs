//! The daemon's side of the sockets: who is let in, for how long, and who is sent away.

use super::peer::Peer;
use super::refused::Refused;
use super::room::{Room, Seat};
use super::router::{Serving, answer};
use super::socket::AdminSocket;
use super::watch::{Streaming, Watchers};
use crate::reconcile::Event;
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// For a request's header, and between two requests.
const HEADER: Duration = Duration::from_secs(5);
/// Longest header, bytes.
const MAX_HEADER: usize = 64 << 10;
/// For a whole connection. The longest request is a change that a worker answers at its deadlines.
const CONNECTION: Duration = Duration::from_secs(90);
/// Connections that are told at one time that there is no room; more are closed without a word.
const REFUSING: usize = 16;
/// For telling them.
const REFUSAL: Duration = Duration::from_secs(1);

/// Serve a socket until dropped.
pub async fn serve(socket: AdminSocket, events: mpsc::Sender<Event>, read_only: bool, room: Room) {
    let serving = Serving { events, watchers: Watchers::default(), read_only };
    let refusing = Arc::new(Semaphore::new(REFUSING));
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let peer = Peer::of(&stream);
                match room.admit(peer.uid) {
                    Some(seat) => drop(tokio::spawn(seated(stream, serving.clone(), peer, seat))),
                    None => {
                        if let Ok(permit) = Arc::clone(&refusing).try_acquire_owned() {
                            tokio::spawn(async move {
                                refuse(stream).await;
                                drop(permit);
                            });
                        }
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket");
                // Out of descriptors: others must close some first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Until it ends, or its seat is given to another while it asks nothing.
async fn seated(stream: UnixStream, serving: Serving, peer: Peer, seat: Seat) {
    tokio::select! {
        () = connection(stream, serving, peer, &seat) => {}
        () = seat.wanted() => {}
    }
}

async fn connection(stream: UnixStream, serving: Serving, peer: Peer, seat: &Seat) {
    let streaming = Streaming::default();
    let service = service_fn(|request| {
        let (serving, streaming, asking) = (serving.clone(), streaming.clone(), seat.asking());
        async move {
            let answer = answer(request, serving, peer, &streaming).await;
            drop(asking);
            Ok::<_, Infallible>(answer.unwrap_or_else(Refused::response))
        }
    });
    let mut served = pin!(builder(HEADER).serve_connection(TokioIo::new(stream), service));
    let result = loop {
        match timeout(CONNECTION, served.as_mut()).await {
            Ok(result) => break result,
            // Whoever watches may stay; a line goes out now and then, so that one who left is seen to have left.
            Err(_) if streaming.now() => {}
            Err(_) => return,
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "admin connection");
    }
}

/// No room: the first request is answered with that.
async fn refuse(stream: UnixStream) {
    let service = service_fn(|_| async {
        let hint = "try again; who holds them is told by: ss -xp";
        let error = "every place at the admin socket is taken, and nobody there is idle";
        let refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, error, Some(hint));
        Ok::<_, Infallible>(refused.response())
    });
    let mut builder = builder(REFUSAL);
    let served = builder.keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = timeout(REFUSAL, served).await;
}

fn builder(header: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header).max_buf_size(MAX_HEADER);
    builder
}
