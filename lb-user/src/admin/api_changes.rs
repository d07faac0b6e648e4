//! JSON of changes that operators make.

pub use crate::reconcile::words::Row;
pub use crate::reconcile::{Change, OnlyIf, PrefixChange};
use crate::reconcile::{Mark, PoolChange};
pub use crate::state::Who;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Changes of a history, where no limit is asked for.
pub const HISTORY_LISTED: usize = 20;

/// A change of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolRequest {
    /// Backend.
    pub address: SocketAddr,
    /// What.
    #[serde(flatten)]
    pub change: PoolChange,
    /// Only if nobody has changed anything since.
    #[serde(flatten)]
    pub only_if: OnlyIf,
}

/// A change of what is denied and allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleRequest {
    /// What.
    #[serde(flatten)]
    pub change: PrefixChange,
    /// Only if nobody has changed anything since.
    #[serde(flatten)]
    pub only_if: OnlyIf,
}

/// Several changes: all of them are made, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangesRequest {
    /// In this order.
    pub changes: Vec<Change>,
    /// Only if nobody has changed anything since.
    #[serde(flatten)]
    pub only_if: OnlyIf,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A change was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// Generation in force.
    pub generation: u64,
    /// In the history; none: nothing differs from before.
    #[serde(default)]
    pub number: Option<u64>,
    /// Where it is kept over a restart; none: it holds until the daemon ends.
    #[serde(default)]
    pub kept: Option<String>,
    /// What was done, or would be, for people.
    #[serde(default)]
    pub steps: Vec<String>,
}

/// Changes, the last first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    /// Number of the last one; 0: there was none.
    pub last: u64,
    /// Where they are kept over a restart.
    pub kept: Option<String>,
    /// All that there are.
    pub total: usize,
    /// Some of them.
    pub changes: Vec<HistoryRow>,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// For `rollback`.
    pub number: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// By whom.
    pub who: Who,
    /// In the words of the command line.
    pub what: Vec<String>,
    /// Generation that it became.
    pub generation: u64,
}

/// What differs from the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffView {
    /// The config file.
    pub file: String,
    /// SHA-256 of the text that is in force.
    pub digest: String,
    /// Where changes are kept over a restart.
    pub kept: Option<String>,
    /// For people.
    pub rows: Vec<Row>,
    /// Backends that differ.
    pub backends: Vec<BackendDifference>,
    /// Rules of run time.
    pub rules: Vec<RuleDifference>,
}

/// A backend that differs from the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendDifference {
    /// Pool.
    pub pool: String,
    /// Where.
    pub address: SocketAddr,
    /// Whether the file has it.
    pub in_file: bool,
    /// As it is; none: removed.
    pub now: Option<BackendNow>,
}

/// A backend as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BackendNow {
    /// 1 to 256.
    pub weight: u16,
    /// What the operator says.
    pub mark: Mark,
}

/// A rule of run time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleDifference {
    /// None: every service.
    pub service: Option<String>,
    /// Network.
    pub network: IpNet,
    /// Allowed, not denied.
    pub allow: bool,
    /// It runs out.
    pub for_a_time: bool,
    /// What the file says of it: allowed, or not.
    pub in_file: Option<bool>,
}
