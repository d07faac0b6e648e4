//! What stands before every service: malformed packets, lists of prefixes, rates, floods. Each refusal is a verdict.

pub(crate) mod cookie;
pub(crate) mod maps;
mod sane;

pub(crate) use sane::{ipv4, ipv6, tcp};

use lb_common::Verdict;
use lb_common::abi::{Config, ServiceValue};

use crate::classify::Family;
use crate::maps::AddressWords;

/// Whether a packet of `source` may go on to its service. `opening`: it begins a TCP connection.
#[inline(always)]
pub(crate) fn admit<F: Family>(
    _config: &Config,
    _service: &ServiceValue,
    _source: &AddressWords,
    _opening: bool,
) -> Result<(), Verdict> {
    Ok(())
}
