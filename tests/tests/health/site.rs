//! What these tests have in common: pools that are checked, and what is said of their backends.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use lb_tests::wait::{PATIENCE, wait_ok};
use serde_json::Value;

/// A pool of one backend, and what is to become of its check.
pub(crate) struct Case {
    pub(crate) pool: &'static str,
    pub(crate) backend: SocketAddr,
    /// Keys of the pool besides, and those of `health`.
    pub(crate) keys: String,
    pub(crate) health: String,
    pub(crate) up: bool,
    /// In the cause.
    pub(crate) says: &'static str,
}

impl Case {
    pub(crate) fn new(pool: &'static str, backend: SocketAddr, health: &str, up: bool, says: &'static str) -> Self {
        Self { pool, backend, keys: String::new(), health: health.into(), up, says }
    }

    pub(crate) fn keys(self, keys: &str) -> Self {
        Self { keys: keys.into(), ..self }
    }

    fn text(&self) -> String {
        let Case { pool, backend, keys, health, .. } = self;
        format!(
            "[pool.{pool}]\nbackends = [\"{backend}\"]\n{keys}\n[pool.{pool}.health]\ninterval = \"200ms\"\n{health}\n"
        )
    }
}

/// An edge that checks all these, and a service that leads to the first.
pub(crate) fn edge(here: &Here, cases: &[Case]) -> Result<Edge<'static>> {
    let pool = cases.first().context("no pool")?.pool;
    let service = format!("[service.web]\naddresses = [\"{}\"]\nmode = \"http\"\npool = \"{pool}\"\n", free_address()?);
    here.start(&(here.head("") + &service + &cases.iter().map(Case::text).collect::<String>()))
}

/// What is said of the backends of a pool.
pub(crate) fn backends(edge: &Edge<'_>, pool: &str) -> Result<Vec<Value>> {
    Ok(edge.json(&["pool", "show", pool])?["backends"].as_array().cloned().unwrap_or_default())
}

/// Wait until every check has come to what it should.
pub(crate) fn as_expected(edge: &Edge<'_>, cases: &[Case]) -> Result<()> {
    for case in cases {
        wait_ok(&format!("pool {}", case.pool), PATIENCE, || {
            let shown = backends(edge, case.pool)?;
            let one = shown.first().context("no backend")?;
            let word = if case.up { "up" } else { "down" };
            ensure!(
                one["health"] == word && one["cause"].as_str().is_some_and(|cause| cause.contains(case.says)),
                "{one}"
            );
            Ok(())
        })?;
    }
    Ok(())
}
