//! From what is wanted and what is there to what must be done. Pure: no I/O, no clock, nothing left for the
//! executor to decide.

use super::agents::{self, Agents};
use super::overlay::{Mark, Overlay};
use super::prefixes::RuleSources;
use crate::config::{self, Config, Conflict};
use crate::datapath::{Desired, DesiredForward, DesiredService, ForwardBackend};
use crate::ocsp::staple::fingerprint;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tls_worker::api::{self, BackendState, Snapshot};

/// What the checks say, by pool and address; none: no check is done yet.
pub type Health = BTreeMap<(String, SocketAddr), bool>;

/// Service ids by name. A service that is gone keeps its id, so that its counters stay its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ServiceIds(BTreeMap<String, u32>);

impl ServiceIds {
    /// The id of a service, also of one that is gone.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    #[cfg(test)]
    pub(crate) fn of(list: &[(&str, u32)]) -> Self {
        Self(list.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect())
    }

    /// The service of an id.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.0.iter().find(|(_, i)| **i == id).map(|(name, _)| name.as_str())
    }

    /// Ids for these services: known ones keep theirs, new ones get the lowest that nobody ever had. Only when the
    /// bound is reached, the id of a service that is gone is given again.
    fn with<'a>(&self, names: impl Iterator<Item = &'a str> + Clone, bound: u32) -> Result<Self, PlanError> {
        let mut ids = self.clone();
        for name in names.clone() {
            if ids.0.contains_key(name) {
                continue;
            }
            let taken: std::collections::BTreeSet<u32> = ids.0.values().copied().collect();
            let free = (1..=bound).find(|id| !taken.contains(id));
            let id = match free {
                Some(id) => id,
                None => {
                    let gone = ids.0.keys().find(|old| !names.clone().any(|name| name == *old)).cloned();
                    let gone = gone.ok_or(PlanError::TooManyServices { bound })?;
                    ids.0.remove(&gone).ok_or(PlanError::TooManyServices { bound })?
                }
            };
            ids.0.insert(name.to_owned(), id);
        }
        Ok(ids)
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// The file.
    pub config: &'a Config,
    /// What operators changed.
    pub overlay: &'a Overlay,
    /// What the checks say.
    pub health: &'a Health,
    /// What the agents of certificates brought.
    pub agents: &'a Agents,
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// The last generation that was used, whether it was taken or not.
    pub generation: u64,
    /// What the worker serves by.
    pub snapshot: Option<Arc<Snapshot>>,
    /// What the datapath was told.
    pub datapath: Option<Desired>,
    /// What its rules were made from.
    pub rules: RuleSources,
    /// Ids in use.
    pub ids: ServiceIds,
}

/// What must be done, in this order. Nothing set: all is as it should be.
///
/// The worker goes first: until the datapath follows, nobody reaches a new service, and what is sent to a service
/// that goes is refused a moment earlier. The other way round, a connection could reach a worker that does not know
/// its service.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// For the worker, under the next generation.
    pub snapshot: Option<Snapshot>,
    /// For the datapath.
    pub datapath: Option<Desired>,
    /// What its rules are made from.
    pub rules: RuleSources,
    /// Ids after it.
    pub ids: ServiceIds,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The kernel's tables are full.
    #[error("more than {bound} services; raise max_services under [edge] and restart")]
    TooManyServices {
        /// `max_services`.
        bound: u32,
    },
    /// A backend that a forwarded service cannot have.
    #[error("{}; {}", .0.why, .0.help)]
    Conflict(Conflict),
    /// What places flows in a ring is fixed.
    #[error(
        "`{key}` of service {service:?} is fixed while the service stands, as with another every flow would move; leave it, or remove the service, reload, and add it again"
    )]
    Places {
        /// Service.
        service: String,
        /// Key of the config.
        key: &'static str,
    },
}

/// What to do.
pub fn plan(intent: Intent<'_>, observed: &Observed) -> Result<Plan, PlanError> {
    let config = intent.config;
    let ids = observed.ids.with(config.service_names(), config.edge.max_services)?;
    possible(intent, observed)?;
    let current = observed.snapshot.as_ref().map_or(0, |s| s.generation);
    let wanted = build_snapshot(intent, current);
    let snapshot = (observed.snapshot.as_deref() != Some(&wanted))
        .then(|| Snapshot { generation: observed.generation.max(current) + 1, ..wanted });
    let rules = RuleSources {
        file: Arc::clone(&config.prefixes),
        runtime: Arc::clone(&intent.overlay.rules),
        ids: ids.clone(),
    };
    // There may be a million: they are made again only when something about them changed.
    let prefixes = match &observed.datapath {
        Some(desired) if observed.rules == rules => Arc::clone(&desired.prefixes),
        _ => Arc::new(rules.rules()),
    };
    let desired = Desired {
        services: services(config, &ids),
        forwards: forwards(intent, &ids),
        limits: config.limits.iter().filter_map(|(name, limits)| Some((ids.id(name)?, *limits))).collect(),
        prefixes,
    };
    let datapath = (observed.datapath.as_ref() != Some(&desired)).then_some(desired);
    Ok(Plan { snapshot, datapath, rules, ids })
}

