//! Deny and allow rules: what operators said at run time, laid over the file's. Pure; the time is an argument.

use super::overlay::{ChangeError, Overlay};
use super::plan::ServiceIds;
use crate::config::{Config, Prefixes};
use crate::datapath::PrefixRule;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Most rules of run time; longer lists belong into files.
pub const MAX_RULES: usize = 65_536;

/// A rule of run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RuntimeRule {
    /// Allowed, not denied.
    pub allow: bool,
    /// Until when; none: until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "unix_ms")]
    pub until: Option<SystemTime>,
}

/// Rules of run time by service (`None`: every one) and network.
pub type RuntimeRules = BTreeMap<(Option<String>, IpNet), RuntimeRule>;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum PrefixChange {
    /// A rule, in place of the one that the service and network have.
    Add {
        /// None: every service.
        service: Option<String>,
        /// Host bits are zero.
        network: IpNet,
        /// Allow, not deny.
        allow: bool,
        /// None: until it is removed.
        seconds: Option<u32>,
    },
    /// No rule of run time any more; what the file says holds again.
    Remove {
        /// None: every service.
        service: Option<String>,
        /// Host bits are zero.
        network: IpNet,
    },
}

impl Overlay {
    /// Rules of run time.
    pub fn rules(&self) -> &RuntimeRules {
        &self.rules
    }

    /// The overlay after a change of the rules; this one stays as it is.
    pub fn with_rule(&self, config: &Config, change: PrefixChange, now: SystemTime) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        next.change_rule(config, change, now)?;
        Ok(next)
    }

    /// Change the rules; on an error they are as they were.
    pub(super) fn change_rule(
        &mut self,
        config: &Config,
        change: PrefixChange,
        now: SystemTime,
    ) -> Result<(), ChangeError> {
        match change {
            PrefixChange::Add { service, network, allow, seconds } => {
                known(config, service.as_deref())?;
                let until = seconds.map(|seconds| unix_ms::whole(now) + Duration::from_secs(seconds.into()));
                let key = (service, network.trunc());
                if self.rules.len() >= MAX_RULES && !self.rules.contains_key(&key) {
                    return Err(ChangeError::TooManyRules);
                }
                Arc::make_mut(&mut self.rules).insert(key, RuntimeRule { allow, until });
            }
            PrefixChange::Remove { service, network } => {
                known(config, service.as_deref())?;
                let key = (service, network.trunc());
                if !self.rules.contains_key(&key) {
                    let in_file = config.prefixes.get(&key.0).is_some_and(|rules| rules.contains_key(&key.1));
                    return Err(if in_file { ChangeError::FileRule(key.1) } else { ChangeError::NoRule(key.1) });
                }
                Arc::make_mut(&mut self.rules).remove(&key);
            }
        }
        Ok(())
    }

    /// The overlay without rules that have run out; none: there are none.
    pub fn without_old_rules(&self, now: SystemTime) -> Option<Self> {
        let over = |rule: &RuntimeRule| rule.until.is_some_and(|until| until <= now);
        if !self.rules.values().any(over) {
            return None;
        }
        let rules = self.rules.iter().filter(|(_, rule)| !over(rule)).map(|(key, rule)| (key.clone(), *rule));
        Some(self.having(rules.collect()))
    }

    /// Rules of services that are gone go with them.
    pub(super) fn settle_rules(&mut self, config: &Config) {
        let stays = |service: &Option<String>| known(config, service.as_deref()).is_ok();
        if !self.rules.keys().all(|(service, _)| stays(service)) {
            let rules = self.rules.iter().filter(|((service, _), _)| stays(service));
            self.rules = Arc::new(rules.map(|(key, rule)| (key.clone(), *rule)).collect());
        }
    }
}

/// Whole milliseconds since 1970: what is read again is what was written.
mod unix_ms {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    pub(super) fn whole(time: SystemTime) -> SystemTime {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        UNIX_EPOCH + Duration::from_millis(since.as_millis() as u64)
    }

    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        let ms = |time: &SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        time.as_ref().map(ms).serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        let ms = Option::<u64>::deserialize(from)?;
        Ok(ms.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms))))
    }
}

fn known(config: &Config, service: Option<&str>) -> Result<(), ChangeError> {
    match service {
        Some(name) if !config.service_names().any(|known| known == name) => Err(ChangeError::NoService(name.into())),
        _ => Ok(()),
    }
}

/// What the rules in the datapath were made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSources {
    /// The file's.
    pub file: Arc<Prefixes>,
    /// Those of run time.
    pub runtime: Arc<RuntimeRules>,
    /// Numbers of services.
    pub ids: ServiceIds,
}

