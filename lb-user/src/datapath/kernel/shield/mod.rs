//! The shield's tables: limits of services and prefixes that are denied or allowed.

mod inherit;
mod limits;
mod rules;
mod sysctl;
mod tries;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use ipnet::IpNet;
use lb_common::abi::{self, BucketValue, FEATURE_PREFIXES_V4, FEATURE_PREFIXES_V6, NO_SERVICE, ShieldValue};
use zerocopy::transmute;

use self::rules::{Change, Now, over};
use self::sysctl::SynCookiesSetting;
use self::tries::Tries;
use super::error::failed;
use super::maps::take;
use super::settings::Settings;
use crate::datapath::{DatapathError, Desired, PrefixRule, ShieldState};

pub(super) use self::sysctl::NAME as SYN_COOKIES_NAME;

type Row<V> = Array<MapData, V>;
type ShieldBytes = [u8; size_of::<ShieldValue>()];
type BucketBytes = [u8; size_of::<BucketValue>()];

/// Handles of the maps, and what they hold.
pub(in crate::datapath) struct Shield {
    shield: Row<ShieldBytes>,
    buckets: Row<BucketBytes>,
    tries: Tries,
    in_force: Content,
    /// What was in force before the last change.
    before: Content,
    setting: SynCookiesSetting,
}

/// What the tables hold.
#[derive(Debug, Clone, Default)]
struct Content {
    limits: BTreeMap<u32, ShieldValue>,
    /// As it was asked for; of this, [`Self::prefixes`] had not run out.
    asked: Arc<Vec<PrefixRule>>,
    prefixes: Arc<Vec<PrefixRule>>,
    /// When the next of them runs out.
    next_end: Option<SystemTime>,
}

impl Shield {
    /// Take the maps out of the loaded object.
    pub(in crate::datapath) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            shield: take(ebpf, abi::SHIELD)?,
            buckets: take(ebpf, abi::BUCKETS)?,
            tries: Tries::take(ebpf)?,
            in_force: Content::default(),
            before: Content::default(),
            setting: SynCookiesSetting::default(),
        })
    }

    /// Make the tables what `desired` asks for. On an error nothing has changed.
    pub(in crate::datapath) fn apply(
        &mut self,
        settings: &mut Settings,
        desired: &Desired,
    ) -> Result<(), DatapathError> {
        let now = Now::read();
        let target = self.in_force.next(desired, now.time);
        self.before = self.in_force.clone();
        if let Err(e) = self.write(settings, target, now) {
            self.revert(settings);
            return Err(e);
        }
        Ok(())
    }

    /// Go back to before the last [`Self::apply`].
    pub(in crate::datapath) fn revert(&mut self, settings: &mut Settings) {
        if let Err(e) = self.write(settings, self.before.clone(), Now::read()) {
            tracing::error!(error = %e, "a change of the shield's tables could not be undone");
        }
    }

    /// Prefixes that have run out are removed; SYN cookies are asked of the kernel while there is a flood.
    pub(in crate::datapath) fn tick(&mut self, settings: &mut Settings) {
        let now = Now::read();
        if self.in_force.next_end.is_some_and(|end| end <= now.time) {
            let target = self.in_force.without_outdated(now.time);
            if let Err(e) = self.write(settings, target, now) {
                tracing::warn!(error = %e, "prefixes that have run out could not be removed; it is tried again");
            }
        }
        match self.flooded(now.monotonic) {
            Ok(flooded) => self.setting.set(!flooded.is_empty()),
            Err(e) => tracing::warn!(error = %e, "whether there is a SYN flood cannot be told"),
        }
    }

    /// As it is.
    pub(in crate::datapath) fn state(&self) -> Result<ShieldState, DatapathError> {
        let flooded = self.flooded(super::monotonic())?;
        Ok(ShieldState { prefixes: self.tries.held() as u64, flooded, events_lost: 0 })
    }

    /// Undo what was changed outside of the maps.
    pub(in crate::datapath) fn close(&mut self) {
        self.setting.set(false);
    }

    /// Leave outside of the maps what was changed there.
    pub(in crate::datapath) fn leave(self) {
        self.setting.leave();
    }

    /// Lead from what is in force to `target`. After an error `in_force` is `target` all the same, so that the way
    /// back removes whatever was written.
    fn write(&mut self, settings: &mut Settings, target: Content, now: Now) -> Result<(), DatapathError> {
        let from = std::mem::replace(&mut self.in_force, target);
        let limits = self.write_limits(&from.limits);
        if !Arc::ptr_eq(&from.prefixes, &self.in_force.prefixes) {
            let change = Change::between(&from.prefixes, &self.in_force.prefixes, now);
            if let Err(e) = self.tries.write(&change) {
                if matches!(e, DatapathError::Full { .. }) {
                    // Nothing was written.
                    self.in_force.prefixes = from.prefixes;
                }
                return Err(e);
            }
        }
        limits?;
        for (bit, v6) in [(FEATURE_PREFIXES_V4, false), (FEATURE_PREFIXES_V6, true)] {
            settings.set_features(bit, self.in_force.has_global(v6))?;
        }
        let always = self.in_force.limits.values().any(limits::always);
        if always {
            self.setting.set(true);
        }
        Ok(())
    }

    fn write_limits(&mut self, from: &BTreeMap<u32, ShieldValue>) -> Result<(), DatapathError> {
        let to = &self.in_force.limits;
        let unwritten = |e: aya::maps::MapError| failed("write the limits of a service into the kernel's table", &e);
        for (id, value) in to.iter().filter(|(id, value)| from.get(id) != Some(value)) {
            let value: ShieldBytes = transmute!(*value);
            self.shield.set(*id, value, 0).map_err(unwritten)?;
        }
        let (no_limits, empty): (ShieldBytes, BucketBytes) =
            (transmute!(ShieldValue::default()), transmute!(BucketValue::default()));
        for id in from.keys().filter(|id| !to.contains_key(id)) {
            self.shield.set(*id, no_limits, 0).map_err(unwritten)?;
            // The number may be another service's next.
            self.buckets.set(*id, empty, 0).map_err(unwritten)?;
        }
        Ok(())
    }

    /// Services whose SYNs are answered with cookies.
    fn flooded(&self, now: u64) -> Result<Vec<u32>, DatapathError> {
        let mut flooded = Vec::new();
        for (id, value) in &self.in_force.limits {
            let bucket: BucketBytes = self.buckets.get(id, 0).map_err(|e| failed("read BUCKETS", &e))?;
            let bucket: BucketValue = transmute!(bucket);
            if limits::always(value) || limits::flooded(value, &bucket, now) {
                flooded.push(*id);
            }
        }
        Ok(flooded)
    }
}

