//! Verbs that ask the daemon.

use super::args::{At, CertVerb, DenyVerb, PoolVerb, ServiceVerb, Verb};
use super::{again, changes, drain, live, say, screen, sessions, table, table_certificates, table_forward, top, trace};
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use crate::reconcile::{PoolChange, UpgradeRequest, Upgraded};
use serde::Serialize;
use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Ask, print, and say how it went.
pub(super) fn ask(verb: Verb, socket: &Path, json: bool, watch: Option<Duration>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say::fail(format!("cannot start: {error}"), None, json),
    };
    let client = Client::new(socket);
    if let Some(every) = watch {
        return runtime.block_on(again::again(&verb, every, &client, &Out::again(json, again::title(every))));
    }
    let out = Out::new(json);
    let goes_on = matches!(
        verb,
        Verb::Watch { .. } | Verb::Top(_) | Verb::Trace(_) | Verb::Pool(PoolVerb::Drain { wait: true, .. })
    );
    let work = carry_out(verb, &client, &out);
    let done = runtime.block_on(async { if goes_on { work.await } else { say::patiently(work).await } });
    done.unwrap_or_else(|error| out.refused(&error))
}

pub(super) async fn carry_out(verb: Verb, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    match verb {
        Verb::Status => {
            let status: Status = client.get("/v1/status").await?;
            out.show(&status, table::status);
            if !status.healthy {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Service(ServiceVerb::List) => {
            out.show(&client.get::<Vec<ServiceRow>>("/v1/services").await?, |rows| table::services(rows));
        }
        Verb::Service(ServiceVerb::Show { name }) => {
            out.show(&client.get::<ServiceView>(&format!("/v1/services/{name}")).await?, table::service);
        }
        Verb::Pool(verb) => return pool(verb, client, out).await,
        Verb::Session(verb) => sessions::session(verb, client, out).await?,
        Verb::Cert(verb) => return cert(verb, client, out).await,
        Verb::Flow { source, destination } => {
            let request = FlowRequest { protocol: destination.protocol, source, destination: destination.address };
            let view: FlowView = client.post("/v1/flow", &request).await?;
            out.show(&view, table_forward::flow);
            if view.service.is_none() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Deny(verb) => deny(verb, client, out).await?,
        Verb::Watch { service, verdict, count } => {
            return live::watch(&WatchRequest { service, verdict }, count, client, out).await;
        }
        Verb::Top(args) => return top::top(&args, client, out).await,
        Verb::Trace(args) => return trace::trace(args, client, out).await,
        Verb::Change(verb) => return changes::change(verb, client, out).await,
        Verb::Reload { unless } => {
            let reloaded: Reloaded = client.post("/v1/reload", &unless.only_if()).await?;
            out.show(&reloaded, |reloaded| {
                let warnings = reloaded.warnings.iter().map(|warning| format!("{warning}\n"));
                warnings.chain([format!("reloaded, generation {}\n", reloaded.generation)]).collect()
            });
        }
        Verb::Upgrade { binary, timeout } => {
            // The daemon's directory is another one.
            let binary = binary.map(|path| std::path::absolute(&path).unwrap_or(path));
            let upgraded: Upgraded = client.post("/v1/upgrade", &UpgradeRequest { binary, timeout }).await?;
            out.show(&upgraded, |new| {
                format!("process {} of release {} serves, generation {}\n", new.pid, new.release, new.generation)
            });
        }
        // These read the config file themselves, or nothing.
        Verb::Run { .. }
        | Verb::Check { .. }
        | Verb::Route(_)
        | Verb::Decap { .. }
        | Verb::Completions { .. }
        | Verb::Man { .. }
        | Verb::Doctor { .. }
        | Verb::Import(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn pool(verb: PoolVerb, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    let (at, change, done) = match verb {
        PoolVerb::List => {
            out.show(&client.get::<Vec<PoolRow>>("/v1/pools").await?, |rows| table::pools(rows));
            return Ok(ExitCode::SUCCESS);
        }
        PoolVerb::Show { name } => {
            out.show(&client.get::<PoolView>(&format!("/v1/pools/{name}")).await?, table::pool);
            return Ok(ExitCode::SUCCESS);
        }
        PoolVerb::Drain { at, wait: true, timeout } => return drain::drain(&at, timeout, client, out).await,
        verb => match changes::pool(verb) {
            Some(change) => change,
            None => return Ok(ExitCode::SUCCESS),
        },
    };
    let changed = apply(&at, change, client).await?;
    out.show(&changed, |changed| changes::made(&format!("{} {}: {done}", at.pool, at.address), changed));
    Ok(ExitCode::SUCCESS)
}

async fn cert(verb: CertVerb, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    match verb {
        CertVerb::List => {
            let rows: Vec<CertificateRow> = client.get("/v1/certificates").await?;
            out.show(&rows, |rows| table_certificates::certificates(rows));
        }
        CertVerb::Show { name } => {
            let view: CertificateView = client.get(&format!("/v1/certificates/{name}")).await?;
            out.show(&view, table_certificates::certificate);
        }
        CertVerb::Reload => {
            let reloaded: CertificatesReloaded = client.post("/v1/certificates/reload", &()).await?;
            out.show(&reloaded, table_certificates::reloaded);
            if !reloaded.stale.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        // These are about files alone.
        CertVerb::Files(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn deny(verb: DenyVerb, client: &Client, out: &Out) -> Result<(), ClientError> {
    let only_if = match &verb {
        DenyVerb::List { service } => {
            let path = service.as_ref().map_or_else(|| "/v1/rules".into(), |name| format!("/v1/rules/{name}"));
            out.show(&client.get::<Rules>(&path).await?, table_forward::rules);
            return Ok(());
        }
        DenyVerb::Add { unless, .. } | DenyVerb::Remove { unless, .. } => unless.only_if(),
    };
    let Some((change, done)) = changes::rule(verb) else { return Ok(()) };
    let changed: Changed = client.post("/v1/rules", &RuleRequest { change, only_if }).await?;
    out.show(&changed, |changed| changes::made(&done, changed));
    Ok(())
}

pub(super) async fn apply(at: &At, change: PoolChange, client: &Client) -> Result<Changed, ClientError> {
    client
        .post(
            &format!("/v1/pools/{}", at.pool),
            &PoolRequest { address: at.address, change, only_if: at.unless.only_if() },
        )
        .await
}

/// Prints for people or for programs, once or again and again.
pub(super) struct Out {
    pub(super) json: bool,
    /// Again and again, under this title.
    title: Option<String>,
    gone: Cell<bool>,
}

impl Out {
    /// Once.
    pub(super) fn new(json: bool) -> Self {
        Self { json, title: None, gone: Cell::new(false) }
    }

    /// Again and again: on a terminal each time over the last, else one after the other.
    pub(super) fn again(json: bool, title: String) -> Self {
        Self { json, title: Some(title), gone: Cell::new(false) }
    }

    pub(super) fn show<T: Serialize>(&self, value: &T, words: impl FnOnce(&T) -> String) {
        let read = match self.json {
            // One line each time, so that whoever reads knows where it ends.
            true => say::print_json(value, self.title.is_some()),
            false if self.on_screen() => return self.draw(&words(value)),
            false => say::print(&words(value)),
        };
        self.gone.set(!read);
    }

    /// Whether each time is written over the last.
    pub(super) fn on_screen(&self) -> bool {
        self.title.is_some() && !self.json && screen::is_there()
    }

    /// Over the last time.
    pub(super) fn draw(&self, text: &str) {
        let title = self.title.as_deref().unwrap_or_default();
        self.gone.set(!screen::draw(&format!("{title}{text}")));
    }

    /// Whether what was written last went nowhere.
    pub(super) fn nobody_reads(&self) -> bool {
        self.gone.get()
    }

    /// Say why not.
    pub(super) fn refused(&self, error: &ClientError) -> ExitCode {
        let problems = match error {
            ClientError::Refused(failure) => failure.problems.clone(),
            _ => Vec::new(),
        };
        say::refuse(
            &Failure { error: error.to_string(), hint: error.hint(), problems, ..Failure::default() },
            self.json,
        )
    }
}
