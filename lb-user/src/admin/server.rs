//! The daemon's side of the socket: turns requests into events for the reconciler, and its answers into JSON.

use super::api::*;
use super::socket::AdminSocket;
use super::watch::{self, Streaming, Watchers};
use super::{sessions, trace, view, view_certificates, view_top};
use crate::config::LoadError;
use crate::datapath::FlowAnswer;
use crate::reconcile::{ChangeError, Event, Refusal, State};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Connections at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
/// Longest body of a request, bytes.
const MAX_BODY: usize = 1 << 20;
/// For a request's header.
const HEADER: Duration = Duration::from_secs(5);
/// For a whole connection. The longest request is a change that a worker answers at its deadlines.
const CONNECTION: Duration = Duration::from_secs(90);

/// What every connection is served with.
#[derive(Clone)]
struct Serving {
    events: mpsc::Sender<Event>,
    watchers: Watchers,
}

/// Serve until dropped.
pub async fn serve(socket: AdminSocket, events: mpsc::Sender<Event>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let serving = Serving { events, watchers: Watchers::default() };
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let serving = serving.clone();
                tokio::spawn(async move {
                    connection(stream, serving).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket");
                // Out of descriptors: others must close some first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, serving: Serving) {
    let streaming = Streaming::default();
    let service = service_fn(|request| {
        let (serving, streaming) = (serving.clone(), streaming.clone());
        async move {
            let answer = answer(request, serving, &streaming).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|failure| failure.response()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
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

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A refusal with its code.
pub(super) struct Refused(StatusCode, Failure);

impl Refused {
    pub(super) fn new(code: StatusCode, error: impl Into<String>, hint: Option<&str>) -> Self {
        Self(code, Failure { error: error.into(), hint: hint.map(Into::into), problems: Vec::new() })
    }

    fn response(self) -> Answer {
        json(self.0, &self.1)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let hint = match &refusal {
            Refusal::Change(ChangeError::NoRule(_)) => Some("see what there is: bailey deny list"),
            Refusal::Change(ChangeError::NoService(_)) => Some("see what there is: bailey service list"),
            Refusal::Change(ChangeError::FileRule(_) | ChangeError::TooManyRules) => None,
            Refusal::Change(_) => Some("see what there is: bailey pool list, bailey pool show"),
            Refusal::Config(_) => Some("nothing changed; mend the file, and try it first: bailey check --config FILE"),
            Refusal::Restart(_) | Refusal::Worker(_) | Refusal::Datapath(_) => Some("nothing changed"),
            Refusal::Plan(_) => Some("nothing changed"),
            Refusal::Unresolved { .. } => {
                Some("nothing changed; see what DNS says, and [dns]; `backends = []` has none")
            }
            Refusal::Unfiltered | Refusal::NoRandom(_) | Refusal::Upgrading | Refusal::Closing => None,
        };
        let code = match &refusal {
            Refusal::Change(_) | Refusal::Unfiltered => StatusCode::CONFLICT,
            Refusal::Config(_) | Refusal::Restart(_) | Refusal::Plan(_) | Refusal::Unresolved { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Refusal::Worker(_) | Refusal::Datapath(_) => StatusCode::BAD_GATEWAY,
            Refusal::NoRandom(_) | Refusal::Upgrading | Refusal::Closing => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut refused = Self::new(code, refusal.to_string(), hint);
        if let Refusal::Config(LoadError::Invalid(problems)) = &refusal {
            refused.1.problems = problems.views();
        }
        refused
    }
}

async fn answer(request: Request<Incoming>, serving: Serving, streaming: &Streaming) -> Result<Answer, Refused> {
    let Serving { events, watchers } = serving;
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let method = request.method().clone();
    match (&method, parts.as_slice()) {
        (&Method::GET, ["v1", "status"]) => Ok(json(StatusCode::OK, &view::status(&query(&events).await?))),
        (&Method::GET, ["v1", "services"]) => Ok(json(StatusCode::OK, &view::services(&query(&events).await?))),
        (&Method::GET, ["v1", "pools"]) => Ok(json(StatusCode::OK, &view::pools(&query(&events).await?))),
        (&Method::GET, ["v1", "services", name]) => {
            let edge = query(&events).await?;
            let found =
                view::service(&edge, name).ok_or_else(|| unknown("service", name, edge.config.service_names()))?;
            Ok(json(StatusCode::OK, &found))
        }
        (&Method::GET, ["v1", "pools", name]) => {
            let edge = query(&events).await?;
            let found = view::pool(&edge, name)
                .ok_or_else(|| unknown("pool", name, edge.config.pools.iter().map(|p| p.name.as_str())))?;
            Ok(json(StatusCode::OK, &found))
        }
        (&Method::POST, ["v1", "pools", name]) => {
            let pool = (*name).to_owned();
            let PoolRequest { address, change } = body(request).await?;
            let generation = ask(&events, |reply| Event::Pool { pool, address, change, reply }).await??;
            Ok(json(StatusCode::OK, &Changed { generation }))
        }
        (&Method::GET, ["v1", "sessions", pool]) => {
            let asked = request.uri().query().unwrap_or_default();
            Ok(json(StatusCode::OK, &sessions::list(&query(&events).await?, pool, asked)?))
        }
        (&Method::POST, ["v1", "sessions", pool]) => {
            sessions::known(&query(&events).await?, pool)?;
            let (pool, which) = ((*pool).to_owned(), body(request).await?);
            let cleared = ask(&events, |reply| Event::ClearSessions { pool, which, reply }).await??;
            Ok(json(StatusCode::OK, &SessionsCleared { cleared }))
        }
        (&Method::POST, ["v1", "flow"]) => {
            let FlowRequest { protocol, source, destination } = body(request).await?;
            let way = ask(&events, |reply| Event::Flow { protocol, source, destination, reply }).await?;
            let way = way.ok_or_else(|| {
                let hint =
                    "the kernel chooses a listener by itself; steering needs datapath = \"native\" or \"generic\"";
                Refused::new(StatusCode::CONFLICT, "this datapath does not steer flows", Some(hint))
            })?;
            let FlowAnswer { worker, cpu, hash, slot, backend, reason, .. } = way.answer;
            Ok(json(StatusCode::OK, &FlowView { service: way.service, worker, cpu, hash, slot, backend, reason }))
        }
        (&Method::GET, ["v1", "top"]) => Ok(json(StatusCode::OK, &view_top::top(&query(&events).await?))),
        (&Method::POST, ["v1", "trace"]) => {
            let asked: TraceRequest = body(request).await?;
            let (protocol, source, destination) = (asked.protocol, asked.client, asked.to);
            let way = ask(&events, |reply| Event::Flow { protocol, source, destination, reply }).await?;
            let edge = query(&events).await?;
            let view = trace::trace(&edge, way.map(|way| way.answer).as_ref(), &asked, SystemTime::now());
            Ok(json(StatusCode::OK, &view))
        }
        (&Method::GET, ["v1", "certificates"]) => {
            let edge = query(&events).await?;
            Ok(json(StatusCode::OK, &view_certificates::certificates(&edge, SystemTime::now())))
        }
        (&Method::GET, ["v1", "certificates", name]) => {
            let edge = query(&events).await?;
            let found = view_certificates::certificate(&edge, name, SystemTime::now())
                .ok_or_else(|| unknown("certificate", name, edge.config.certificates.iter().map(|one| one.name())))?;
            Ok(json(StatusCode::OK, &found))
        }
        (&Method::POST, ["v1", "certificates", "reload"]) => {
            let refreshed = ask(&events, |reply| Event::Refresh { reply: Some(reply) }).await??;
            Ok(json(StatusCode::OK, &view_certificates::reloaded(refreshed)))
        }
        (&Method::GET, ["v1", "rules"]) => {
            Ok(json(StatusCode::OK, &view::rules(&query(&events).await?, None, SystemTime::now())))
        }
        (&Method::GET, ["v1", "rules", name]) => {
            let edge = query(&events).await?;
            known_service(&edge, name)?;
            Ok(json(StatusCode::OK, &view::rules(&edge, Some(name), SystemTime::now())))
        }
        (&Method::POST, ["v1", "rules"]) => {
            let change: PrefixChange = body(request).await?;
            let generation = ask(&events, |reply| Event::Prefix { change, reply }).await??;
            Ok(json(StatusCode::OK, &Changed { generation }))
        }
        (&Method::POST, ["v1", "watch"]) => {
            let filter: WatchRequest = body(request).await?;
            if let Some(name) = &filter.service {
                known_service(&query(&events).await?, name)?;
            }
            let (permit, filter) = watchers.admit(filter)?;
            let watch = ask(&events, |reply| Event::Watch { reply }).await?.ok_or_else(|| {
                let hint = "set datapath = \"native\" or \"generic\" under [edge]";
                Refused::new(StatusCode::CONFLICT, "this datapath sees no packets", Some(hint))
            })?;
            Ok(watch::answer(watch, filter, permit, streaming))
        }
        (&Method::POST, ["v1", "upgrade"]) => {
            let request = body(request).await?;
            let upgraded = ask(&events, |reply| Event::Upgrade { request, reply }).await?;
            let upgraded = upgraded.map_err(|error| {
                let hint = Some("the edge goes on as it was; its log says what the new one said");
                Refused::new(StatusCode::BAD_GATEWAY, error.to_string(), hint)
            })?;
            Ok(json(StatusCode::OK, &upgraded))
        }
        (&Method::POST, ["v1", "reload"]) => {
            let reloaded = ask(&events, |reply| Event::Reload { reply }).await??;
            let warnings = reloaded.warnings.to_vec();
            Ok(json(StatusCode::OK, &Reloaded { generation: reloaded.generation, warnings }))
        }
        (
            _,
            [
                "v1",
                "status" | "services" | "pools" | "sessions" | "certificates" | "flow" | "rules" | "watch" | "top"
                | "trace" | "reload" | "upgrade",
                ..,
            ],
        ) if parts.len() < 4 => {
            Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} {path}: not this method"), None))
        }
        _ => Err(Refused::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"), None)),
    }
}

fn known_service(edge: &State, name: &str) -> Result<(), Refused> {
    let mut names = edge.config.service_names();
    if names.any(|known| known == name) { Ok(()) } else { Err(unknown("service", name, edge.config.service_names())) }
}

pub(super) fn unknown<'n>(kind: &str, name: &str, names: impl Iterator<Item = &'n str>) -> Refused {
    let hint = crate::config::nearest(name, names).map(|meant| format!("did you mean {meant:?}?"));
    let verb = if kind == "certificate" { "cert" } else { kind };
    let hint = hint.unwrap_or_else(|| format!("see what there is: bailey {verb} list"));
    Refused::new(StatusCode::NOT_FOUND, format!("there is no {kind} {name:?}"), Some(&hint))
}

async fn query(events: &mpsc::Sender<Event>) -> Result<State, Refused> {
    ask(events, |reply| Event::Query { counters: true, reply }).await
}

async fn ask<T>(events: &mpsc::Sender<Event>, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, Refused> {
    let (reply, answer) = oneshot::channel();
    events.send(event(reply)).await.map_err(|_| Refused::from(Refusal::Closing))?;
    answer.await.map_err(|_| Refused::from(Refusal::Closing))
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refused> {
    let bad = |error: String| Refused::new(StatusCode::BAD_REQUEST, error, None);
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|e| bad(format!("body: {e}")))
}

fn json<T: Serialize>(code: StatusCode, value: &T) -> Answer {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
