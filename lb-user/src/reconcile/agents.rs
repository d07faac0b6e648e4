//! What the agents of certificates bring: staples, files that changed, ticket keys.

use super::tickets::NoRandom;
use super::{Reconciler, Refusal};
use crate::config::{self, Config, Stale};
use crate::datapath::Datapath;
use crate::ocsp::staple::{Fingerprint, Staple, StapleTarget, Staples};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tls_worker::api::{self, Secret};
use tokio::time::Instant;

/// What is served beside the config.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Agents {
    /// Ticket keys made here, the one that encrypts first; for a config that names no file of them.
    pub tickets: Vec<Secret>,
    /// Staples of certificates.
    pub staples: Staples,
}

/// Files were read again.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// Generation in force.
    pub generation: u64,
    /// What is served otherwise than before, for people.
    pub changed: Vec<String>,
    /// Files that cannot be used; what they held before serves on.
    pub stale: Arc<[Stale]>,
    /// What the files are warned of.
    pub warnings: Vec<config::ProblemView>,
}

/// What the watcher of files looks at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Watched {
    /// Between two looks; none: never.
    pub every: Option<Duration>,
    /// As they were when they were read.
    pub files: Vec<config::WatchedFile>,
}

/// Certificates that want a staple.
pub(super) fn staple_targets(config: &Config) -> Vec<StapleTarget> {
    let wanting = config.certificates.iter().filter(|certificate| certificate.stapling);
    let target = |one: &config::Certificate| {
        StapleTarget::new(&one.certificate, one.issuer.as_ref(), one.responder.as_deref())
    };
    wanting.map(target).collect()
}

/// Where staples are kept.
pub(super) fn store(config: &Config) -> Option<crate::ocsp::store::Store> {
    config.edge.state.as_deref().map(crate::ocsp::store::Store::new)
}

impl<D: Datapath> Reconciler<D> {
    /// Read the files of certificates, authorities, revocation lists and ticket keys again.
    pub(super) async fn refresh(&mut self) -> Result<Refreshed, Refusal> {
        let previous = Arc::clone(&self.config);
        let read = tokio::task::spawn_blocking(move || config::refresh(&previous, SystemTime::now()));
        let config::Refreshed { config, warnings, stale } = read.await.map_err(|_| Refusal::Closing)??;
        let changed = changed(&self.config, &config);
        let generation = self.adopt(Arc::new(config), self.overlay.clone()).await?;
        self.stale = stale.into();
        Ok(Refreshed { generation, changed, stale: Arc::clone(&self.stale), warnings: warnings.views() })
    }

    /// The same, with a line in the log of what came of it.
    pub(super) async fn refresh_and_tell(&mut self) -> Result<Refreshed, Refusal> {
        let before = Arc::clone(&self.stale);
        let result = self.refresh().await;
        match &result {
            Ok(refreshed) => {
                if !refreshed.changed.is_empty() {
                    tracing::info!(generation = refreshed.generation, changed = ?refreshed.changed, "files of TLS read again");
                }
                for stale in refreshed.stale.iter().filter(|stale| !before.contains(stale)) {
                    let (kind, name) = (stale.kind.as_str(), &stale.name);
                    tracing::error!(kind, name, problem = %stale.problem, "file not used; what it held before serves on");
                }
                let good = refreshed.stale.is_empty();
                self.refreshes.0 += u64::from(good);
                self.refreshes.1 += u64::from(!good);
                self.refused_refresh = None;
            }
            Err(error) => {
                self.refreshes.1 += 1;
                tracing::error!(%error, "files of TLS not taken; what they held before serves on");
                self.refused_refresh = Some(error.to_string());
            }
        }
        result
    }

    /// A staple that was fetched, that ended, or that could not be had.
    pub(super) async fn staple(&mut self, fingerprint: Fingerprint, staple: Staple) {
        let known = staple_targets(&self.config).iter().any(|target| target.fingerprint == fingerprint);
        if !known {
            return;
        }
        self.agents.staples.insert(fingerprint, staple);
        self.catch_up().await;
    }

    /// Forget the staples of certificates that are gone, and have the others looked after.
    pub(super) fn retarget_files(&mut self) {
        let targets = staple_targets(&self.config);
        self.agents.staples.retain(|fingerprint, _| targets.iter().any(|target| target.fingerprint == *fingerprint));
        self.staple_targets.send_if_modified(|before| replace(before, targets));
        let watched = Watched { every: self.config.tls.watch, files: self.config.files.clone() };
        self.watched.send_if_modified(|before| replace(before, watched));
        let keys = tickets(&self.config, &self.agents);
        if self.observed_tickets.as_slice() != keys {
            self.observed_tickets = keys.to_vec();
            self.tickets_since = SystemTime::now();
        }
    }

    /// Turn the ticket keys over when it is time.
    pub(super) async fn turn_tickets(&mut self) {
        if self.config.tls.ticket_keys.is_some() {
            return;
        }
        match self.ticket_keys.turn(self.config.tls.ticket_lifetime, Instant::now()) {
            Ok(true) => {
                self.agents.tickets = self.ticket_keys.keys();
                tracing::info!("ticket keys turned over");
                self.catch_up().await;
            }
            Ok(false) => {}
            Err(error @ NoRandom) => tracing::error!(%error, "ticket keys stay"),
        }
    }
}

fn replace<T: PartialEq>(before: &mut T, now: T) -> bool {
    let changed = *before != now;
    *before = now;
    changed
}

/// Keys of tickets in force: the file's, or ours.
pub(super) fn tickets<'a>(config: &'a Config, agents: &'a Agents) -> &'a [Secret] {
    config.tls.ticket_keys.as_deref().unwrap_or(&agents.tickets)
}

/// What two readings of the files of one config differ in, for people.
fn changed(old: &Config, new: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    for (a, b) in old.certificates.iter().zip(&new.certificates) {
        if a.certificate != b.certificate {
            changed.push(format!("certificate {}", b.certificate.name));
        }
    }
    for (a, b) in old.services.iter().zip(&new.services) {
        if client_rules(a).ne(client_rules(b)) {
            changed.push(format!("authorities or revocation lists of service {}", b.name));
        }
    }
    for (a, b) in old.pools.iter().zip(&new.pools) {
        if a.tls != b.tls {
            changed.push(format!("TLS of pool {}", b.name));
        }
    }
    if old.tls.ticket_keys != new.tls.ticket_keys {
        changed.push("ticket keys".into());
    }
    changed
}

fn client_rules(service: &api::Service) -> impl Iterator<Item = Option<&api::ClientCertRules>> {
    service.tls.iter().flat_map(|tls| &tls.policies).map(|policy| policy.client_cert.as_ref())
}
