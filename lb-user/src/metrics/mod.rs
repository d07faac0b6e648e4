//! Metrics: built at each scrape from what the reconciler knows, and served over HTTP for Prometheus.

mod families;
mod families_authorizer;
mod families_bounds;
mod families_compression;
mod families_edge;
mod families_forward;
mod families_health;
mod families_http;
mod families_life;
mod families_log;
mod families_names;
mod families_pool;
mod families_routes;
mod families_session;
mod families_state;
mod families_tls;
mod family;
#[cfg(test)]
mod tests;

pub use families::families;

use crate::admin::Room;
use crate::reconcile::Event;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder as _, TextEncoder};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Scrapers at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16;
/// For a request's header, keep-alive included.
const HEADER: Duration = Duration::from_secs(5);
/// For a whole connection.
const CONNECTION: Duration = Duration::from_secs(300);
/// For the answer.
const SCRAPE: Duration = Duration::from_secs(10);

/// Serve `/metrics` until dropped.
///
/// `rooms` are those of the admin socket and of the one that only reads.
pub async fn serve(listener: TcpListener, events: mpsc::Sender<Event>, rooms: [Room; 2]) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (events, rooms) = (events.clone(), rooms.clone());
                tokio::spawn(async move {
                    let _ = timeout(CONNECTION, connection(stream, events, rooms)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "metrics listener");
                // Out of descriptors: others must close some first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, events: mpsc::Sender<Event>, rooms: [Room; 2]) {
    let service = service_fn(|request| {
        let (events, rooms) = (events.clone(), rooms.clone());
        async move { Ok::<_, Infallible>(answer(request, events, &rooms).await) }
    });
    let result = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "metrics connection");
    }
}

async fn answer(request: Request<Incoming>, events: mpsc::Sender<Event>, rooms: &[Room; 2]) -> Response<Full<Bytes>> {
    let plain = |code: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = code;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n".into());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET is answered\n".into());
    }
    match timeout(SCRAPE, scrape(&events, rooms)).await {
        Ok(Ok(text)) => {
            let mut response = plain(StatusCode::OK, text);
            let kind = header::HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Ok(Err(why)) => plain(StatusCode::INTERNAL_SERVER_ERROR, why + "\n"),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the edge is busy with a change\n".into()),
    }
}

async fn scrape(events: &mpsc::Sender<Event>, rooms: &[Room; 2]) -> Result<String, String> {
    let (reply, state) = oneshot::channel();
    let closing = |_| "the edge is shutting down".to_owned();
    events.send(Event::Query { counters: true, reply }).await.map_err(|_| closing(()))?;
    let state = state.await.map_err(|_| closing(()))?;
    let mut text = Vec::new();
    let mut all = families(&state);
    all.extend(families_state::of_rooms(rooms).into_iter().filter_map(family::Family::finish));
    TextEncoder::new().encode(&all, &mut text).map_err(|e| e.to_string())?;
    String::from_utf8(text).map_err(|e| e.to_string())
}
