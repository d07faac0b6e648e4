//! Events, answered one by one.

use super::prefixes::PrefixChange;
use super::{Event, FlowWay, PoolChange, Reconciler, Refusal, State, Watch};
use crate::datapath::{Counters, Datapath};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

impl<D: Datapath> Reconciler<D> {
    pub(super) async fn serve(&mut self, event: Event) {
        let Some(event) = self.while_handing(event).await else { return };
        match event {
            Event::Query { counters, reply } => {
                let _ = reply.send(self.state(counters).await);
            }
            Event::Pool { pool, address, change, reply } => {
                let result = self.change_pool(&pool, address, change).await;
                match &result {
                    Ok(generation) => tracing::info!(pool, %address, ?change, generation, "pool changed"),
                    Err(error) => tracing::warn!(pool, %address, ?change, %error, "pool change refused"),
                }
                let _ = reply.send(result);
            }
            Event::ClearSessions { pool, which, reply } => {
                let result = self.worker.clear_sessions(pool.clone(), which).await.map_err(Refusal::from);
                match &result {
                    Ok(count) => tracing::info!(pool, count, "sessions cleared"),
                    Err(error) => tracing::warn!(pool, %error, "sessions not cleared"),
                }
                let _ = reply.send(result);
            }
            Event::Reload { reply } => {
                let result = self.reload().await;
                match &result {
                    Ok(reloaded) => {
                        self.reloads.0 += 1;
                        tracing::info!(generation = reloaded.generation, "config reloaded");
                    }
                    Err(error) => {
                        self.reloads.1 += 1;
                        tracing::error!(%error, "reload refused; the last config stays in force");
                    }
                }
                let _ = reply.send(result);
            }
            Event::Refresh { reply } => {
                let result = self.refresh_and_tell().await;
                if let Some(reply) = reply {
                    let _ = reply.send(result);
                }
            }
            Event::Resolved { host, addresses } => self.resolved(host, addresses).await,
            Event::Staple { fingerprint, staple } => self.staple(fingerprint, staple).await,
            Event::Prefix { change, reply } => {
                let result = self.change_rules(change.clone()).await;
                match &result {
                    Ok(generation) => tracing::info!(?change, generation, "rules changed"),
                    Err(error) => tracing::warn!(?change, %error, "change of rules refused"),
                }
                let _ = reply.send(result);
            }
            Event::Watch { reply } => {
                let names = self.names.subscribe();
                let _ = reply.send(self.datapath.events().map(|events| Watch { events, names }));
            }
            Event::Flow { protocol, source, destination, reply } => {
                let way = self.datapath.flow(protocol, source, destination).map(|answer| FlowWay {
                    service: answer.service.and_then(|id| self.observed.ids.name(id)).map(str::to_owned),
                    answer,
                });
                let _ = reply.send(way);
            }
            Event::Upgrade { request, reply } => self.upgrade(request, reply),
            Event::HandOver { reply } => {
                let _ = reply.send(self.hand_over());
            }
            Event::TakeBack { reply } => {
                self.take_back().await;
                let _ = reply.send(());
            }
            Event::Shutdown { .. } | Event::Leave { .. } => {}
        }
    }

    async fn state(&mut self, counters: bool) -> State {
        let mut read = Counters::default();
        if counters {
            // A worker that does not answer in time leaves its last report.
            let _ = self.worker.refresh().await;
            match self.datapath.counters() {
                Ok(counters) => read = counters,
                Err(error) => tracing::error!(%error, "counters of the datapath"),
            }
        }
        State {
            started: self.started,
            config: Arc::clone(&self.config),
            warnings: Arc::clone(&self.warnings),
            overlay: self.overlay.clone(),
            health: self.checking.notes.clone(),
            checks: self.checking.counts.clone(),
            checking: Arc::clone(&self.checking.gauges),
            generation: self.observed.snapshot.as_ref().map_or(0, |s| s.generation),
            ids: self.observed.ids.clone(),
            datapath: self.datapath.describe(),
            counters: read,
            worker: self.worker.view(),
            reloads: self.reloads,
            upgrades: self.handing.upgrades,
            tls: self.keeper.notes(),
            names: self.names_of_backends.notes.read(),
        }
    }

    async fn change_pool(&mut self, pool: &str, address: SocketAddr, change: PoolChange) -> Result<u64, Refusal> {
        let overlay = self.overlay.with(&self.config, pool, address, change)?;
        let config = Arc::clone(&self.config);
        self.adopt(config, overlay).await
    }

    async fn change_rules(&mut self, change: PrefixChange) -> Result<u64, Refusal> {
        if !self.config.edge.filters() {
            return Err(Refusal::Unfiltered);
        }
        let overlay = self.overlay.with_rule(&self.config, change, SystemTime::now())?;
        let config = Arc::clone(&self.config);
        self.adopt(config, overlay).await
    }
}
