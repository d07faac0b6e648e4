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

use crate::family::Family;
use crate::maps::AddressWords;

/// Whether a packet of `source` may go on to its service. `opening`: it begins a TCP connection.
#[inline(always)]
pub(crate) fn admit<F: Family>(
    config: &Config,
    service: &ServiceValue,
    source: &AddressWords,
    opening: bool,
) -> Result<(), Verdict> {
    // A service without a shield pays for two branches. What is behind them are functions of their own, which keep their
    // variables off the caller's stack and which the verifier leaves by one way.
    if let Some(which) = lists::which::<F>(config, service) {
        match lists::look::<F>(service.id, source, which) {
            lists::DENIED => return Err(Verdict::Denied),
            lists::ALLOWED => return Ok(()),
            _ => {}
        }
    }
    if service.flags & SERVICE_LIMITS != 0 {
        return match rates::within::<F>(service.id, source, opening) {
            rates::WITHIN => Ok(()),
            rates::SOURCE_PACKETS => Err(Verdict::RateSourcePackets),
            rates::SOURCE_CONNECTIONS => Err(Verdict::RateSourceConnections),
            rates::SERVICE_PACKETS => Err(Verdict::RateServicePackets),
            _ => Err(Verdict::RateServiceConnections),
        };
    }
    Ok(())
}
