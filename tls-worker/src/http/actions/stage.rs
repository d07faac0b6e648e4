//! A route's actions at their places in a request's way.

use super::locations::Sides;
use super::redirect::Asked;
use super::{Answer, CompiledRoute, cookies, headers, mirror};
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::exchange::{Exchange, Head};
use crate::http::respond::Fault;
use crate::stats::Rejection;
use crate::upstream::PoolView;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, header};
use std::net::SocketAddr;
use std::rc::Rc;

/// The route is found: note what it says of the whole exchange. `head` is as the client sent it.
pub(in crate::http) fn begin(exchange: &mut Exchange, route: &CompiledRoute, head: Head<'_>) {
    exchange.deadline = route.timeout.map(|timeout| exchange.began + timeout);
    if route.remembers_request() {
        exchange.kept = Some(Box::new(head.into()));
    }
}

/// Change a rebuilt request's header.
pub(in crate::http) fn request(exchange: &Exchange, route: &CompiledRoute, parts: &mut Parts) {
    if !route.request_headers.is_empty() {
        let filled = headers::fill(&route.request_headers, &exchange.facts(Head::from(&*parts)));
        exchange.service.stats.invalid_headers.add(filled.invalid);
        filled.apply(&mut parts.headers);
    }
}

/// Change target and host of a request that goes to a backend. Until here everything saw what the client asked for.
pub(in crate::http) fn rewrite<B>(route: &CompiledRoute, request: &mut Request<B>) -> Result<(), Fault> {
    let refused = Fault::Rejected(Rejection::Rewrite);
    if let Some(target) = route.rewrite.target(request.uri()).map_err(|()| refused)? {
        *request.uri_mut() = target;
    }
    if let Some(host) = route.rewrite.host() {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    Ok(())
}

/// The edge's own answer, where the route has one.
pub(in crate::http) fn answer(
    exchange: &Exchange,
    route: &CompiledRoute,
    request: Option<&Request<RequestBody>>,
) -> Option<Result<Response<ResponseBody>, Fault>> {
    let (answer, request) = (route.answer.as_ref()?, request?);
    Some(match answer {
        Answer::Fixed(fixed) => Ok(fixed.response(request.method())),
        Answer::Redirect(redirect) => {
            let text = |value: &'_ http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
            let (scheme, authority) = (text(&exchange.client.proto), text(&exchange.authority));
            let asked = Asked { scheme: &scheme, authority: &authority, uri: request.uri() };
            let made = redirect.response(&asked, &exchange.facts(Head::from(request)));
            let bare = |response: Response<ResponseBody>| match *request.method() {
                Method::HEAD => response.map(|_| ResponseBody::empty()),
                _ => response,
            };
            made.map(bare).ok_or_else(|| {
                exchange.service.stats.invalid_headers.inc();
                Fault::Rejected(Rejection::Rewrite)
            })
        }
    })
}

/// The pool that is next to take a request of this route.
pub(in crate::http) fn choose_pool(exchange: &mut Exchange, route: &CompiledRoute) -> Option<Rc<PoolView>> {
    let next = exchange.service.turn(exchange.by.route?).next();
    // The turn may be that of a newer generation, whose pools are others.
    let has_share = |place: &usize| route.shares.get(*place).is_some_and(|share| share.weight > 0);
    let share = next.filter(has_share).or_else(|| (0..route.shares.len()).find(has_share))?;
    exchange.by.share = share;
    Some(exchange.view.pools[route.shares[share].pool].clone())
}

/// Send a copy to the route's mirror, or begin to make one.
pub(in crate::http) fn copy(exchange: &Exchange, route: &CompiledRoute, request: &mut Request<RequestBody>) {
    // A tunnel cannot be copied.
    let (Some(mirror), Some(place)) = (&route.mirror, exchange.by.route) else { return };
    if request.headers().contains_key(header::UPGRADE) {
        return;
    }
    let pool = &exchange.view.pools[mirror.pool];
    let turn = exchange.service.turn(place);
    if let Some(copying) = mirror::begin(mirror, turn, pool, &exchange.service.stats, request) {
        request.body_mut().copy_to(copying);
    }
}

/// Change back what a backend's answer says of addresses.
pub(in crate::http) fn restore(
    exchange: &Exchange,
    route: &CompiledRoute,
    pool: &PoolView,
    backend: SocketAddr,
    headers: &mut HeaderMap,
) {
    let asked = route.rewrite.host().unwrap_or(&exchange.authority);
    let text = |value: &'_ http::HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    if [header::LOCATION, header::CONTENT_LOCATION, header::REFRESH, header::SET_COOKIE]
        .iter()
        .all(|name| !headers.contains_key(name))
    {
        return;
    }
    let (client_scheme, client_authority, asked) =
        (text(&exchange.client.proto), text(&exchange.authority), text(asked));
    let sides = Sides {
        moved: &route.moved,
        client_scheme: &client_scheme,
        client_authority: &client_authority,
        asked: &asked,
        clear: pool.tls.is_none(),
        backend,
    };
    cookies::restore(headers, &sides);
}

/// Change an answer's header, whoever made it, once: a backend's before it is compressed, every other at its end.
pub(in crate::http) fn response<B>(exchange: &Exchange, response: &mut Response<B>) {
    let compiled = &exchange.view.compiled.services[exchange.service.index];
    let Some(route) = exchange.by.route.map(|route| &compiled.routes[route]) else { return };
    if route.response_headers.is_empty() || exchange.dressed.replace(true) {
        return;
    }
    let filled = match &exchange.kept {
        Some(kept) => {
            let facts = exchange.facts(Head::from(&**kept)).with_answer(response.status(), response.headers());
            headers::fill(&route.response_headers, &facts)
        }
        None => headers::constant(&route.response_headers),
    };
    exchange.service.stats.invalid_headers.add(filled.invalid);
    filled.apply(response.headers_mut());
}
