//! Backends, as one thread sees them. `choose` takes one (by `balance`, `maglev`, `ewma`; of those that `group` and
//! `outlier` let take part), `place` waits for it in the `queue`, `budget` bounds retries. `pool` leases its connections,
//! `connect` and `dial` make and drive new ones, `sender` sends requests on them, `shared` carries many on one, `state`
//! knows what is due on each. `drain` ends what is in flight when a backend's time is over.

mod backend;
mod balance;
mod budget;
mod choose;
mod connect;
mod dial;
mod drain;
mod ewma;
mod group;
mod maglev;
mod outlier;
mod place;
mod pool;
mod queue;
mod sender;
mod shared;
mod state;

pub(crate) use backend::{Backend, Choice, PoolState};
pub(crate) use choose::Ask;
pub(crate) use connect::{ConnectError, Opened, open};
pub(crate) use maglev::{Maglev, of_bytes as key};
pub(crate) use outlier::Outcome;
pub(crate) use place::NoPlace;
pub(crate) use pool::{Active, Lease, Wants};
pub(crate) use sender::{Sent, is_refused};
pub(crate) use state::{Phase, UpState};

use crate::api::{
    BackendState, BackendTimeouts, Balance, Balancing, Hedge, Multiplex, Outliers, ProxyVersion, Retry, RetryBudget,
};
use crate::clock;
use crate::compile::CompiledPool;
use crate::persist::Pinning;
use crate::stats::SessionStats;
use crate::thread::Thread;
use crate::tls::{UpstreamConfigs, UpstreamIdentity};
use crate::vars::Template;
use group::Standing;
use place::{Limits, share};
use rustls_pki_types::ServerName;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// TLS towards a pool's backends, with this thread's session memory.
pub(crate) struct UpstreamTlsView {
    pub(crate) identity: Arc<UpstreamIdentity>,
    pub(crate) configs: Rc<UpstreamConfigs>,
}

/// A pool in a generation.
pub(crate) struct PoolView {
    pub(crate) name: Arc<str>,
    /// Every backend, in the snapshot's order.
    pub(crate) all: Vec<Choice>,
    pub(crate) tls: Option<UpstreamTlsView>,
    pub(crate) timeouts: BackendTimeouts,
    /// A PROXY header goes ahead of a connection without HTTP.
    pub(crate) proxy_version: Option<ProxyVersion>,
    pub(crate) max_idle: usize,
    pub(crate) retry: Retry,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) state: Rc<PoolState>,
    /// Where clients are known again.
    pub(crate) pins: Option<PinsView>,
    /// What its key is made of, with [`Balance::Hash`]; none: the client's address.
    pub(crate) hash_key: Option<Arc<Template>>,
    balance: Balance,
    rules: Balancing,
    table: Arc<Maglev>,
    /// By place.
    standings: Vec<Standing>,
    limits: Limits,
    multiplex: Multiplex,
    outliers: Option<Outliers>,
    budget: RetryBudget,
    thread: u32,
    threads: u32,
    now: RefCell<choose::Now>,
}

/// Persistence of a pool in a generation.
pub(crate) struct PinsView {
    pub(crate) pinning: Arc<Pinning>,
    pub(crate) stats: Arc<SessionStats>,
    /// Place and state of every backend.
    pub(crate) backends: HashMap<SocketAddr, (usize, BackendState)>,
}

impl PoolView {
    /// A backend, if it keeps the clients that it has.
    pub(crate) fn keeps(&self, address: SocketAddr) -> Option<&Choice> {
        let pins = self.pins.as_ref()?;
        let (index, state) = *pins.backends.get(&address)?;
        let choice = self.all.get(index).filter(|choice| !choice.backend.is_closed())?;
        pins.pinning.keeps(address, state, clock::now()).then_some(choice)
    }

    pub(crate) fn new(thread: &Thread, pool: &CompiledPool) -> Self {
        let (index, threads) = (thread.index, thread.threads);
        let share = |of| share(of, index, threads);
        let state = thread.pool(&pool.name);
        let identity = pool.tls.as_ref().map_or(0, |t| t.id);
        let all: Vec<Choice> = (pool.backends.iter().enumerate())
            .map(|(index, b)| Choice {
                index,
                weight: u32::from(b.weight) * 100,
                backend: thread.backend(&state, b.address),
                max_connections: share(b.role.max_connections),
                max_requests: share(b.role.max_requests),
            })
            .collect();
        for (choice, b) in all.iter().zip(&pool.backends) {
            let keeps = b.state == BackendState::Up || (b.state == BackendState::Draining && pool.pinning.is_some());
            let server_name = b.server_name.as_ref().and_then(|name| ServerName::try_from(name.clone()).ok());
            choice.backend.meet(identity, server_name, keeps);
            choice.backend.stands(Some(b.state), b.drain_timeout.or(pool.drain_timeout));
        }
        state.known.set(true);
        let tls =
            pool.tls.as_ref().map(|t| UpstreamTlsView { identity: t.clone(), configs: thread.upstream_configs(t) });
        let pins = pool.pinning.as_ref().map(|pinning| PinsView {
            pinning: pinning.clone(),
            stats: thread.registry.borrow_mut().sessions(&pool.name),
            backends: pool.backends.iter().enumerate().map(|(i, b)| (b.address, (i, b.state))).collect(),
        });
        let view = PoolView {
            name: pool.name.clone(),
            standings: pool.backends.iter().map(|b| Standing { state: b.state, role: b.role, out: false }).collect(),
            all,
            tls,
            timeouts: pool.timeouts,
            proxy_version: pool.proxy_version,
            max_idle: pool.max_idle,
            retry: pool.retry.clone(),
            hedge: pool.hedge,
            state,
            pins,
            hash_key: pool.hash_key.clone(),
            balance: pool.balance,
            rules: pool.balancing.clone(),
            table: pool.table.clone(),
            limits: Limits {
                max_connections: share(pool.limits.max_connections),
                max_requests: share(pool.limits.max_requests),
                max_pending: share(pool.limits.max_pending),
                queue: match pool.limits.queue {
                    0 => 0,
                    queue => share(Some(queue)),
                },
                queue_timeout: pool.limits.queue_timeout,
            },
            multiplex: pool.multiplex,
            outliers: pool.outliers,
            budget: pool.retry_budget,
            thread: index,
            threads,
            now: RefCell::default(),
        };
        view.look_around(clock::now());
        view
    }

    /// Whether a key is asked of requests.
    pub(crate) fn wants_key(&self) -> bool {
        self.balance == Balance::Hash
    }

    /// Whether it is of use to know how tries end.
    pub(crate) fn is_watched(&self) -> bool {
        self.balance == Balance::PeakEwma || self.outliers.is_some()
    }

    /// Whether connections are expected to carry many requests.
    fn is_multiplexed(&self) -> bool {
        match &self.tls {
            Some(tls) => tls.identity.speaks_http2(),
            None => self.multiplex.h2c,
        }
    }

    /// A request came: it brings some of a retry.
    pub(crate) fn deposit(&self) {
        self.state.budget.deposit(&self.budget, self.threads);
    }

    /// Whether there may be a retry, or a hedge; it is paid for.
    pub(crate) fn may_retry(&self) -> bool {
        let may = self.state.budget.withdraw(&self.budget, self.threads, clock::now());
        if !may {
            self.state.stats.denied.inc();
        }
        may
    }
}
