//! Which request is answered how: requests become events for the reconciler, and its answers JSON.

use super::api::*;
use super::peer::Peer;
use super::refused::Refused;
use super::watch::{self, Streaming, Watchers};
use super::{changes, sessions, trace, view, view_certificates, view_top};
use crate::datapath::FlowAnswer;
use crate::reconcile::{Change, Event, Refusal, State, UpgradeRequest};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Longest body of a request, bytes.
const MAX_BODY: usize = 1 << 20;
/// For a request's body.
const BODY: Duration = Duration::from_secs(10);

/// What every connection of a socket is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) watchers: Watchers,
    /// Nothing is changed by it.
    pub(super) read_only: bool,
}

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Answer one request.
pub(super) async fn answer(
    request: Request<Incoming>,
    serving: Serving,
    peer: Peer,
    streaming: &Streaming,
) -> Result<Answer, Refused> {
    let Serving { events, watchers, read_only } = serving;
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let method = request.method().clone();
    let question = matches!(parts.as_slice(), ["v1", "flow" | "trace" | "watch"]);
    if read_only && method != Method::GET && !question {
        let hint = "ask the admin socket: --socket PATH, [admin] socket";
        return Err(Refused::new(StatusCode::FORBIDDEN, "this socket changes nothing", Some(hint)));
    }
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
            let PoolRequest { address, change, only_if } = body(request).await?;
            let changes = vec![Change::Pool { pool, address, change }];
            changes::make(&events, peer, ChangesRequest { changes, only_if, dry_run: false }).await
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
            let RuleRequest { change, only_if } = body(request).await?;
            let changes = vec![Change::Rule(change)];
            changes::make(&events, peer, ChangesRequest { changes, only_if, dry_run: false }).await
        }
        (&Method::POST, ["v1", "changes"]) => changes::make(&events, peer, body(request).await?).await,
        (&Method::GET, ["v1", "history"]) => {
            let asked = request.uri().query().unwrap_or_default();
            Ok(json(StatusCode::OK, &changes::history(&query(&events).await?, asked)?))
        }
        (&Method::GET, ["v1", "diff"]) => Ok(json(StatusCode::OK, &changes::diff(&query(&events).await?))),
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
            let request: UpgradeRequest = body(request).await?;
            // Whoever may change the edge may not yet run what they like with its privileges.
            let own = rustix::process::geteuid().as_raw();
            if request.binary.is_some() && !peer.uid.is_some_and(|uid| uid == 0 || uid == own) {
                let hint = "install it in place of the old one, and leave --binary out";
                return Err(Refused::new(StatusCode::FORBIDDEN, "only root names another program", Some(hint)));
            }
            let upgraded = ask(&events, |reply| Event::Upgrade { request, reply }).await?;
            let upgraded = upgraded.map_err(|error| {
                let hint = Some("the edge goes on as it was; its log says what the new one said");
                Refused::new(StatusCode::BAD_GATEWAY, error.to_string(), hint)
            })?;
            Ok(json(StatusCode::OK, &upgraded))
        }
        (&Method::POST, ["v1", "reload"]) => {
            let only_if = body::<Option<OnlyIf>>(request).await?.unwrap_or_default();
            let who = peer.who().await;
            let reloaded = ask(&events, |reply| Event::Reload { who, only_if, reply }).await??;
            let warnings = reloaded.warnings.to_vec();
            Ok(json(StatusCode::OK, &Reloaded { generation: reloaded.generation, warnings }))
        }
        (
            _,
            [
                "v1",
                "status" | "services" | "pools" | "sessions" | "certificates" | "flow" | "rules" | "watch" | "upgrade"
                | "reload" | "top" | "trace" | "changes" | "history" | "diff",
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

pub(super) async fn query(events: &mpsc::Sender<Event>) -> Result<State, Refused> {
    ask(events, |reply| Event::Query { counters: true, reply }).await
}

pub(super) async fn ask<T>(
    events: &mpsc::Sender<Event>,
    event: impl FnOnce(oneshot::Sender<T>) -> Event,
) -> Result<T, Refused> {
    let (reply, answer) = oneshot::channel();
    events.send(event(reply)).await.map_err(|_| Refused::from(Refusal::Closing))?;
    answer.await.map_err(|_| Refused::from(Refusal::Closing))
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refused> {
    let bad = |error: String| Refused::new(StatusCode::BAD_REQUEST, error, None);
    let long = || {
        let error = format!("the body is longer than {MAX_BODY} bytes");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error, Some("send less at once"))
    };
    // What says that it is too long is not read at all.
    if request.body().size_hint().lower() > MAX_BODY as u64 {
        return Err(long());
    }
    let whole = timeout(BODY, Limited::new(request.into_body(), MAX_BODY).collect()).await.map_err(|_| {
        let error = format!("the body did not come within {BODY:?}");
        Refused::new(StatusCode::REQUEST_TIMEOUT, error, None)
    })?;
    let body = whole.map_err(|error| if error.is::<LengthLimitError>() { long() } else { bad(error.to_string()) })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|e| bad(format!("body: {e}")))
}

pub(super) fn json<T: Serialize>(code: StatusCode, value: &T) -> Answer {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
