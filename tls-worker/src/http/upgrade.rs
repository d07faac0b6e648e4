//! After a backend's 101: bytes both ways until both sides have ended, nothing passes for too long, or the grace of a
//! drain is over. One side's end is passed on to the other, which may still speak.

use super::body::ResponseBody;
use super::respond::Fault;
use crate::clock;
use crate::conn::{Client, ConnState, Registration, Signal};
use crate::upstream::{Active, Lease, UpState};
use crate::watchdog::Watchdog;
use http::{HeaderValue, Response, header};
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
    active: Active,
) -> Result<Response<ResponseBody>, Fault> {
    let Some(to) = response.headers().get(header::UPGRADE).cloned() else { return Err(Fault::BadGateway) };
    let backend_side = hyper::upgrade::on(&mut response);
    let Some(state) = lease.release() else { return Err(Fault::BadGateway) };
    let registration = Registration::new(&client.thread, client.service.clone());
    let tunnel = Tunnel { client: client.state.clone(), backend: state, registration, _active: active };
    tokio::task::spawn_local(tunnel.run(client_side, backend_side));

    super::headers::rebuild_response(response.headers_mut());
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
    _active: Active,
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
