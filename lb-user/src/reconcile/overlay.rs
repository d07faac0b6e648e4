//! What operators changed at run time, laid over the file. Pure.

use super::prefixes::{MAX_RULES, RuntimeRules};
pub use crate::config::Mark;
use crate::config::{Config, MAX_BACKENDS, MAX_WEIGHT, Pool};
use crate::state::Forgotten;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What differs from the file for one backend; none of its fields set: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Difference {
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<Mark>,
    /// Seconds of a drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<u32>,
}

/// All differences from the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    pub(super) pools: BTreeMap<String, BTreeMap<SocketAddr, Difference>>,
    /// Shared, because each state that is told holds them.
    pub(super) rules: Arc<RuntimeRules>,
}

/// One change that an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum PoolChange {
    /// A backend more.
    Add {
        /// 1 to 256; none: 1.
        weight: Option<u16>,
    },
    /// A backend less.
    Remove,
    /// No new request.
    Drain {
        /// What is in flight is cut after so long; none: after the pool's `drain_timeout`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// As before drain or disable.
    Enable,
    /// No request.
    Disable,
    /// Another share.
    Weight {
        /// 1 to 256.
        weight: u16,
    },
}

/// A backend as it is to be, the checks apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effective {
    /// Where.
    pub address: SocketAddr,
    /// 1 to 256.
    pub weight: u16,
    /// What the operator says; of an address that DNS has no more: that it drains.
    pub mark: Mark,
    /// How long its drain may take, where that is not what the pool says.
    pub drain: Option<Duration>,
    /// Whether the file has it.
    pub in_file: bool,
    /// Whether anything about it differs from the file.
    pub changed: bool,
}

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such pool.
    #[error("there is no pool {0:?}")]
    NoPool(String),
    /// No such backend.
    #[error("pool {pool:?} has no backend {address}")]
    NoBackend {
        /// Pool.
        pool: String,
        /// Address.
        address: SocketAddr,
    },
    /// Already there.
    #[error("pool {pool:?} has the backend {address} already")]
    Present {
        /// Pool.
        pool: String,
        /// Address.
        address: SocketAddr,
    },
    /// Too many.
    #[error("pool {pool:?} has {MAX_BACKENDS} backends, and that is the bound")]
    Full {
        /// Pool.
        pool: String,
    },
    /// Out of bounds.
    #[error("a weight is 1 to {MAX_WEIGHT}, not {0}")]
    Weight(u16),
    /// No such service.
    #[error("there is no service {0:?}")]
    NoService(String),
    /// No such rule.
    #[error("there is no rule for {0}")]
    NoRule(IpNet),
    /// Not said at run time.
    #[error(
        "the rule for {0} stands in the config; to have it otherwise, add the opposite (bailey deny add, --allow), or edit the file and reload"
    )]
    FileRule(IpNet),
    /// Not in the history.
    #[error(transparent)]
    Forgotten(#[from] Forgotten),
    /// Too many.
    #[error("{MAX_RULES} rules were added at run time, and that is the bound; put long lists into deny_files")]
    TooManyRules,
}

impl Overlay {
    /// The backends of a pool with everything laid over, by address.
    pub fn effective(&self, pool: &Pool) -> Vec<Effective> {
        let differences = self.pools.get(&pool.name);
        let mut addresses: Vec<SocketAddr> = pool.backends.keys().copied().collect();
        addresses.extend(differences.into_iter().flat_map(|d| d.keys()).filter(|a| !pool.backends.contains_key(a)));
        addresses.sort();
        addresses
            .into_iter()
            .filter_map(|address| {
                let file = pool.backends.get(&address).copied();
                let difference = differences.and_then(|d| d.get(&address)).copied().unwrap_or_default();
                difference.present.unwrap_or(file.is_some()).then(|| Effective {
                    address,
                    weight: difference.weight.or(file).unwrap_or(1),
                    mark: difference.mark.unwrap_or(match pool.is_leaving(&address) {
                        true => Mark::Draining,
                        false => marked(pool, &address),
                    }),
                    drain: difference.drain.map(|seconds| Duration::from_secs(seconds.into())),
                    in_file: file.is_some(),
                    changed: difference != Difference::default(),
                })
            })
            .collect()
    }

    /// Backends that the file has and an operator removed.
    pub fn removed(&self, pool: &Pool) -> Vec<SocketAddr> {
        let differences = self.pools.get(&pool.name).into_iter().flatten();
        differences
            .filter(|(address, d)| d.present == Some(false) && pool.backends.contains_key(address))
            .map(|(address, _)| *address)
            .collect()
    }

