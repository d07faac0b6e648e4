//! The HTTP between a client's stream and a backend's: `serve` runs a connection, [`handle`] answers one request:
//! `headers` checks and rebuilds it, `route` finds its pool, `forward` gets the backend's answer, `upgrade` carries
//! what comes after a 101, `respond` makes the edge's own answers, `gather` puts together what HTTP/2 writes.

pub(crate) mod body;
mod forward;
mod gather;
mod headers;
mod respond;
pub(crate) mod route;
pub(crate) mod serve;
mod upgrade;

use crate::conn::{Client, InFlight};
use crate::stats::Rejection;
use crate::view::{Answered, ServiceView, View};
use body::{RequestBody, ResponseBody};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use respond::Fault;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

/// Answer one request.
async fn handle(client: Rc<Client>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    let began = Instant::now();
    let in_flight = InFlight::begin(&client.state);
    let Some((view, service)) = client.current() else {
        client.state.stats().rejected.inc(Rejection::NoRoute);
        return Ok(Fault::Rejected(Rejection::NoRoute).response());
    };
    let mut by = Answered::default();
    let mut response = match answer(&client, &view, &service, request, &mut by).await {
        Ok(response) => response,
        Err(fault) => {
            if let Fault::Rejected(reason) = fault {
                service.stats.rejected.inc(reason);
            }
            fault.response()
        }
    };
    if let Some(name) = &view.compiled.services[service.index].served_by
        && let Some(value) = client.served_by(view.generation())
    {
        response.headers_mut().insert(name, value);
    }
    service.answered(&client.thread, by, response.status(), began.elapsed());
    response.body_mut().hold(in_flight);
    Ok(response)
}

async fn answer(
    client: &Rc<Client>,
    view: &Rc<View>,
    service: &Rc<ServiceView>,
    mut request: Request<Incoming>,
    by: &mut Answered,
) -> Result<Response<ResponseBody>, Fault> {
    let authority = headers::check(&request)?;
    let compiled = &view.compiled.services[service.index];
    let host = headers::host_of(&authority)?;
    let Some(route) = compiled.router.find(host, request.uri().path()) else {
        return Err(Fault::Rejected(Rejection::NoRoute));
    };
    by.route = Some(route);
    let pool = &view.pools[compiled.routes[route].pool];

    let upgrade = headers::upgrade_of(&request).map(|to| (to, hyper::upgrade::on(&mut request)));
    let (mut parts, body) = request.into_parts();
    headers::rebuild_request(&mut parts, &body, authority, client, upgrade.as_ref().map(|(to, _)| to));
    parts.extensions.clear();
    let request = Request::from_parts(parts, RequestBody::new(body));
    let forward::Answer { mut response, lease, active } = forward::forward(pool, request, by).await?;

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some((_, client_side)) = upgrade else {
            return Err(Fault::BadGateway);
        };
        return upgrade::switch(client, client_side, response, lease, active);
    }
    headers::rebuild_response(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|incoming| ResponseBody::from_backend(incoming, lease, active)))
}