/// What forwarded services cannot be: the file alone cannot tell, for operators change pools.
fn possible(intent: Intent<'_>, observed: &Observed) -> Result<(), PlanError> {
    let config = intent.config;
    if config.forwards.is_empty() {
        return Ok(());
    }
    let standing = observed.datapath.iter().flat_map(|desired| &desired.forwards);
    for old in standing {
        let new = config.forwards.iter().find(|new| new.name == old.name);
        let key = match new {
            Some(new) if new.slots != old.slots => "table_size",
            Some(new) if new.hash != old.hash => "hash",
            _ => continue,
        };
        return Err(PlanError::Places { service: old.name.clone(), key });
    }
    let backends = |pool: usize| match config.pools.get(pool) {
        Some(pool) => intent.overlay.effective(pool).into_iter().map(|backend| backend.address).collect(),
        None => Vec::new(),
    };
    config::conflicts(config, backends).into_iter().next().map_or(Ok(()), |conflict| Err(PlanError::Conflict(conflict)))
}

/// Everything that the worker serves by.
pub fn build_snapshot(intent: Intent<'_>, generation: u64) -> Snapshot {
    let Intent { config, overlay, health, agents } = intent;
    let routed: std::collections::BTreeSet<usize> = config.routed_pools().collect();
    let pools = config.pools.iter().enumerate().map(|(index, pool)| api::Pool {
        name: pool.name.clone(),
        balance: pool.balance,
        // A pool that no route leads to keeps its index; who is in it is nothing to the worker.
        backends: overlay
            .effective(pool)
            .into_iter()
            .filter(|_| routed.contains(&index))
            .map(|backend| api::Backend {
                address: backend.address,
                weight: backend.weight,
                state: state(backend.mark, health.get(&(pool.name.clone(), backend.address)).copied()),
                role: pool.roles.get(&backend.address).copied().unwrap_or_default(),
                server_name: pool.server_name(&backend.address),
                drain_timeout: backend.drain,
            })
            .collect(),
        tls: pool.tls.clone(),
        timeouts: pool.timeouts,
        max_idle_per_thread: pool.max_idle,
        proxy_version: pool.proxy_version,
        balancing: pool.balancing.clone(),
        limits: pool.limits,
        multiplex: pool.multiplex,
        retry: pool.retry.clone(),
        retry_budget: pool.retry_budget,
        hedge: pool.hedge,
        outliers: pool.outliers,
        persistence: pool.persistence.clone(),
        drain_timeout: Some(pool.drain_timeout),
    });
    Snapshot {
        generation,
        services: config.services.clone(),
        pools: pools.collect(),
        certificates: config.certificates.iter().map(|one| stapled(one, agents)).collect(),
        tickets: api::TicketKeys {
            keys: agents::tickets(config, agents).to_vec(),
            lifetime_seconds: u32::try_from(config.tls.ticket_lifetime.as_secs()).unwrap_or(u32::MAX),
        },
        handshakes: config.tls.handshakes,
        max_connections_per_thread: config.edge.max_connections.div_ceil(config.edge.cpus.len().max(1) as u32),
        authorizers: config.authorizers.clone(),
        access_logs: config.access_logs.iter().map(|log| log.log.clone()).collect(),
    }
}

fn stapled(one: &config::Certificate, agents: &Agents) -> api::Certificate {
    let known = || agents.staples.get(&fingerprint(&one.certificate));
    let staple = one.stapling.then(known).flatten().and_then(|staple| staple.response.clone());
    api::Certificate { staple, ..one.certificate.clone() }
}

/// Whether a backend may be chosen. What the operator says goes before what the checks say.
pub fn state(mark: Mark, up: Option<bool>) -> BackendState {
    match (mark, up) {
        (Mark::Disabled, _) => BackendState::Disabled,
        (Mark::Draining, _) => BackendState::Draining,
        (Mark::Enabled, Some(false)) => BackendState::Down,
        (Mark::Enabled, _) => BackendState::Up,
    }
}

fn services(config: &Config, ids: &ServiceIds) -> Vec<DesiredService> {
    let service = |service: &api::Service| {
        let id = ids.id(&service.name)?;
        Some(DesiredService { id, name: service.name.clone(), addresses: service.addresses.clone() })
    };
    let mut services: Vec<_> = config.services.iter().filter_map(service).collect();
    services.sort_by_key(|service| service.id);
    services
}

fn forwards(intent: Intent<'_>, ids: &ServiceIds) -> Vec<DesiredForward> {
    let forward = |forward: &config::Forward| {
        let pool = intent.config.pools.get(forward.pool)?;
        let backend = |backend: super::overlay::Effective| ForwardBackend {
            address: backend.address,
            weight: backend.weight,
            state: state(backend.mark, intent.health.get(&(pool.name.clone(), backend.address)).copied()),
        };
        Some(DesiredForward {
            id: ids.id(&forward.name)?,
            name: forward.name.clone(),
            addresses: forward.addresses.clone(),
            protocols: forward.protocols.clone(),
            mode: forward.mode,
            hash: forward.hash,
            slots: forward.slots,
            drain: forward.drain,
            udp_idle: forward.udp_idle,
            outer_mtu: forward.outer_mtu,
            backends: intent.overlay.effective(pool).into_iter().map(backend).collect(),
        })
    };
    let mut forwards: Vec<_> = intent.config.forwards.iter().filter_map(forward).collect();
    forwards.sort_by_key(|forward| forward.id);
    forwards
}