    /// The overlay after a change; this one stays as it is.
    pub fn with(
        &self,
        config: &Config,
        pool: &str,
        address: SocketAddr,
        change: PoolChange,
    ) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        next.change(config, pool, address, change)?;
        Ok(next)
    }

    /// Change it; on an error it is as it was.
    pub(super) fn change(
        &mut self,
        config: &Config,
        pool: &str,
        address: SocketAddr,
        change: PoolChange,
    ) -> Result<(), ChangeError> {
        let name = pool.to_owned();
        let pool = config.pool(pool).ok_or_else(|| ChangeError::NoPool(name.clone()))?;
        let backends = self.effective(pool);
        let present = backends.iter().any(|backend| backend.address == address);
        let adding = matches!(change, PoolChange::Add { .. });
        match (adding, present) {
            (true, true) => return Err(ChangeError::Present { pool: name, address }),
            (false, false) => return Err(ChangeError::NoBackend { pool: name, address }),
            (true, false) if backends.len() >= MAX_BACKENDS => return Err(ChangeError::Full { pool: name }),
            _ => {}
        }
        let bounded = |weight: u16| match (1..=MAX_WEIGHT).contains(&weight) {
            true => Ok(weight),
            false => Err(ChangeError::Weight(weight)),
        };
        let weight = match change {
            PoolChange::Add { weight } => Some(weight.map(bounded).transpose()?.unwrap_or(1)),
            PoolChange::Weight { weight } => Some(bounded(weight)?),
            _ => None,
        };
        // Said where the file says otherwise.
        let enabled = pool.marks.contains_key(&address).then_some(Mark::Enabled);
        let differences = self.pools.entry(name).or_default();
        let difference = differences.entry(address).or_default();
        match change {
            PoolChange::Add { .. } => {
                *difference = Difference { present: Some(true), weight, mark: enabled, drain: None };
            }
            PoolChange::Remove => *difference = Difference { present: Some(false), ..Difference::default() },
            PoolChange::Drain { seconds } => (difference.mark, difference.drain) = (Some(Mark::Draining), seconds),
            PoolChange::Disable => difference.mark = Some(Mark::Disabled),
            PoolChange::Enable => (difference.mark, difference.drain) = (enabled, None),
            PoolChange::Weight { .. } => difference.weight = weight,
        }
        settle(pool, differences);
        if differences.is_empty() {
            self.pools.remove(&pool.name);
        }
        Ok(())
    }

    /// Nothing of one pool, or nothing at all, differs from the file.
    pub(super) fn reset(&mut self, config: &Config, pool: Option<&str>) -> Result<(), ChangeError> {
        match pool {
            None => *self = Self::default(),
            Some(name) if config.pool(name).is_none() => return Err(ChangeError::NoPool(name.into())),
            Some(name) => drop(self.pools.remove(name)),
        }
        Ok(())
    }

    /// The overlay over another file: what the file says now too, and what belongs to a pool that is gone, is dropped.
    pub fn over(&self, config: &Config) -> Self {
        let mut next = self.clone();
        next.settle(config);
        next
    }

    /// This with other rules.
    pub(super) fn having(&self, rules: RuntimeRules) -> Self {
        Self { pools: self.pools.clone(), rules: Arc::new(rules) }
    }

    fn settle(&mut self, config: &Config) {
        self.settle_rules(config);
        self.pools.retain(|name, differences| {
            let Some(pool) = config.pool(name) else { return false };
            settle(pool, differences);
            !differences.is_empty()
        });
    }
}

/// What the file says of a backend, or would of one that it has not.
fn marked(pool: &Pool, address: &SocketAddr) -> Mark {
    pool.marks.get(address).copied().unwrap_or_default()
}

/// Forget what is as in the file.
fn settle(pool: &Pool, differences: &mut BTreeMap<SocketAddr, Difference>) {
    differences.retain(|address, difference| {
        // What DNS has comes and goes; what an operator says of it stays.
        if !pool.is_fixed(address) {
            return *difference != Difference::default();
        }
        let file = pool.backends.get(address).copied();
        if difference.present == Some(file.is_some()) {
            difference.present = None;
        }
        let present = difference.present.unwrap_or(file.is_some());
        if !present || (file.is_some() && difference.weight == file) {
            difference.weight = None;
        }
        // A time of its own for a drain is no word that the file has.
        let in_file = difference.mark == Some(marked(pool, address)) && difference.drain.is_none();
        if !present || in_file {
            (difference.mark, difference.drain) = (None, None);
        }
        *difference != Difference::default()
    });
}
