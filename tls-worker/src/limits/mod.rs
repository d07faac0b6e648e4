//! How much of a service there is for all its clients and for one source: connections and rates of requests. The
//! threads of a worker agree: what they count stands in [`State`], which they share without a lock. Nothing is admitted
//! beyond a limit but by a source that is not remembered, as the table is full; that is counted.

mod rate;

use crate::api::{ClientLimits, Rate};
use crate::stats::{Limit, ServiceStats};
use papaya::HashMap;
use rate::{Bucket, Taken};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

pub(crate) use rate::now;

/// A count that is no more in its table.
const DEAD: u32 = u32::MAX;

/// Whom a limit of one source is for: the network of an address, IPv4 in its mapped form.
type Source = u128;

/// The limits of a service.
#[derive(Debug)]
pub(crate) struct Limits {
    rules: ClientLimits,
    state: Arc<State>,
}

/// What is counted of a service. It goes from one snapshot to the next.
#[derive(Debug, Default)]
struct State {
    connections: AtomicU32,
    requests: Bucket,
    /// Sources with connections; those without are not in it.
    source_connections: HashMap<Source, AtomicU32>,
    /// Sources whose bucket is not full again; the others are taken out by [`Limits::sweep`].
    source_requests: HashMap<Source, Bucket>,
}

impl Limits {
    /// Those of a service, with what was counted of it in the snapshot before. None: nothing is limited.
    pub(crate) fn new(rules: &ClientLimits, last: Option<&Limits>) -> Option<Self> {
        let ClientLimits { connections, requests, source_connections, source_requests, .. } = rules;
        let any = connections.or(*source_connections).is_some() || requests.or(*source_requests).is_some();
        let state = || last.map(|last| last.state.clone()).unwrap_or_default();
        any.then(|| Limits { rules: rules.clone(), state: state() })
    }

    /// A connection of this client: it counts until the answer is dropped. None: it is one too many, and counted so.
    pub(crate) fn connect(&self, client: IpAddr, stats: &ServiceStats) -> Option<Hold> {
        let mut hold = Hold { state: self.state.clone(), all: false, source: None };
        if let Some(most) = self.rules.connections {
            hold.all = enter(&self.state.connections, most) == Entered::Yes;
            if !hold.all {
                stats.limited.inc(Limit::ServiceConnections);
                return None;
            }
        }
        if let Some(most) = self.rules.source_connections {
            let source = self.source(client);
            if !self.state.enter_source(source, most) {
                stats.limited.inc(Limit::SourceConnections);
                return None;
            }
            hold.source = Some(source);
        }
        Some(hold)
    }

    /// A request of this client. An error: it is one too many, and counted so; how long to wait.
    pub(crate) fn request(&self, client: IpAddr, now: u64, stats: &ServiceStats) -> Result<(), Duration> {
        if let Some(rate) = self.rules.source_requests {
            let taken = self.take_source(self.source(client), rate, now);
            if taken.is_none() {
                stats.limited.inc(Limit::SourceUntracked);
            }
            if let Some(Taken::TooMany(wait)) = taken {
                stats.limited.inc(Limit::SourceRequests);
                return Err(wait);
            }
        }
        if let Some(rate) = self.rules.requests
            && let Taken::TooMany(wait) = self.state.requests.take(rate, now)
        {
            stats.limited.inc(Limit::ServiceRequests);
            return Err(wait);
        }
        Ok(())
    }

    /// Sources that are remembered.
    pub(crate) fn sources(&self) -> u64 {
        (self.state.source_requests.len() + self.state.source_connections.len()) as u64
    }

    /// Forget the sources that may have their whole burst again: they are as if they had never come.
    pub(crate) fn sweep(&self, now: u64) {
        self.state.source_requests.pin().retain(|_, bucket| !bucket.retire(now));
    }

    /// None: the source is not remembered, and the table is full.
    fn take_source(&self, source: Source, rate: Rate, now: u64) -> Option<Taken> {
        let table = self.state.source_requests.pin();
        loop {
            let bucket = match table.get(&source) {
                Some(bucket) => bucket,
                None if table.len() >= self.rules.max_sources as usize => return None,
                None => table.get_or_insert_with(source, Bucket::default),
            };
            match bucket.take(rate, now) {
                // It is being taken out.
                Taken::Retired => {
                    table.remove_if(&source, |_, bucket| bucket.is_retired()).ok();
                }
                taken => return Some(taken),
            }
        }
    }

    fn source(&self, client: IpAddr) -> Source {
        let (bits, address) = match client.to_canonical() {
            IpAddr::V4(v4) => (96 + u32::from(self.rules.source_prefix_v4.min(32)), v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => (u32::from(self.rules.source_prefix_v6.min(128)), v6),
        };
        let mask = u128::MAX.checked_shl(Ipv6Addr::BITS - bits).unwrap_or_default();
        address.to_bits() & mask
    }
}

impl State {
    fn enter_source(&self, source: Source, most: u32) -> bool {
        let table = self.source_connections.pin();
        loop {
            let count = table.get_or_insert_with(source, AtomicU32::default);
            match enter(count, most) {
                Entered::Yes => return true,
                // With a limit of 0 nobody is counted, and nobody takes it out.
                Entered::No if most == 0 => self.leave_empty(source),
                Entered::No => {}
                Entered::Dead => {
                    table.remove_if(&source, |_, count| count.load(Relaxed) == DEAD).ok();
                    continue;
                }
            }
            return false;
        }
    }

    fn leave_source(&self, source: Source) {
        let table = self.source_connections.pin();
        // It is there for as long as somebody is counted.
        let Some(count) = table.get(&source) else { return };
        let left = count.fetch_update(Relaxed, Relaxed, |n| Some(if n == 1 { DEAD } else { n - 1 }));
        if left == Ok(1) {
            table.remove_if(&source, |_, count| count.load(Relaxed) == DEAD).ok();
        }
    }

    fn leave_empty(&self, source: Source) {
        let table = self.source_connections.pin();
        if table.get(&source).is_some_and(|count| count.compare_exchange(0, DEAD, Relaxed, Relaxed).is_ok()) {
            table.remove_if(&source, |_, count| count.load(Relaxed) == DEAD).ok();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Entered {
    Yes,
    No,
    Dead,
}

fn enter(count: &AtomicU32, most: u32) -> Entered {
    let more = |n: u32| (n != DEAD && n < most).then(|| n + 1);
    match count.fetch_update(Relaxed, Relaxed, more) {
        Ok(_) => Entered::Yes,
        Err(DEAD) => Entered::Dead,
        Err(_) => Entered::No,
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Hold {
    state: Arc<State>,
    all: bool,
    source: Option<Source>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.all {
            self.state.connections.fetch_sub(1, Relaxed);
        }
        if let Some(source) = self.source {
            self.state.leave_source(source);
        }
    }
}

#[cfg(test)]
mod tests;
