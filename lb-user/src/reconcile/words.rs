//! What two overlays differ in, for people. Pure.

use super::overlay::{Effective, Mark, Overlay};
use super::prefixes::RuntimeRule;
use crate::config::Config;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    /// `pool NAME`, `service NAME`, or `every service`.
    pub of: String,
    /// Backend or network.
    pub what: String,
    /// As it was; none: there was none.
    pub before: Option<String>,
    /// As it is; none: it is gone.
    pub after: Option<String>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".into());
        write!(f, "{}: {}: {} -> {}", self.of, self.what, word(&self.before), word(&self.after))
    }
}

/// From one overlay to another over the same file.
pub fn between(config: &Config, before: &Overlay, after: &Overlay) -> Vec<Row> {
    let mut rows = Vec::new();
    for pool in &config.pools {
        let of = format!("pool {}", pool.name);
        let backends = |overlay: &Overlay| -> BTreeMap<SocketAddr, Effective> {
            overlay.effective(pool).into_iter().map(|backend| (backend.address, backend)).collect()
        };
        let word = |backend: &Effective| backend_words(backend);
        rows.extend(differing(&of, &backends(before), &backends(after), word));
    }
    let rules = |overlay: &Overlay| -> BTreeMap<(Option<String>, IpNet), RuntimeRule> { overlay.rules().clone() };
    let (before, after) = (rules(before), rules(after));
    let file = |key: &(Option<String>, IpNet)| config.prefixes.get(&key.0).and_then(|rules| rules.get(&key.1));
    for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(key))) {
        if before.get(key) == after.get(key) {
            continue;
        }
        let word = |rule: Option<&RuntimeRule>| match (rule, file(key)) {
            (Some(rule), _) => Some(rule_words(rule)),
            (None, Some(allow)) => Some(allow_word(*allow).into()),
            (None, None) => None,
        };
        rows.push(Row {
            of: key.0.as_ref().map_or_else(|| "every service".into(), |name| format!("service {name}")),
            what: key.1.to_string(),
            before: word(before.get(key)),
            after: word(after.get(key)),
        });
    }
    rows
}

fn differing<K: Ord + fmt::Display, V>(
    of: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    word: impl Fn(&V) -> String,
) -> Vec<Row> {
    let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(key)));
    let row = |key: &K| Row {
        of: of.to_owned(),
        what: key.to_string(),
        before: before.get(key).map(&word),
        after: after.get(key).map(&word),
    };
    keys.map(row).filter(|row| row.before != row.after).collect()
}

fn backend_words(backend: &Effective) -> String {
    let mark = match backend.mark {
        Mark::Enabled => "enabled",
        Mark::Draining => "draining",
        Mark::Disabled => "disabled",
    };
    let drain = backend.drain.map(|drain| format!(" for {drain:?}")).unwrap_or_default();
    format!("{mark}{drain}, weight {}", backend.weight)
}

fn rule_words(rule: &RuntimeRule) -> String {
    let word = allow_word(rule.allow);
    if rule.until.is_some() { format!("{word} for a time") } else { word.into() }
}

fn allow_word(allow: bool) -> &'static str {
    if allow { "allowed" } else { "denied" }
}
