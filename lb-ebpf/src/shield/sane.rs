//! Packets that nobody who means well sends.

use lb_common::Verdict;

use crate::packet::{Ipv4, Ipv6, Packet, Tcp};

/// The IPv4 header at `offset`, to a service's address.
#[inline(always)]
pub(crate) fn ipv4(_packet: &Packet, _offset: usize, _ip: &Ipv4) -> Result<(), Verdict> {
    Ok(())
}

/// An IPv6 header to a service's address.
#[inline(always)]
pub(crate) fn ipv6(_ip: &Ipv6) -> Result<(), Verdict> {
    Ok(())
}

/// A TCP header to a service.
#[inline(always)]
pub(crate) fn tcp(_tcp: &Tcp) -> Result<(), Verdict> {
    Ok(())
}
