//! The HTTP between a client's stream and a backend's: `serve` runs a connection, [`handle`] answers one request:
//! `normalise` reads whom and what it asks for, `forwarded` whose it is, `headers` rebuilds it, `route` finds its route, `actions`
//! does what that says, `authorize` asks whether it may go on, `session` finds where its client was before, `forward` gets the
//! backend's answer, `compress` makes it smaller, `upgrade` carries what comes after a 101, `websocket` opens such a tunnel over
//! HTTP/2, `grpc` knows calls and their deadlines, `respond` makes the edge's own answers. In front of hyper, `guard` looks at
//! what a client sends; `gather` puts together what HTTP/2 writes, `stall` ends streams that nobody takes.

mod actions;
pub(crate) mod authorize;
pub(crate) mod body;
mod compress;
mod exchange;
mod forward;
pub(crate) mod forwarded;
mod gather;
mod grpc;
pub(crate) mod guard;
mod headers;
mod log;
mod normalise;
mod request_body;
mod respond;
pub(crate) mod route;
pub(crate) mod serve;
mod session;
mod stall;
mod stamp;
mod tape;
mod upgrade;
mod websocket;

pub(crate) use actions::CompiledRoute;
pub(crate) use actions::split::Turn;
pub(crate) use headers::is_edges_own;

use crate::compile::CompiledService;
use crate::conn::{Client, InFlight};
use crate::limits;
use crate::persist::Pin;
use crate::stats::Rejection;
use crate::upstream::{self, PoolView};
use actions::stage;
use body::{RequestBody, ResponseBody};
use exchange::{Exchange, Head};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use request_body::{Measure, Upload};
use respond::Fault;
use std::convert::Infallible;
use std::rc::Rc;
use tokio::time::{Instant, timeout_at};

