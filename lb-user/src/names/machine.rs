//! What is known of one name, and when it is to be asked again. Pure: answers and times come in.

use crate::config;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Most addresses of a name; those above are not taken.
pub(super) const MAX_ADDRESSES: usize = 256;

/// An answer about the addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// These, for so long.
    Addresses(BTreeSet<IpAddr>, Duration),
    /// There are none, for so long; no time: nobody says.
    Nothing(Option<Duration>),
    /// Nothing can be said, and why.
    Failed(String),
}

/// What an answer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// What was answered.
    pub(super) result: Outcome,
    /// Addresses that no backend can have, or that were too many.
    pub(super) rejected: usize,
}

/// An answer in a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Addresses,
    Nothing,
    Failed(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    rules: config::Dns,
    /// IPv4, IPv6.
    families: [BTreeSet<IpAddr>; 2],
    /// What is in force.
    current: BTreeSet<IpAddr>,
    /// Since DNS says that there are none, while there are some in force.
    nothing_since: Option<Instant>,
    due: Instant,
}

impl Machine {
    /// Of a name of which this was known before.
    pub(super) fn new(rules: config::Dns, known: BTreeSet<IpAddr>, now: Instant) -> Self {
        let (v4, v6) = known.iter().partition(|ip| ip.is_ipv4());
        Machine { rules, families: [v4, v6], current: known, nothing_since: None, due: now }
    }

    /// When it is to be asked again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The addresses in force.
    pub(super) fn current(&self) -> &BTreeSet<IpAddr> {
        &self.current
    }

    /// The name is asked for by other rules from now on.
    pub(super) fn rule(&mut self, rules: &config::Dns, now: Instant) {
        if self.rules != *rules {
            self.rules = rules.clone();
            self.due = now;
        }
    }

    /// Answers for IPv4 and IPv6; None: it was not asked for.
    pub(super) fn hear(&mut self, answers: [Option<Heard>; 2], now: Instant) -> Said {
        let mut next = self.rules.max_ttl;
        let (mut outcomes, mut rejected) = (Vec::new(), 0);
        let bounded = |ttl: Duration| ttl.clamp(self.rules.min_ttl, self.rules.max_ttl);
        for (family, answer) in self.families.iter_mut().zip(answers) {
            match answer {
                None => family.clear(),
                Some(Heard::Addresses(found, ttl)) => {
                    let many = found.len();
                    let found = found.into_iter().map(|ip| ip.to_canonical()).filter(usable);
                    let found: BTreeSet<IpAddr> = found.take(MAX_ADDRESSES).collect();
                    rejected += many - found.len();
                    if found.is_empty() {
                        // Filters of DNS answer 0.0.0.0 for what they keep back: that says nothing of the name.
                        next = next.min(self.rules.retry);
                        outcomes.push(Outcome::Failed("none of its addresses can be a backend's".into()));
                        continue;
                    }
                    *family = found;
                    next = next.min(bounded(ttl));
                    outcomes.push(Outcome::Addresses);
                }
                Some(Heard::Nothing(ttl)) => {
                    family.clear();
                    next = next.min(bounded(ttl.unwrap_or(self.rules.retry)));
                    outcomes.push(Outcome::Nothing);
                }
                Some(Heard::Failed(why)) => {
                    next = next.min(self.rules.retry);
                    outcomes.push(Outcome::Failed(why));
                }
            }
        }
        // Of a name that nothing is heard of, nothing changes.
        if outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Failed(_))) {
            self.settle(&mut next, now);
        }
        self.due = now + next;
        let failed = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Failed(_))).cloned();
        let found = outcomes.contains(&Outcome::Addresses).then_some(Outcome::Addresses);
        Said { result: failed.or(found).unwrap_or(Outcome::Nothing), rejected }
    }

    /// What is in force now; `next`: until it is looked at again.
    fn settle(&mut self, next: &mut Duration, now: Instant) {
        let all: BTreeSet<IpAddr> = self.families.iter().flatten().copied().collect();
        if !all.is_empty() || self.current.is_empty() {
            self.nothing_since = None;
            self.current = all;
            return;
        }
        let since = *self.nothing_since.get_or_insert(now);
        let held = now.saturating_duration_since(since);
        match self.rules.hold.checked_sub(held).filter(|left| !left.is_zero()) {
            Some(left) => *next = (*next).min(left),
            None => {
                self.nothing_since = None;
                self.current.clear();
            }
        }
    }
}

/// Whether a backend can have it.
fn usable(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
