//! Listening sockets, made with the options that workers count on: not blocking, closed on exec, a long queue.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::Listener;

/// Connections that wait for a worker at the most; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 65535;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Listeners of an earlier process keep their ids; no later one gets any of these.
pub(super) fn inherit(listeners: &[Listener]) {
    let next = listeners.iter().map(|listener| listener.id.saturating_add(1)).max();
    NEXT_ID.fetch_max(next.unwrap_or(1), Ordering::Relaxed);
}

/// A listener of `worker` with an id that no other has had.
pub(super) fn listener(worker: u32, address: Option<SocketAddr>, socket: OwnedFd) -> Listener {
    Listener { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), worker, address, socket: Arc::new(socket) }
}

/// A listener that only this host reaches by its own address, for connections that the kernel half assigns. It takes
/// both families; on a kernel without IPv6 only IPv4.
pub(super) fn assigned() -> io::Result<OwnedFd> {
    // Bound to an IPv6 address proper, even the loopback's, the kernel makes it IPv6-only (`__inet6_bind`), and an
    // IPv6-only socket is not assigned IPv4 connections. Bound to a mapped one it takes both.
    match bound(SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0)), false, false) {
        Err(e) if no_ipv6(&e) => bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false, false),
        result => result,
    }
    .and_then(listening)
}

/// One of several listeners of `address`, which share its connections. Of one family only.
pub(super) fn shared(address: SocketAddr) -> io::Result<OwnedFd> {
    bound(address, true, true).and_then(listening)
}

/// Fails with `AddrInUse` where another socket listens on `address`, even one that would share it.
pub(super) fn check_free(address: SocketAddr) -> io::Result<()> {
    bound(address, true, false).map(drop)
}

fn no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bound(address: SocketAddr, v6_only: bool, reuse_port: bool) -> io::Result<OwnedFd> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6_only)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}

fn listening(socket: OwnedFd) -> io::Result<OwnedFd> {
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}
