//! What stands before every service: malformed packets, lists of prefixes, rates, floods. Each refusal is a verdict.

pub(crate) mod cookie;
mod flood;
mod lists;
pub(crate) mod maps;
mod rates;
mod sane;

pub(crate) use sane::{ipv4, ipv6, tcp};

use lb_common::Verdict;
use lb_common::abi::{Config, SERVICE_LIMITS, ServiceValue};

use crate::classify::Family;
use crate::maps::AddressWords;

/// Whether a packet of `source` may go on to its service. `opening`: it begins a TCP connection.
#[inline(always)]
pub(crate) fn admit<F: Family>(
    config: &Config,
    service: &ServiceValue,
    source: &AddressWords,
    opening: bool,
) -> Result<(), Verdict> {
    // A service without a shield pays for two branches.
    if lists::are_there::<F>(config, service) && lists::look::<F>(config, service, source)? {
        return Ok(());
    }
    if service.flags & SERVICE_LIMITS != 0 {
        return rates::within::<F>(service, source, opening);
    }
    Ok(())
}
