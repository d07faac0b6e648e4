//! Which backends are left out because of how they answered, as one thread saw it. A pure state machine: answers and
//! times come in, changes of state come out.

use crate::api::Outliers;
use crate::clock::{self, Millis};
use crate::stats::Ejection;
use std::cell::Cell;

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer below 500.
    Good,
    /// Another answer.
    Error,
    /// 502, 503, 504, a connection that broke, no answer in time.
    Gateway,
    /// No connection.
    Connect,
}

/// What is remembered of one backend.
#[derive(Debug, Default)]
pub(super) struct Record {
    errors: Cell<u32>,
    gateway: Cell<u32>,
    connect: Cell<u32>,
    good: Cell<u32>,
    all: Cell<u32>,
    /// Ejections that have not been forgiven.
    times: Cell<u32>,
    /// 0: it takes part.
    until: Cell<Millis>,
}

/// What the backends of a pool have in common.
#[derive(Debug, Default)]
pub(super) struct Court {
    /// End of the interval.
    next: Cell<Millis>,
}

impl Record {
    /// Whether it is left out.
    pub(super) fn is_out(&self, now: Millis) -> bool {
        self.until.get() > now
    }

    /// When it comes back; none: it takes part.
    pub(super) fn until(&self) -> Option<Millis> {
        Some(self.until.get()).filter(|until| *until > 0)
    }

    /// Let it take part again if its time has come. True once.
    pub(super) fn returns(&self, now: Millis) -> bool {
        let due = self.until.get() > 0 && self.until.get() <= now;
        if due {
            self.until.set(0);
            self.forget_row();
        }
        due
    }

    /// Outliers are not looked for any more.
    pub(super) fn pardon(&self) {
        self.until.set(0);
        self.times.set(0);
        self.forget_row();
    }

    fn forget_row(&self) {
        self.errors.set(0);
        self.gateway.set(0);
        self.connect.set(0);
    }

    /// Note how a try ended. A cause: it is to be left out, if there is room for that.
    pub(super) fn note(&self, outcome: Outcome, rules: &Outliers) -> Option<Ejection> {
        let bad = outcome != Outcome::Good;
        self.all.set(self.all.get().saturating_add(1));
        self.good.set(self.good.get().saturating_add(u32::from(!bad)));
        let row = |count: &Cell<u32>, hit: bool| count.set(if hit { count.get().saturating_add(1) } else { 0 });
        row(&self.errors, bad);
        row(&self.gateway, matches!(outcome, Outcome::Gateway | Outcome::Connect));
        row(&self.connect, outcome == Outcome::Connect);
        let reached = |count: &Cell<u32>, most: Option<u32>| most.is_some_and(|most| count.get() >= most.max(1));
        if reached(&self.connect, rules.connect_failures) {
            Some(Ejection::ConnectFailures)
        } else if reached(&self.gateway, rules.gateway_errors) {
            Some(Ejection::GatewayErrors)
        } else {
            reached(&self.errors, rules.errors).then_some(Ejection::Errors)
        }
    }

    /// Leave it out from now on; how long, milliseconds.
    fn eject(&self, rules: &Outliers, now: Millis) -> Millis {
        let times = self.times.get().saturating_add(1);
        self.times.set(times);
        let long = clock::millis(rules.ejection).saturating_mul(times.into()).min(clock::millis(rules.max_ejection));
        self.until.set(now + long);
        self.forget_row();
        long
    }
}

/// A backend that is left out from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ejected {
    /// Its place among the records.
    pub(super) place: usize,
    pub(super) cause: Ejection,
    /// Milliseconds.
    pub(super) long: Millis,
}

/// Leave one out, unless as many are as may be.
pub(super) fn eject(
    records: &[&Record],
    place: usize,
    cause: Ejection,
    rules: &Outliers,
    now: Millis,
) -> Option<Ejected> {
    let out = records.iter().filter(|record| record.is_out(now)).count();
    let most = (records.len() * usize::from(rules.max_percent) / 100).max(1);
    (out < most && !records[place].is_out(now)).then(|| Ejected {
        place,
        cause,
        long: records[place].eject(rules, now),
    })
}

impl Court {
    /// Whether the interval is over.
    pub(super) fn is_due(&self, now: Millis) -> bool {
        now >= self.next.get()
    }

    /// Judge the interval that is over, if one is, by shares of good answers.
    pub(super) fn judge(&self, records: &[&Record], rules: &Outliers, now: Millis) -> Vec<Ejected> {
        if !self.is_due(now) {
            return Vec::new();
        }
        let first = self.next.replace(now + clock::millis(rules.interval)) == 0;
        if first {
            return Vec::new();
        }
        let share = |record: &Record| f64::from(record.good.get()) / f64::from(record.all.get().max(1));
        let enough = |record: &Record| !record.is_out(now) && record.all.get() >= rules.min_requests.max(1);
        let shares: Vec<f64> = records.iter().filter(|r| enough(r)).map(|r| share(r)).collect();
        let mut ejected = Vec::new();
        // Of fewer than three none stands out: of two, both are as far from the mean.
        if let (Some(factor), 3..) = (rules.stdev_factor, shares.len()) {
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64;
            let bar = mean - f64::from(factor) / 1000.0 * variance.sqrt();
            for (place, record) in records.iter().enumerate() {
                if enough(record) && share(record) < bar {
                    ejected.extend(eject(records, place, Ejection::SuccessRate, rules, now));
                }
            }
        }
        for record in records {
            // An interval without trouble forgives one ejection.
            if !record.is_out(now) && record.all.get() > 0 && record.good.get() == record.all.get() {
                record.times.set(record.times.get().saturating_sub(1));
            }
            record.good.set(0);
            record.all.set(0);
        }
        ejected
    }
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
