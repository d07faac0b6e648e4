//! Prefixes that are denied or allowed, for every service or one.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::abi::{
    Config, FEATURE_PREFIXES_V4, FEATURE_PREFIXES_V6, NO_SERVICE, PREFIX_DENY, PrefixValue, SERVICE_PREFIXES,
    ServiceValue,
};

use super::maps::{PREFIXES_V4, PREFIXES_V6};
use crate::family::Family;
use crate::maps::AddressWords;

/// Prefixes that have run out, and that stand before one which has not, are passed over so many times at the most;
/// the control plane removes them within a second or so.
const MAX_OUTDATED: usize = 4;

/// Answers of [`look`].
pub(super) const NOTHING: u32 = 0;
pub(super) const ALLOWED: u32 = 1;
pub(super) const DENIED: u32 = 2;

/// Lists to look at: the service's own, and that of every service.
const OWN: u32 = 1;
const GLOBAL: u32 = 2;

/// Which lists there are to look at.
#[inline(always)]
pub(super) fn which<F: Family>(config: &Config, service: &ServiceValue) -> Option<u32> {
    let own = if service.flags & SERVICE_PREFIXES != 0 { OWN } else { 0 };
    let global = if config.features & feature::<F>() != 0 { GLOBAL } else { 0 };
    (own | global != 0).then_some(own | global)
}

/// Whether `source` is allowed expressly, or denied.
#[inline(never)]
pub(super) fn look<F: Family>(service: u32, source: &AddressWords, which: u32) -> u32 {
    let own = if which & OWN != 0 { longest::<F>(service, source) } else { Rule::NONE };
    let global = if which & GLOBAL != 0 { longest::<F>(NO_SERVICE, source) } else { Rule::NONE };
    // Of two of one length the service's own counts.
    let rule = if own.action == 0 || global.action != 0 && global.length > own.length { global } else { own };
    match rule.action {
        0 => NOTHING,
        PREFIX_DENY => DENIED,
        _ => ALLOWED,
    }
}

#[inline(always)]
const fn feature<F: Family>() -> u32 {
    if F::V6 { FEATURE_PREFIXES_V6 } else { FEATURE_PREFIXES_V4 }
}

/// What counts of a [`PrefixValue`].
#[derive(Clone, Copy)]
struct Rule {
    /// 0: there is none.
    action: u32,
    length: u32,
}

impl Rule {
    const NONE: Self = Self { action: 0, length: 0 };
}

/// The longest prefix of `service` around `source` that has not run out.
#[inline(always)]
fn longest<F: Family>(service: u32, source: &AddressWords) -> Rule {
    let mut length = if F::V6 { 128 } else { 32 };
    for _ in 0..MAX_OUTDATED {
        let found: Option<&PrefixValue> = if F::V6 {
            let [a, b, c, d] = *source;
            PREFIXES_V6.get(Key::new(64 + length, [service, 0, a, b, c, d]))
        } else {
            PREFIXES_V4.get(Key::new(32 + length, [service, source[3]]))
        };
        let Some(found) = found else { return Rule::NONE };
        let rule = Rule { action: found.action, length: found.length };
        // SAFETY: the helper has no precondition.
        if found.until == 0 || found.until > unsafe { bpf_ktime_get_ns() } {
            return rule;
        }
        if rule.length == 0 {
            return Rule::NONE;
        }
        length = rule.length - 1;
    }
    Rule::NONE
}
