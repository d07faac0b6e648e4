//! From limits as they are configured to what the kernel half counts with. Pure.

use lb_common::abi::{self, Address, Limit, SYN_COOKIES_ALWAYS, SYN_COOKIES_AUTO, SYN_COOKIES_NEVER, ShieldValue};

use crate::datapath::{Limits, Rate, SynCookies};

const SECOND: u64 = 1_000_000_000;
/// In a flood one SYN in 16 is counted, for all of them; so many steps the bucket has at the least.
const FLOOD_STEPS: u64 = 2 * 16;

/// The row of `SHIELD` for `limits`.
pub(super) fn value(limits: &Limits) -> ShieldValue {
    let mut value = ShieldValue {
        source_packets: limit(limits.source_packets),
        source_connections: limit(limits.source_connections),
        packets: limit(limits.packets),
        connections: limit(limits.connections),
        mask_v4: mask(limits.source_v4, 32) as u32,
        mask_v6: Address::v6(mask(limits.source_v6, 128).to_be_bytes()),
        syn_cookies: SYN_COOKIES_NEVER,
        ..ShieldValue::default()
    };
    match limits.syn_cookies {
        SynCookies::Never => {}
        SynCookies::Always => value.syn_cookies = SYN_COOKIES_ALWAYS,
        SynCookies::Auto { on, off, hold } => {
            value.syn_cookies = SYN_COOKIES_AUTO;
            value.syn_on = a_second_of(on);
            value.syn_off = a_second_of(off.min(on));
            value.syn_hold = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        }
    }
    value
}

/// Whether the kernel's own cookies are asked for as long as the service stands.
pub(super) fn always(value: &ShieldValue) -> bool {
    value.syn_cookies == SYN_COOKIES_ALWAYS
}

/// Whether the service is flooded at `now`, by its row of `BUCKETS`.
pub(super) fn flooded(value: &ShieldValue, bucket: &abi::BucketValue, now: u64) -> bool {
    value.syn_cookies == SYN_COOKIES_AUTO && bucket.flood_until > now
}

fn limit(rate: Option<Rate>) -> Limit {
    let Some(rate) = rate else { return Limit::default() };
    let interval = interval(rate.per_second);
    Limit { interval, burst: interval.saturating_mul(u64::from(rate.burst.max(1))) }
}

/// More than the events of a second within one.
fn a_second_of(per_second: u32) -> Limit {
    let interval = interval(per_second);
    Limit { interval, burst: SECOND.max(interval.saturating_mul(FLOOD_STEPS)) }
}

fn interval(per_second: u32) -> u64 {
    (SECOND / u64::from(per_second.max(1))).max(1)
}

fn mask(bits: u8, width: u32) -> u128 {
    let host_bits = width.saturating_sub(bits.into());
    let ones = u128::MAX >> (128 - width);
    ones & u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lb_common::abi::BucketValue;
    use lb_common::rate;

    use super::*;

    const NONE: Limits = Limits {
        source_packets: None,
        source_connections: None,
        packets: None,
        connections: None,
        source_v4: 32,
        source_v6: 128,
        syn_cookies: SynCookies::Never,
    };

    #[test]
    fn masks_keep_the_first_bits() {
        let of = |source_v4, source_v6| value(&Limits { source_v4, source_v6, ..NONE });
        assert_eq!(of(32, 128).mask_v4, u32::MAX);
        assert_eq!(of(24, 128).mask_v4, 0xffff_ff00);
        assert_eq!(of(24, 128).mask_v6, Address([0xff; 16]));
        let mut wanted = [0; 16];
        wanted[..6].fill(0xff);
        assert_eq!(of(24, 48).mask_v6, Address(wanted));
    }

    #[test]
    fn a_rate_is_its_interval_and_its_burst() {
        let rate = Some(Rate { per_second: 1000, burst: 5 });
        let value = value(&Limits { packets: rate, ..NONE });
        assert_eq!(value.packets, Limit { interval: 1_000_000, burst: 5_000_000 });
        assert_eq!(value.connections, Limit::default());
    }

    #[test]
    fn a_flood_is_more_than_the_rate_and_ends_with_fewer() {
        let hold = Duration::from_secs(2);
        let value = value(&Limits { syn_cookies: SynCookies::Auto { on: 100, off: 3, hold }, ..NONE });
        let taken = |limit: &Limit| {
            let mut arrival = 0;
            (0..1000).take_while(|_| rate::take(limit, arrival, 1).inspect(|next| arrival = *next).is_some()).count()
        };
        assert_eq!(taken(&value.syn_on), 100);
        assert!(taken(&Limit { interval: value.syn_off.interval * 16, ..value.syn_off }) >= 2);
        assert_eq!(value.syn_hold, 2 * SECOND);
        let bucket = BucketValue { flood_until: 5, ..BucketValue::default() };
        assert!(flooded(&value, &bucket, 4) && !flooded(&value, &bucket, 5));
    }
}
