//! What two overlays differ in: what the journal keeps of a change. Pure.

use super::overlay::{Difference, Overlay};
use super::prefixes::{RuntimeRule, RuntimeRules};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// From one overlay to another. It says what is, not what was asked for, so it means the same over any file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Delta {
    /// By pool and backend; none: as in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pools: Vec<(String, SocketAddr, Option<Difference>)>,
    /// By service and network; none: no rule of run time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<(Option<String>, IpNet, Option<RuntimeRule>)>,
}

impl Delta {
    /// Parts.
    pub fn len(&self) -> usize {
        self.pools.len() + self.rules.len()
    }

    /// Whether the two are the same.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Overlay {
    /// What leads from this one to another.
    pub fn delta(&self, to: &Self) -> Delta {
        let (before, after) = (flat(self), flat(to));
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed = keys.into_iter().filter(|key| before.get(key) != after.get(key));
        let pools = changed.map(|key| (key.0.to_owned(), key.1, after.get(key).copied())).collect();
        if Arc::ptr_eq(&self.rules, &to.rules) {
            return Delta { pools, rules: Vec::new() };
        }
        let keys: BTreeSet<_> = self.rules.keys().chain(to.rules.keys()).collect();
        let changed = keys.into_iter().filter(|key| self.rules.get(key) != to.rules.get(key));
        let rules = changed.map(|key| (key.0.clone(), key.1, to.rules.get(key).copied())).collect();
        Delta { pools, rules }
    }

    /// Go that way.
    pub fn apply(&mut self, delta: &Delta) {
        for (pool, address, difference) in &delta.pools {
            let backends = self.pools.entry(pool.clone()).or_default();
            match difference {
                Some(difference) => drop(backends.insert(*address, *difference)),
                None => drop(backends.remove(address)),
            }
            if backends.is_empty() {
                self.pools.remove(pool);
            }
        }
        if delta.rules.is_empty() {
            return;
        }
        let rules: &mut RuntimeRules = Arc::make_mut(&mut self.rules);
        for (service, network, rule) in &delta.rules {
            let key = (service.clone(), *network);
            match rule {
                Some(rule) => drop(rules.insert(key, *rule)),
                None => drop(rules.remove(&key)),
            }
        }
    }
}

fn flat(overlay: &Overlay) -> BTreeMap<(&str, SocketAddr), Difference> {
    let mut flat = BTreeMap::new();
    for (name, backends) in &overlay.pools {
        flat.extend(backends.iter().map(|(address, difference)| ((name.as_str(), *address), *difference)));
    }
    flat
}
