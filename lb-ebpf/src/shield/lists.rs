//! Prefixes that are denied or allowed, for every service or one.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::Verdict;
use lb_common::abi::{
    Config, FEATURE_PREFIXES_V4, FEATURE_PREFIXES_V6, NO_SERVICE, PREFIX_DENY, PrefixValue, SERVICE_PREFIXES,
    ServiceValue,
};

use super::maps::{PREFIXES_V4, PREFIXES_V6};
use crate::classify::Family;
use crate::maps::AddressWords;

/// Prefixes that have run out, and that stand before one which has not, are passed over so many times at the most;
/// the control plane removes them within a second or so.
const MAX_OUTDATED: usize = 4;

/// Whether there is a list to look at.
#[inline(always)]
pub(super) fn are_there<F: Family>(config: &Config, service: &ServiceValue) -> bool {
    service.flags & SERVICE_PREFIXES != 0 || config.features & feature::<F>() != 0
}

/// Whether `source` is allowed expressly; an error when it is denied.
#[inline(always)]
pub(super) fn look<F: Family>(config: &Config, service: &ServiceValue, source: &AddressWords) -> Result<bool, Verdict> {
    let own = if service.flags & SERVICE_PREFIXES != 0 { longest::<F>(service.id, source) } else { None };
    let global = if config.features & feature::<F>() != 0 { longest::<F>(NO_SERVICE, source) } else { None };
    let rule = match (own, global) {
        (Some(own), Some(global)) if global.length > own.length => global,
        (Some(own), _) => own,
        (None, Some(global)) => global,
        (None, None) => return Ok(false),
    };
    if rule.action == PREFIX_DENY { Err(Verdict::Denied) } else { Ok(true) }
}

#[inline(always)]
const fn feature<F: Family>() -> u32 {
    if F::V6 { FEATURE_PREFIXES_V6 } else { FEATURE_PREFIXES_V4 }
}

/// What counts of a [`PrefixValue`].
#[derive(Clone, Copy)]
struct Rule {
    action: u32,
    length: u32,
}

/// The longest prefix of `service` around `source` that has not run out.
#[inline(always)]
fn longest<F: Family>(service: u32, source: &AddressWords) -> Option<Rule> {
    let mut length = if F::V6 { 128 } else { 32 };
    for _ in 0..MAX_OUTDATED {
        let found: &PrefixValue = if F::V6 {
            let [a, b, c, d] = *source;
            PREFIXES_V6.get(Key::new(64 + length, [service, 0, a, b, c, d]))?
        } else {
            PREFIXES_V4.get(Key::new(32 + length, [service, source[3]]))?
        };
        let rule = Rule { action: found.action, length: found.length };
        // SAFETY: the helper has no precondition.
        if found.until == 0 || found.until > unsafe { bpf_ktime_get_ns() } {
            return Some(rule);
        }
        if rule.length == 0 {
            return None;
        }
        length = rule.length - 1;
    }
    None
}
