//! Verbs that ask the daemon.

use super::args::{At, PoolVerb, ServiceVerb, Verb};
use super::table;
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use crate::reconcile::PoolChange;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at a backend that drains.
const LOOK: Duration = Duration::from_millis(200);

/// Ask, print, and say how it went.
pub(super) fn ask(verb: Verb, socket: &Path, json: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bailey: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let out = Out { json };
    match runtime.block_on(carry_out(verb, &Client::new(socket), &out)) {
        Ok(code) => code,
        Err(error) => {
            out.refused(&error);
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(verb: Verb, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
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
        Verb::Flow { source, destination } => {
            let view: FlowView = client.post("/v1/flow", &FlowRequest { source, destination }).await?;
            out.show(&view, table::flow);
            if view.service.is_none() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Reload => {
            let reloaded: Reloaded = client.post("/v1/reload", &()).await?;
            out.show(&reloaded, |reloaded| {
                let warnings = reloaded.warnings.iter().map(|warning| format!("{warning}\n"));
                warnings.chain([format!("reloaded, generation {}\n", reloaded.generation)]).collect()
            });
        }
        // These read the config file themselves, or nothing.
        Verb::Run { .. } | Verb::Check { .. } | Verb::Completions { .. } => {}
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
        PoolVerb::Drain { at, wait: true, timeout } => return drain(&at, timeout, client, out).await,
        PoolVerb::Add { at, weight } => (at, PoolChange::Add { weight }, "added"),
        PoolVerb::Remove { at } => (at, PoolChange::Remove, "removed"),
        PoolVerb::Drain { at, .. } => (at, PoolChange::Drain, "draining"),
        PoolVerb::Enable { at } => (at, PoolChange::Enable, "enabled"),
        PoolVerb::Disable { at } => (at, PoolChange::Disable, "disabled"),
        PoolVerb::Weight { at, weight } => (at, PoolChange::Weight { weight }, "weighted"),
    };
    let changed = apply(&at, change, client).await?;
    out.show(&changed, |changed| format!("{} {}: {done}, generation {}\n", at.pool, at.address, changed.generation));
    Ok(ExitCode::SUCCESS)
}

async fn apply(at: &At, change: PoolChange, client: &Client) -> Result<Changed, ClientError> {
    client.post(&format!("/v1/pools/{}", at.pool), &PoolRequest { address: at.address, change }).await
}

/// Drain, and wait until nothing is in flight.
async fn drain(at: &At, timeout: Duration, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    let deadline = Instant::now() + timeout;
    let changed = apply(at, PoolChange::Drain, client).await?;
    loop {
        let view: PoolView = client.get(&format!("/v1/pools/{}", at.pool)).await?;
        let backend = view.backends.iter().find(|backend| backend.address == at.address);
        let active = backend.map_or(0, |backend| backend.active);
        if active == 0 {
            out.show(&changed, |c| format!("{} {}: drained, generation {}\n", at.pool, at.address, c.generation));
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= deadline {
            return Err(ClientError::Refused(Failure {
                error: format!("{active} requests to {} are still in flight after {timeout:?}", at.address),
                hint: Some("it stays draining; wait longer (--timeout), or take it out: bailey pool disable".into()),
                problems: Vec::new(),
            }));
        }
        sleep(LOOK).await;
    }
}

/// Prints for people or for programs.
struct Out {
    json: bool,
}

impl Out {
    fn show<T: Serialize>(&self, value: &T, words: impl FnOnce(&T) -> String) {
        if self.json {
            println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
        } else {
            print!("{}", words(value));
        }
    }

    fn refused(&self, error: &ClientError) {
        if self.json {
            let problems = match error {
                ClientError::Refused(failure) => failure.problems.clone(),
                _ => Vec::new(),
            };
            let failure = Failure { error: error.to_string(), hint: error.hint(), problems };
            println!("{}", serde_json::to_string_pretty(&failure).unwrap_or_default());
            return;
        }
        eprintln!("bailey: {error}");
        if let Some(hint) = error.hint() {
            eprintln!("  {hint}");
        }
    }
}