/// Answer one request. What needs no waiting is done at once, so that the future that waits is small: it is moved
/// several times on its way into a task.
fn handle(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    let began = std::time::Instant::now();
    let in_flight = InFlight::begin(&client.state);
    let refused = client.state.pipeline.begin();
    let is_http1 = request.version() != Version::HTTP_2;
    let mut exchange = client.current().map(|(view, service)| Exchange::new(client.clone(), view, service, began));
    let mut prepared = match (refused, &mut exchange) {
        (Some(reason), exchange) => {
            // The request that is here only stands for the one that came.
            exchange.iter_mut().for_each(|exchange| exchange.log = log::begin(exchange, &log::unread()));
            Err(Fault::Rejected(reason))
        }
        (None, Some(exchange)) => prepare(exchange, request),
        // The service is gone; this connection is being closed for that.
        (None, None) => Err(Fault::Rejected(Rejection::NoRoute)),
    };
    async move {
        let answered = match (&mut prepared, &mut exchange) {
            (Ok(prepared), Some(exchange)) => match exchange.deadline {
                None => answer(exchange, prepared).await,
                // Boxed: few have one, and the timer is large.
                Some(deadline) => Box::pin(tokio::time::timeout_at(deadline.into(), answer(exchange, prepared)))
                    .await
                    .unwrap_or(Err(Fault::Rejected(Rejection::Deadline))),
            },
            (Err(fault), _) => Err(*fault),
            (Ok(_), None) => Err(Fault::NoBackend),
        };
        let mut response = answered.unwrap_or_else(|fault| {
            let mut response = match exchange.as_ref().and_then(|exchange| exchange.grpc) {
                Some(_) => grpc::Call::refuse(fault),
                None => fault.response(),
            };
            if let Some(reason) = fault.rejection() {
                client.state.stats().rejected.inc(reason);
                if is_http1 && (refused.is_some() || reason.ends_connection()) {
                    client.state.pipeline.set_lingers();
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
            }
            response
        });
        if let Some(exchange) = &exchange {
            stage::response(exchange, &mut response);
        }
        if let Some(hsts) = client.hsts() {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
        }
        if let Some(exchange) = &mut exchange {
            finish(exchange, &mut response);
        }
        response.body_mut().hold(in_flight);
        Ok(response)
    }
}

/// The answer is there, whoever made it: add what every answer of the service has, and count it.
fn finish(exchange: &mut Exchange, response: &mut Response<ResponseBody>) {
    let Exchange { client, view, service, .. } = exchange;
    if let Some(name) = &view.compiled.services[service.index].served_by
        && let Some(value) = client.served_by(view.generation())
    {
        response.headers_mut().insert(name, value);
    }
    service.answered(&client.thread, exchange.by, response.status(), exchange.began.elapsed());
    if let Some(begun) = exchange.log.take() {
        log::answered(begun, exchange, response);
    }
}

/// A request that is ready to go to a backend of its route.
struct Prepared {
    /// Place in the service's routes.
    route: usize,
    /// None: the edge answers.
    pool: Option<Rc<PoolView>>,
    /// None while it is under way.
    request: Option<Request<RequestBody>>,
    /// Hash of its key, for the choice of a backend.
    key: Option<u64>,
    /// The client's side of the tunnel that it asks for.
    upgrade: Option<OnUpgrade>,
    /// It was asked for by CONNECT.
    websocket: Option<websocket::Handshake>,
    /// What its body says; none: it has none.
    upload: Option<Rc<Upload>>,
    /// Where the client was before.
    pin: Pin,
    /// Who is asked first.
    authorizer: Option<usize>,
    /// How the answer may be compressed.
    wish: compress::Wish,
}

fn prepare(exchange: &mut Exchange, mut request: Request<Incoming>) -> Result<Prepared, Fault> {
    let (client, view) = (exchange.client.clone(), exchange.view.clone());
    let compiled = &view.compiled.services[exchange.service.index];
    exchange.grpc = grpc::Call::of(request.version(), request.headers(), exchange.began);
    exchange.told = forwarded::hear(&compiled.forwarding, client.peer_address.ip(), request.headers());
    let asked = normalise::normalise(&mut request, &compiled.path, &compiled.limits);
    let asked = asked.map(|asked| (exchange.authority, exchange.host) = (asked.authority, asked.host));
    exchange.log = log::begin(exchange, &request);
    asked?;
    let websocket = websocket::Handshake::begin(&mut request);
    client.may_ask(compiled.tls.as_deref(), &exchange.host).map_err(Fault::Rejected)?;
    limit(exchange, compiled)?;
    let facts = exchange.facts(Head::from(&request));
    let found = compiled.router.find(&exchange.host, request.uri().path(), request.method(), &facts);
    let Some(place) = found else {
        return Err(Fault::Rejected(Rejection::NoRoute));
    };
    exchange.by.route = Some(place);
    let route = &compiled.routes[place];
    stage::begin(exchange, route, Head::from(&request));
    let most = route.max_body.unwrap_or(compiled.limits.body_bytes);
    if most > 0 && request.body().size_hint().lower() > most {
        return Err(Fault::Rejected(Rejection::BodySize));
    }
    let upload = (!request.body().is_end_stream()).then(Rc::<Upload>::default);
    let measure = upload.clone().map(|upload| Measure::new(&compiled.limits, most, request.headers(), upload));
    let upgrade_to = match websocket {
        Some(_) => Some(HeaderValue::from_static("websocket")),
        None => headers::upgrade_of(&request),
    };
    let upgrade = upgrade_to.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let rules = route.compression.as_ref();
    let wish = compress::Wish::of(rules, &parts.method, parts.version, &parts.headers);
    headers::rebuild_request(&mut parts, &body, &exchange.authority, upgrade_to.as_ref());
    headers::tell_certificate(&mut parts.headers, &view.compiled.stripped, &route.client_cert, &client);
    forwarded::tell(exchange, &compiled.forwarding, &mut parts.headers);
    parts.extensions.clear();
    let pool = stage::choose_pool(exchange, route);
    let pin = pool.as_ref().map(|pool| session::find(exchange, pool, &mut parts)).unwrap_or_default();
    let key = pool.as_ref().filter(|pool| pool.wants_key()).and_then(|pool| key(exchange, pool, &parts));
    stage::request(exchange, route, &mut parts);
    Ok(Prepared {
        route: place,
        pin,
        key,
        pool,
        request: Some(Request::from_parts(parts, RequestBody::new(body, view.clone(), measure))),
        upgrade,
        websocket,
        upload,
        authorizer: route.authorizer,
        wish,
    })
}

/// Hash of what the pool's backends are chosen by.
fn key(exchange: &Exchange, pool: &PoolView, parts: &http::request::Parts) -> Option<u64> {
    match &pool.hash_key {
        None => Some(upstream::key(exchange.client_ip().to_string().as_bytes())),
        Some(text) => Some(upstream::key(&text.value(&exchange.facts(parts.into()))?)),
    }
}

/// Rates of the source and of the service.
fn limit(exchange: &Exchange, compiled: &CompiledService) -> Result<(), Fault> {
    let Some(limits) = &compiled.client_limits else { return Ok(()) };
    let passed = limits.request(exchange.client_ip(), limits::now(), exchange.client.state.stats());
    passed.map_err(|wait| Fault::Limited { seconds: wait.as_secs() as u32 + 1 })
}

async fn answer(exchange: &mut Exchange, prepared: &mut Prepared) -> Result<Response<ResponseBody>, Fault> {
    let deadline = exchange.grpc.and_then(|call| call.deadline);
    within(deadline, answer_in_time(exchange, prepared, deadline)).await
}

async fn answer_in_time(
    exchange: &mut Exchange,
    prepared: &mut Prepared,
    deadline: Option<Instant>,
) -> Result<Response<ResponseBody>, Fault> {
    if let (Some(authorizer), Some(request)) = (prepared.authorizer, &mut prepared.request)
        // Boxed: most requests need none.
        && let Some(refusal) = Box::pin(authorize::authorize(exchange, authorizer, request)).await?
    {
        return Ok(refusal);
    }
    let view = exchange.view.clone();
    let route = &view.compiled.services[exchange.service.index].routes[prepared.route];
    if let Some(answer) = stage::answer(exchange, route, prepared.request.as_ref()) {
        // To an extended CONNECT a 2xx would open a tunnel that nobody serves.
        let opens = prepared.websocket.is_some() && answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        return if opens { Err(Fault::Rejected(Rejection::Method)) } else { answer };
    }
    let pool = prepared.pool.as_ref().ok_or(Fault::NoBackend)?;
    if let Some(request) = &mut prepared.request {
        stage::rewrite(route, request)?;
        stage::copy(exchange, route, request);
    }
    let retry = route.retry.as_ref().unwrap_or(&pool.retry);
    let order = forward::Order { pool, retry, key: prepared.key, response_timeout: route.response_timeout };
    let answered = forward::forward(&order, &mut prepared.request, &mut exchange.by, &mut prepared.pin);
    let forward::Answer { mut response, lease, active } =
        answered.await.map_err(|fault| prepared.upload.as_ref().and_then(|upload| upload.fault()).unwrap_or(fault))?;
    if let Some(upload) = &prepared.upload {
        upload.set_answered();
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        stage::response(exchange, &mut response);
        session::tell(&prepared.pin, &exchange.client, response.headers_mut());
        let Some(client_side) = prepared.upgrade.take() else {
            return Err(Fault::BadGateway);
        };
        return upgrade::switch(&exchange.client, client_side, response, lease, active, prepared.websocket.as_ref());
    }
    if prepared.websocket.is_some() && response.status().is_success() {
        // Over HTTP/2 that would open a tunnel to a server that knows of none.
        return Err(Fault::BadGateway);
    }
    headers::rebuild_response(response.headers_mut());
    stage::restore(exchange, route, pool, lease.backend().address, response.headers_mut());
    stage::response(exchange, &mut response);
    session::tell(&prepared.pin, &exchange.client, response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let response = response.map(|incoming| {
        let body = ResponseBody::from_backend(incoming, lease, active);
        match deadline {
            Some(deadline) => body.until(deadline),
            None => body,
        }
    });
    match &route.compression {
        Some(rules) => {
            let (thread, stats) = (&exchange.client.thread, &exchange.service.stats);
            Ok(compress::compress(rules, prepared.wish, response, thread, stats))
        }
        None => Ok(response),
    }
}

/// What the client waits for, for as long as it waits.
async fn within<T>(deadline: Option<Instant>, what: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match deadline {
        Some(deadline) => timeout_at(deadline, what).await.unwrap_or(Err(Fault::DeadlineExceeded)),
        None => what.await,
    }
}