impl RuleSources {
    /// All rules, sorted by service and network, each once: what was said at run time goes before the file.
    pub fn rules(&self) -> Vec<PrefixRule> {
        let id = |service: &Option<String>| service.as_ref().map_or(Some(0), |name| self.ids.id(name));
        let runtime = self.runtime.iter().filter_map(|((service, network), rule)| {
            Some(PrefixRule { service: id(service)?, network: *network, allow: rule.allow, until: rule.until })
        });
        let mut all: Vec<PrefixRule> = runtime.collect();
        for (service, rules) in self.file.iter() {
            let Some(service) = id(service) else { continue };
            let rule = |(network, allow): (&IpNet, &bool)| PrefixRule {
                service,
                network: *network,
                allow: *allow,
                until: None,
            };
            all.extend(rules.iter().map(rule));
        }
        // Stable, so that the first of two stays the first.
        all.sort_by_key(|rule| (rule.service, rule.network));
        all.dedup_by_key(|rule| (rule.service, rule.network));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing;
    use proptest::prelude::*;

    fn network() -> impl Strategy<Value = IpNet> {
        (0u8..4, 30u8..33).prop_map(|(host, length)| IpNet::new([10, 0, 0, host].into(), length).unwrap().trunc())
    }

    fn service() -> impl Strategy<Value = Option<String>> {
        prop_oneof![Just(None), Just(Some("a".to_owned())), Just(Some("b".to_owned()))]
    }

    proptest! {
        #[test]
        fn each_rule_stands_once_in_order_and_run_time_goes_first(
            file in prop::collection::btree_map(service(), prop::collection::btree_map(network(), any::<bool>(), 0..4), 0..3),
            runtime in prop::collection::btree_map((service(), network()), any::<bool>(), 0..6),
        ) {
            let ids = ServiceIds::of(&[("a", 2), ("b", 1)]);
            let rule = |allow| RuntimeRule { allow, until: None };
            let runtime: RuntimeRules = runtime.into_iter().map(|(key, allow)| (key, rule(allow))).collect();
            let mut model = BTreeMap::new();
            let id = |service: &Option<String>| service.as_ref().map_or(0, |name| ids.id(name).unwrap());
            for (service, rules) in &file {
                model.extend(rules.iter().map(|(network, allow)| ((id(service), *network), *allow)));
            }
            model.extend(runtime.iter().map(|((service, network), rule)| ((id(service), *network), rule.allow)));
            let sources = RuleSources { file: Arc::new(file), runtime: Arc::new(runtime), ids: ids.clone() };
            let rules: Vec<_> = sources.rules().iter().map(|r| ((r.service, r.network), r.allow)).collect();
            prop_assert_eq!(rules, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn rules_run_out_and_go_with_their_service() {
        let mut config = testing::config(&["a"], BTreeMap::new());
        let now = SystemTime::UNIX_EPOCH;
        let network: IpNet = "192.0.2.0/24".parse().unwrap();
        let add = |service: Option<&str>, seconds| PrefixChange::Add {
            service: service.map(str::to_owned),
            network,
            allow: false,
            seconds,
        };
        let overlay = Overlay::default().with_rule(&config, add(None, Some(5)), now).unwrap();
        let overlay = overlay.with_rule(&config, add(Some("a"), None), now).unwrap();
        assert!(overlay.without_old_rules(now + Duration::from_secs(4)).is_none());
        let later = overlay.without_old_rules(now + Duration::from_secs(5)).unwrap();
        assert_eq!(later.rules().len(), 1);
        config.services.clear();
        assert!(later.over(&config).rules().is_empty());
        let unknown = overlay.with_rule(&config, add(Some("a"), None), now).unwrap_err();
        assert_eq!(unknown, ChangeError::NoService("a".into()));
    }

    #[test]
    fn the_files_rules_are_not_removed_at_run_time() {
        let mut config = testing::config(&["a"], BTreeMap::new());
        let network: IpNet = "192.0.2.0/24".parse().unwrap();
        config.prefixes = Arc::new([(None, [(network, false)].into())].into());
        let now = SystemTime::UNIX_EPOCH;
        let remove = |service: Option<&str>| PrefixChange::Remove { service: service.map(str::to_owned), network };
        let refused = |service| Overlay::default().with_rule(&config, remove(service), now).unwrap_err();
        assert_eq!(refused(None), ChangeError::FileRule(network));
        assert_eq!(refused(Some("a")), ChangeError::NoRule(network));
    }
}
