//! After a backend's 101: bytes both ways until both sides have ended, nothing passes for too long, or the time of a
//! drain is over, the edge's or the backend's. One side's end is passed on to the other, which may still speak.

use super::body::ResponseBody;
use super::respond::Fault;
use super::websocket::Handshake;
use crate::clock;
use crate::conn::{Client, ConnState, InFlight, Registration, Signal};
use crate::upstream::{Active, Lease, UpState};
use crate::watchdog::Watchdog;
use http::{HeaderValue, Response, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// Bytes that are copied at once.
const BUFFER: usize = 16 << 10;

/// Pass the 101 on, and open the tunnel behind it.
pub(super) fn switch(
    client: &Rc<Client>,
    client_side: OnUpgrade,
    mut response: Response<Incoming>,
    lease: Lease,
    mut active: Active,
    websocket: Option<&Handshake>,
) -> Result<Response<ResponseBody>, Fault> {
    if websocket.is_some_and(|handshake| !handshake.is_answered(response.headers())) {
        return Err(Fault::BadGateway);
    }
    let Some(to) = response.headers().get(header::UPGRADE).cloned() else { return Err(Fault::BadGateway) };
    let backend_side = hyper::upgrade::on(&mut response);
    let Some(state) = lease.release() else { return Err(Fault::BadGateway) };
    active.becomes_tunnel();
    let registration = Registration::new(&client.thread, client.service.clone());
    // The connection of HTTP/2 goes on beside its tunnel, and is not idle meanwhile.
    let in_flight = websocket.map(|_| InFlight::begin(&client.state));
    let tunnel = Tunnel { client: client.state.clone(), backend: state, registration, active, _in_flight: in_flight };
    tokio::task::spawn_local(tunnel.run(client_side, backend_side));

    super::headers::rebuild_response(response.headers_mut());
    if websocket.is_some() {
        let (mut parts, _) = response.into_parts();
        Handshake::finish(&mut parts.status, &mut parts.headers);
        parts.version = Version::HTTP_2;
        return Ok(Response::from_parts(parts, ResponseBody::empty()));
    }
    client.state.pipeline.set_upgraded();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, to);
    Ok(response.map(|_| ResponseBody::empty()))
}

struct Tunnel {
    client: Arc<ConnState>,
    backend: Arc<UpState>,
    registration: Registration,
    active: Active,
    _in_flight: Option<InFlight>,
}

impl Tunnel {
    async fn run(self, client: OnUpgrade, backend: OnUpgrade) {
        let copy = async {
            let (client, backend) = tokio::try_join!(client, backend)?;
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            let copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER);
            // Either side may break it off at any time: that is its end, not a failure of ours.
            let _ = copied.await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            _ = copy => {}
            () = self.overdue() => {}
            () = self.active.over() => {}
        }
    }

    /// Resolves when the tunnel is to be cut.
    async fn overdue(&self) {
        let timeout = self.client.idle_timeout().min(self.backend.idle_timeout());
        let began = clock::now();
        let mut watchdog = Watchdog::new(timeout);
        poll_fn(|cx| {
            if self.registration.poll(cx) == Signal::Cut {
                return Poll::Ready(());
            }
            watchdog.poll(cx, || began.max(self.client.last_io()).max(self.backend.last_io()) + timeout)
        })
        .await;
    }
}
