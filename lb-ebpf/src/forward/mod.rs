//! Packets of forwarded services: to a backend and, for `nat`, back.

pub(crate) mod maps;

use lb_common::Verdict;
use lb_common::abi::ServiceValue;
use lb_common::select::Opening;

use crate::classify::{Datagram, Family};
use crate::finish::Exit;

/// A packet of a flow of `service`; ports in host order.
#[inline(always)]
pub(crate) fn packet<F: Family>(
    _datagram: &Datagram<'_>,
    _service: &ServiceValue,
    _ports: (u16, u16),
    _protocol: u8,
    _opening: Opening,
) -> Result<Exit, Verdict> {
    Err(Verdict::NoBackend)
}
