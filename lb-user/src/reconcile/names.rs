//! What DNS says about backends: the config in force has the addresses of names in it, so that everything else sees
//! plain addresses.

use super::{Reconciler, Refusal};
use crate::config::{Config, Resolved};
use crate::datapath::Datapath;
use crate::names::{self, Notes, Store, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the reconciler keeps for the agent of names, and from it.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) resolved: Resolved,
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) notes: Notes,
}

/// What was found of each name, or why nothing was.
type Found = BTreeMap<String, Result<BTreeSet<IpAddr>, String>>;

/// Where the addresses of names are kept.
fn name_store(config: &Config) -> Option<Store> {
    config.edge.state.as_deref().map(|state: &Path| Store::new(state))
}

/// Look up the names of a config that `known` does not know.
async fn look_up(config: &Config, known: &Resolved) -> Found {
    let new = config.hosts().into_iter().filter(|host| !known.0.contains_key(*host)).map(str::to_owned).collect();
    names::first(names::Dns::new(&config.dns), &config.dns, new, name_store(config)).await
}

impl Resolved {
    /// Those of a first lookup.
    pub(crate) async fn first(config: &Config) -> Self {
        let mut resolved = Self::default();
        for (host, found) in look_up(config, &Self::default()).await {
            match found {
                Ok(addresses) => drop(resolved.hear(&host, addresses, Instant::now())),
                Err(why) => tracing::warn!(host, why, "name not looked up; it has no backend until it is"),
            }
        }
        resolved
    }
}

impl<D: Datapath> Reconciler<D> {
    /// The same, with what a first lookup found; the config that it was started with has that already.
    pub fn with_names(mut self, resolved: Resolved) -> Self {
        self.names_of_backends.resolved = resolved;
        self.retarget_names();
        self
    }

    /// What is to be looked up.
    pub fn wanted_names(&self) -> watch::Receiver<Wanted> {
        self.names_of_backends.wanted.subscribe()
    }

    /// What is known of names; the agent writes it.
    pub fn name_notes(&self) -> Notes {
        self.names_of_backends.notes.clone()
    }

    /// Where their addresses are kept; it holds for the life of the process.
    pub fn name_store(&self) -> Option<Store> {
        name_store(&self.config)
    }

    /// Look up the names that are new with this config. One of which a pool has nothing else is not taken without an address.
    pub(super) async fn resolve_new(&mut self, config: &Config) -> Result<(), Refusal> {
        let found = look_up(config, &self.names_of_backends.resolved).await;
        let mut known = self.names_of_backends.resolved.clone();
        for (host, found) in &found {
            if let Ok(addresses) = found {
                known.hear(host, addresses.clone(), Instant::now());
            }
        }
        let has = |host: &String| known.0.get(host).is_some_and(|addresses| !addresses.current.is_empty());
        for pool in config.pools.iter().filter(|pool| pool.backends.len() == pool.found.len()) {
            let hosts = || pool.names.iter().map(|named| &named.host);
            if hosts().any(has) {
                continue;
            }
            if let Some((host, why)) = hosts().find_map(|host| Some((host, found.get(host)?.as_ref().err()?))) {
                let (pool, host, why) = (pool.name.clone(), host.clone(), why.clone());
                return Err(Refusal::Unresolved { pool, host, why });
            }
        }
        self.names_of_backends.resolved = known;
        Ok(())
    }

    /// DNS says otherwise than before.
    pub(super) async fn resolved(&mut self, host: String, addresses: BTreeSet<IpAddr>) {
        let before = self.names_of_backends.resolved.clone();
        if !self.config.hosts().contains(host.as_str())
            || !self.names_of_backends.resolved.hear(&host, addresses.clone(), Instant::now())
        {
            return;
        }
        tracing::info!(host, ?addresses, "addresses of a name");
        self.behind = false;
        match self.adopt(Arc::clone(&self.config), self.overlay.clone()).await {
            Ok(_) => {}
            // What cannot be served would keep everything else from changing, too.
            Err(Refusal::Plan(error)) => {
                tracing::error!(host, %error, "addresses of a name not taken; those that it had serve on");
                self.names_of_backends.resolved = before;
            }
            Err(error) => {
                tracing::warn!(host, %error, "not carried out yet; it is tried again when the worker answers");
                self.behind = true;
            }
        }
    }

    /// This config with the addresses that DNS has.
    pub(super) fn with_addresses(&self, config: &Arc<Config>) -> Arc<Config> {
        config.with_resolved(&self.names_of_backends.resolved, Instant::now())
    }

    /// Let go of addresses that have drained.
    pub(super) async fn let_leave(&mut self) {
        if self.names_of_backends.resolved.forget(&self.config, Instant::now()) {
            self.catch_up().await;
        }
    }

    /// Have the agent look up what there is.
    pub(super) fn retarget_names(&mut self) {
        let names = &mut self.names_of_backends;
        names.resolved.forget(&self.config, Instant::now());
        for host in self.config.hosts() {
            names.resolved.0.entry(host.to_owned()).or_default();
        }
        let known = |host: &str| names.resolved.0.get(host).map(|addresses| addresses.current.clone());
        let hosts = self.config.hosts().into_iter();
        let hosts = hosts.map(|host| (host.to_owned(), known(host).unwrap_or_default())).collect();
        let wanted = Wanted { rules: self.config.dns.clone(), hosts };
        names.wanted.send_if_modified(|before| {
            let other = !before.asks_like(&wanted);
            *before = wanted;
            other
        });
    }
}
