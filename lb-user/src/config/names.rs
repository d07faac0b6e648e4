//! Backends that are known by name: what the config says of them, and the config with the addresses that DNS has.

use super::model::{Config, HealthCheck, MAX_BACKENDS, Pool};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::{BackendRole, UpstreamTls};
use tokio::time::Instant;

/// A name with a port, which stands for the addresses that DNS has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBackend {
    /// Lower case; with a dot at its end: no search list is tried.
    pub host: String,
    /// Of each of them.
    pub port: u16,
    /// Of each of them.
    pub weight: u16,
    /// Of each of them.
    pub role: BackendRole,
}

impl NamedBackend {
    /// As certificates have it.
    fn server_name(&self) -> String {
        self.host.trim_end_matches('.').to_owned()
    }
}

impl std::fmt::Display for NamedBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where an address of a pool comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundBy {
    /// Place in [`Pool::names`].
    pub name: usize,
    /// DNS has it no more: it drains.
    pub leaving: bool,
}

/// What DNS says, by host name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved(pub BTreeMap<String, Addresses>);

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Those that DNS has.
    pub current: BTreeSet<IpAddr>,
    /// Those that it had, and since when it has them no more.
    pub leaving: BTreeMap<IpAddr, Instant>,
}

impl Config {
    /// The names that pools have.
    pub fn hosts(&self) -> BTreeSet<&str> {
        self.pools.iter().flat_map(|pool| &pool.names).map(|named| named.host.as_str()).collect()
    }

    /// The same with the addresses that a first lookup found.
    pub fn resolved(mut self, resolved: &Resolved) -> Self {
        let now = Instant::now();
        self.pools = self.pools.iter().map(|pool| pool.with_resolved(resolved, now)).collect();
        self
    }

    /// The config with these addresses in place of those that names had before.
    pub fn with_resolved(self: &Arc<Self>, resolved: &Resolved, now: Instant) -> Arc<Self> {
        if self.pools.iter().all(|pool| pool.names.is_empty()) {
            return Arc::clone(self);
        }
        let pools: Vec<Pool> = self.pools.iter().map(|pool| pool.with_resolved(resolved, now)).collect();
        if pools == self.pools {
            return Arc::clone(self);
        }
        let mut config = Config::clone(self);
        config.pools = pools;
        Arc::new(config)
    }
}

impl Pool {
    /// Whether the file says by itself that there is this backend, or that there is none.
    pub fn is_fixed(&self, address: &SocketAddr) -> bool {
        self.names.is_empty() || (self.backends.contains_key(address) && !self.found.contains_key(address))
    }

    /// The name that an address was found by.
    pub fn name_of(&self, address: &SocketAddr) -> Option<&NamedBackend> {
        self.names.get(self.found.get(address)?.name)
    }

    /// Whether an address is one that DNS has no more.
    pub fn is_leaving(&self, address: &SocketAddr) -> bool {
        self.found.get(address).is_some_and(|found| found.leaving)
    }

    /// What the certificate of a backend is verified against, where that is the name that it was found by.
    pub fn server_name(&self, address: &SocketAddr) -> Option<String> {
        let tls = self.tls.as_ref().filter(|tls| tls.server_name.is_none() && tls.sni.is_none());
        tls.and_then(|_| self.name_of(address)).map(NamedBackend::server_name)
    }

    /// The check of a backend: with TLS that says no name, it verifies the one that the backend was found by.
    pub fn check_of(&self, address: &SocketAddr) -> Option<Arc<HealthCheck>> {
        let check = self.health.as_ref()?;
        let nameless = check.tls.as_ref().filter(|tls| tls.server_name.is_none() && tls.sni.is_none());
        let (Some(tls), Some(named)) = (nameless, self.name_of(address)) else { return Some(Arc::clone(check)) };
        let tls = UpstreamTls { server_name: Some(named.server_name()), ..tls.clone() };
        Some(Arc::new(HealthCheck { tls: Some(tls), ..HealthCheck::clone(check) }))
    }

    fn with_resolved(&self, resolved: &Resolved, now: Instant) -> Self {
        let mut pool = self.clone();
        for address in std::mem::take(&mut pool.found).keys() {
            pool.backends.remove(address);
            pool.roles.remove(address);
        }
        // Those that DNS has go first; those that leave take what room there is.
        let mut add = |place: usize, ip: IpAddr, leaving: bool| {
            let named = &self.names[place];
            let address = SocketAddr::new(ip, named.port);
            if pool.backends.len() >= MAX_BACKENDS || pool.backends.contains_key(&address) {
                return;
            }
            pool.backends.insert(address, named.weight);
            if named.role != BackendRole::default() {
                pool.roles.insert(address, named.role);
            }
            pool.found.insert(address, FoundBy { name: place, leaving });
        };
        let of = |named: &NamedBackend| resolved.0.get(&named.host);
        for (place, addresses) in self.names.iter().enumerate().filter_map(|(place, named)| Some((place, of(named)?))) {
            addresses.current.iter().for_each(|ip| add(place, *ip, false));
        }
        for (place, addresses) in self.names.iter().enumerate().filter_map(|(place, named)| Some((place, of(named)?))) {
            let stays = |since: Instant| now.saturating_duration_since(since) < self.drain_timeout;
            addresses.leaving.iter().filter(|(_, since)| stays(**since)).for_each(|(ip, _)| add(place, *ip, true));
        }
        pool
    }
}

impl Resolved {
    /// What a lookup said. True: something is other than before.
    pub fn hear(&mut self, host: &str, current: BTreeSet<IpAddr>, now: Instant) -> bool {
        let addresses = self.0.entry(host.to_owned()).or_default();
        if addresses.current == current {
            return false;
        }
        addresses.leaving.retain(|ip, _| !current.contains(ip));
        let gone = addresses.current.difference(&current).map(|ip| (*ip, now));
        addresses.leaving.extend(gone);
        addresses.current = current;
        true
    }

    /// Forget names that nobody has any more, and what has left. True: somebody has left.
    pub fn forget(&mut self, config: &Config, now: Instant) -> bool {
        let hosts = config.hosts();
        self.0.retain(|host, _| hosts.contains(host.as_str()));
        let mut left = false;
        for (host, addresses) in &mut self.0 {
            let pools = config.pools.iter().filter(|pool| pool.names.iter().any(|named| named.host == *host));
            let longest = pools.map(|pool| pool.drain_timeout).max().unwrap_or(Duration::ZERO);
            addresses.leaving.retain(|_, since| {
                let stays = now.saturating_duration_since(*since) < longest;
                left |= !stays;
                stays
            });
        }
        left
    }
}
