//! What the agents of certificates bring: staples, files that changed, ticket keys.

use super::tickets::{NoRandom, RandomKeys};
use super::{Reconciler, Refusal};
use crate::config::{self, Config, Stale};
use crate::datapath::Datapath;
use crate::ocsp::Counts;
use crate::ocsp::staple::{self, Fingerprint, Staple, StapleTarget, Staples};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tls_worker::api::{self, Secret};
use tokio::sync::watch;
use tokio::time::Instant;

/// What is served beside the config.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Agents {
    /// Ticket keys made here, the one that encrypts first; for a config that names no file of them.
    pub tickets: Vec<Secret>,
    /// Staples of certificates.
    pub staples: Arc<Staples>,
}

/// What is known of certificates, files and keys beside the config.
#[derive(Debug, Clone, Default)]
pub struct TlsNotes {
    /// Files that cannot be used; what they held before is in the config.
    pub stale: Arc<[Stale]>,
    /// Why the files as a whole were not taken when they were read last.
    pub refused: Option<String>,
    /// Readings of these files that were applied, and that were not, or not in whole.
    pub refreshes: (u64, u64),
    /// Staples.
    pub staples: Arc<Staples>,
    /// When the ticket keys in force became that.
    pub tickets_since: Option<SystemTime>,
    /// Answers of responders.
    pub ocsp: Arc<Counts>,
}

/// What the reconciler keeps for the agents of certificates, and from them.
pub(super) struct Keeper {
    pub(super) agents: Agents,
    pub(super) staple_targets: watch::Sender<Vec<StapleTarget>>,
    pub(super) watched: watch::Sender<Watched>,
    pub(super) ticket_keys: RandomKeys,
    /// In force.
    tickets: Vec<Secret>,
    tickets_since: Option<SystemTime>,
    pub(super) stale: Arc<[Stale]>,
    pub(super) refused: Option<String>,
    refreshes: (u64, u64),
    ocsp: Arc<Counts>,
}

impl Keeper {
    pub(super) fn new(ticket_keys: RandomKeys, ocsp: Arc<Counts>) -> Self {
        Self {
            agents: Agents { tickets: ticket_keys.keys(), staples: Arc::default() },
            staple_targets: watch::Sender::default(),
            watched: watch::Sender::default(),
            ticket_keys,
            tickets: Vec::new(),
            tickets_since: None,
            stale: [].into(),
            refused: None,
            refreshes: (0, 0),
            ocsp,
        }
    }

    pub(super) fn notes(&self) -> TlsNotes {
        TlsNotes {
            stale: Arc::clone(&self.stale),
            refused: self.refused.clone(),
            refreshes: self.refreshes,
            staples: Arc::clone(&self.agents.staples),
            tickets_since: self.tickets_since,
            ocsp: Arc::clone(&self.ocsp),
        }
    }
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
    pub warnings: Arc<[config::ProblemView]>,
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
    let target =
        |one: &config::Certificate| StapleTarget::new(&one.certificate, one.issuer.as_ref(), one.responder.as_deref());
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
        self.keeper.stale = stale.into();
        // What expires soon, or no longer: what `bailey status` warns of is about the files as they are.
        self.warnings = warnings.views().into();
        let (stale, warnings) = (Arc::clone(&self.keeper.stale), Arc::clone(&self.warnings));
        Ok(Refreshed { generation, changed, stale, warnings })
    }

    /// The same, with a line in the log of what came of it.
    pub(super) async fn refresh_and_tell(&mut self) -> Result<Refreshed, Refusal> {
        let before = Arc::clone(&self.keeper.stale);
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
                self.keeper.refreshes.0 += u64::from(good);
                self.keeper.refreshes.1 += u64::from(!good);
                self.keeper.refused = None;
            }
            Err(error) => {
                self.keeper.refreshes.1 += 1;
                tracing::error!(%error, "files of TLS not taken; what they held before serves on");
                self.keeper.refused = Some(error.to_string());
            }
        }
        result
    }

    /// A staple that was fetched, that ended, or that could not be had.
    pub(super) async fn staple(&mut self, fingerprint: Fingerprint, staple: Staple) {
        let wanting = |one: &config::Certificate| one.stapling && staple::fingerprint(&one.certificate) == fingerprint;
        if !self.config.certificates.iter().any(wanting) {
            return;
        }
        Arc::make_mut(&mut self.keeper.agents.staples).insert(fingerprint, staple);
        self.catch_up().await;
    }

    /// Forget the staples of certificates that are gone, and have the others looked after.
    pub(super) fn retarget_files(&mut self) {
        let targets = staple_targets(&self.config);
        let keeper = &mut self.keeper;
        Arc::make_mut(&mut keeper.agents.staples)
            .retain(|fingerprint, _| targets.iter().any(|target| target.fingerprint == *fingerprint));
        keeper.staple_targets.send_if_modified(|before| replace(before, targets));
        let watched = Watched { every: self.config.tls.watch, files: self.config.files.clone() };
        keeper.watched.send_if_modified(|before| replace(before, watched));
    }

    /// Note since when the ticket keys in force are that.
    pub(super) fn note_tickets(&mut self) {
        let keeper = &mut self.keeper;
        let keys = tickets(&self.config, &keeper.agents);
        if keeper.tickets != keys {
            keeper.tickets = keys.to_vec();
            keeper.tickets_since = Some(SystemTime::now());
        }
    }

    /// Turn the ticket keys over when it is time.
    pub(super) async fn turn_tickets(&mut self) {
        if self.config.tls.ticket_keys.is_some() {
            return;
        }
        match self.keeper.ticket_keys.turn(self.config.tls.ticket_lifetime, Instant::now()) {
            Ok(true) => {
                self.keeper.agents.tickets = self.keeper.ticket_keys.keys();
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
