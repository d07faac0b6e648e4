//! An open kernel datapath for a test, and what arrives at its listeners.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use lb_tests::privilege;
use lb_user::datapath::{
    Datapath as _, DatapathError, Desired, DesiredService, KernelDatapath, KernelOptions, Listener, Steering, Tuning,
    Worker,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{acceptfrom, getsockname, sockopt};
use tls_worker::api::ListenAddress;

use crate::lab::*;

const ACCEPT_DEADLINE: Duration = Duration::from_secs(3);

/// A connection at a listener.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) worker: u32,
    pub(crate) client: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// The CPU that its packets were taken in on.
    pub(crate) cpu: u32,
    socket: OwnedFd,
}

impl Arrival {
    /// The connection, for reading and writing.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.socket.into()
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// A worker on every CPU of this process.
pub(crate) fn workers() -> Vec<Worker> {
    (0..).zip(privilege::cpus()).map(|(index, cpu)| Worker { index, cpu: *cpu }).collect()
}

pub(crate) fn options(name: &str, steering: Steering) -> KernelOptions {
    KernelOptions {
        // The BPF file system is one for all namespaces.
        name: format!("test.{}.{name}", std::process::id()),
        interfaces: vec![INTERFACE.to_owned()],
        native: true,
        steering,
        workers: workers(),
        max_services: 16,
        max_addresses: 32,
        packet_log_sample: 0,
        tuning: Tuning::default(),
    }
}

/// Service 1 on port 443 of the VIPs, 2 on every port of the others, 3 on port 8443 of those.
pub(crate) fn desired() -> Desired {
    Desired {
        services: vec![
            service(1, &[(VIP4, Some(443)), (VIP6, Some(443))]),
            service(2, &[(ALL4, None), (ALL6, None)]),
            service(3, &[(ALL4, Some(8443)), (ALL6, Some(8443))]),
        ],
        ..Desired::default()
    }
}

pub(crate) fn service(id: u32, addresses: &[(&str, Option<u16>)]) -> DesiredService {
    let addresses = addresses
        .iter()
        .map(|(address, port)| ListenAddress { address: address.parse().expect("an address"), port: *port })
        .collect();
    DesiredService { id, name: format!("service-{id}"), addresses }
}

/// Packets by service and verdict.
pub(crate) fn packets(datapath: &KernelDatapath) -> Result<BTreeMap<(u32, &'static str), u64>, DatapathError> {
    Ok(datapath.counters()?.packets.into_iter().map(|row| ((row.service, row.verdict), row.packets)).collect())
}

/// The next connection at any of these listeners.
pub(crate) fn accept(listeners: &[Listener]) -> Result<Arrival, String> {
    let deadline = Instant::now() + ACCEPT_DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds: Vec<PollFd<'_>> = listeners.iter().map(|l| PollFd::new(&l.socket, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(left).map_err(|e| e.to_string())?;
        if poll(&mut fds, Some(&timeout)).map_err(|e| e.to_string())? == 0 {
            return Err("no connection arrived".to_owned());
        }
        let ready = fds.iter().position(|fd| fd.revents().contains(PollFlags::IN));
        if let Some(listener) = ready.map(|index| &listeners[index]) {
            return arrival(listener).map_err(|e| format!("accept: {e}"));
        }
    }
}

fn arrival(listener: &Listener) -> std::io::Result<Arrival> {
    let (socket, client) = acceptfrom(&listener.socket)?;
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let client = client.map(SocketAddr::try_from).transpose()?.ok_or(std::io::ErrorKind::InvalidData)?;
    let destination = SocketAddr::try_from(getsockname(&socket)?)?;
    let cpu = sockopt::socket_incoming_cpu(&socket)?;
    let (client, destination) = (plain(client), plain(destination));
    Ok(Arrival { worker: listener.worker, client, destination, cpu, socket })
}
