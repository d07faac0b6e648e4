//! Whether a service is flooded with SYNs: begins with more than one rate, ends when there were fewer than another
//! for some time.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use lb_common::abi::{Limit, SYN_COOKIES_ALWAYS, SYN_COOKIES_AUTO, ServiceValue};
use lb_common::rate;

use super::maps::{BUCKETS, SHIELD};

/// In a flood one SYN in so many is counted, for all of them: every CPU is flooded, and the bucket is one cache line.
const ONE_IN: u32 = 16;

/// Count a SYN to `service`, and say whether it is to be answered with a cookie.
#[inline(always)]
pub(super) fn counts(service: &ServiceValue) -> bool {
    let Some(limits) = SHIELD.get(service.id) else { return false };
    match limits.syn_cookies {
        SYN_COOKIES_ALWAYS => return true,
        SYN_COOKIES_AUTO => {}
        _ => return false,
    }
    let Some(bucket) = BUCKETS.get_ptr_mut(service.id) else { return false };
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the row always exists; other CPUs write whole words of it. A count that is lost makes a flood begin or
    // end a little later.
    unsafe {
        let flooded = (*bucket).flood_until > now;
        if flooded && !bpf_get_prandom_u32().is_multiple_of(ONE_IN) {
            return true;
        }
        let limit = if flooded {
            Limit { interval: limits.syn_off.interval * u64::from(ONE_IN), burst: limits.syn_off.burst }
        } else {
            limits.syn_on
        };
        match rate::take(&limit, (*bucket).syns, now) {
            Some(syns) => {
                (*bucket).syns = syns;
                flooded
            }
            None => {
                (*bucket).flood_until = now + limits.syn_hold;
                true
            }
        }
    }
}