impl Content {
    /// What `desired` asks for, without what has run out.
    fn next(&self, desired: &Desired, time: SystemTime) -> Self {
        let limits = desired.limits.iter().map(|(id, limits)| (*id, limits::value(limits))).collect();
        let unchanged = Arc::ptr_eq(&self.asked, &desired.prefixes) || self.asked == desired.prefixes;
        if unchanged && self.next_end.is_none_or(|end| end > time) {
            return Self { limits, asked: Arc::clone(&desired.prefixes), ..self.clone() };
        }
        Self { limits, ..Self::of_prefixes(&desired.prefixes, time) }
    }

    fn without_outdated(&self, time: SystemTime) -> Self {
        let prefixes = Self::of_prefixes(&self.prefixes, time);
        Self { limits: self.limits.clone(), asked: Arc::clone(&self.asked), ..prefixes }
    }

    fn of_prefixes(asked: &Arc<Vec<PrefixRule>>, time: SystemTime) -> Self {
        let outdated = asked.iter().any(|rule| over(rule, time));
        let prefixes = match outdated {
            false => Arc::clone(asked),
            true => Arc::new(asked.iter().filter(|rule| !over(rule, time)).copied().collect()),
        };
        let next_end = prefixes.iter().filter_map(|rule| rule.until).min();
        Self { limits: BTreeMap::new(), asked: Arc::clone(asked), prefixes, next_end }
    }

    /// Whether there are prefixes of a family that hold for every service. They stand first, IPv4 before IPv6.
    fn has_global(&self, v6: bool) -> bool {
        let global = &self.prefixes[..self.prefixes.partition_point(|rule| rule.service == NO_SERVICE)];
        let rule = if v6 { global.last() } else { global.first() };
        rule.is_some_and(|rule| matches!(rule.network, IpNet::V6(_)) == v6)
    }
}
