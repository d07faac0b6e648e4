//! SYN cookies: in a flood, `edge` answers SYNs in place of the kernel's TCP, which later checks the cookie.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Config, ServiceValue};

use crate::classify::Family;

/// Answer this SYN to a terminated service with a cookie, if the service is flooded. `ip` and `tcp` are offsets of
/// headers, both without anything between them but IPv4 options. None: the kernel answers.
#[inline(always)]
pub(crate) fn answer<F: Family>(
    _ctx: &XdpContext,
    _config: &Config,
    _service: &ServiceValue,
    _ip: usize,
    _tcp: usize,
) -> Option<u32> {
    None
}
