//! Events, answered one by one.

use super::changes::Change;
use super::{Event, FlowWay, Reconciler, Refusal, State, Watch};
use crate::datapath::{Counters, Datapath};
use std::sync::Arc;

/// Parts of a transaction that its line in the log has.
const LOGGED: usize = 8;

impl<D: Datapath> Reconciler<D> {
    pub(super) async fn serve(&mut self, event: Event) {
        let Some(event) = self.while_handing(event).await else { return };
        match event {
            Event::Query { counters, reply } => {
                let _ = reply.send(self.state(counters).await);
            }
            Event::Change { asked, reply } => {
                let (who, dry_run) = (asked.who.to_string(), asked.dry_run);
                let what: Vec<String> = asked.changes.iter().take(LOGGED).map(Change::words).collect();
                let of = asked.changes.len();
                let result = self.change(asked).await;
                match &result {
                    Ok(_) if dry_run => {}
                    Ok(done) => {
                        self.changes.0 += 1;
                        tracing::info!(who, ?what, of, generation = done.generation, number = done.number, "changed");
                    }
                    Err(error) => {
                        self.changes.1 += u64::from(!dry_run);
                        tracing::warn!(who, ?what, of, %error, "change refused");
                    }
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
            Event::Reload { who, only_if, reply } => {
                let (before, config) = (self.generation(), Arc::clone(&self.config));
                let result = self.reload(only_if).await;
                match &result {
                    Ok(reloaded) => {
                        self.reloads.0 += 1;
                        tracing::info!(%who, generation = reloaded.generation, "config reloaded");
                        if config.origin.text != self.config.origin.text {
                            self.note_change(who, vec!["reload".into()]).await;
                        }
                        if reloaded.generation != before || config.origin.text != self.config.origin.text {
                            self.was_said(before);
                        }
                    }
                    Err(error) => {
                        self.reloads.1 += 1;
                        tracing::error!(%who, %error, "reload refused; the last config stays in force");
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
                let _ = reply.send(self.hand_over().await);
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
            history: self.book.history().clone(),
            book: self.book.notes(),
            changes: self.changes,
            aside: self.aside.clone(),
            names: self.names_of_backends.notes.read(),
        }
    }
}
