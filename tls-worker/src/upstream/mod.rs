//! Backends, as one thread sees them: `balance` chooses one, `pool` keeps its unused connections, `connect` makes
//! new ones and drives them, `sender` sends requests on them, `state` knows what is due on each.

mod balance;
mod connect;
mod pool;
mod sender;
mod state;

pub(crate) use connect::{ConnectError, Opened, open};
pub(crate) use pool::{Active, Lease, Wants};
pub(crate) use sender::is_refused;
pub(crate) use state::{Phase, UpState};

use crate::api::{BackendState, BackendTimeouts, Balance, ProxyVersion};
use crate::clock;
use crate::persist::Pinning;
use crate::stats::{BackendStats, SessionStats};
use crate::tls::{UpstreamConfigs, UpstreamIdentity};
use balance::Candidate;
use pool::Kept;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// What a thread keeps of one backend of one pool, across generations.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<BackendStats>,
    /// Connections without a request, the last used at the end.
    idle: RefCell<Vec<Kept>>,
    /// [`UpstreamIdentity::id`] that connections must have been made under; 0: clear text.
    identity: Cell<u64>,
    /// Whether connections wait here for a next request.
    keeps: Cell<bool>,
    credit: Cell<i64>,
}

impl Backend {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Backend {
            address,
            stats: Arc::default(),
            idle: RefCell::default(),
            identity: Cell::new(0),
            keeps: Cell::new(true),
            credit: Cell::new(0),
        }
    }

    /// A new generation: connections made under another identity are not used any more, and none are kept where no
    /// request will come.
    pub(crate) fn configure(&self, identity: u64, keeps: bool) {
        self.keeps.set(keeps);
        if self.identity.replace(identity) != identity || !keeps {
            let dropped = std::mem::take(&mut *self.idle.borrow_mut());
            drop(dropped);
        }
    }

    /// It is in no snapshot any more.
    pub(crate) fn retire(&self) {
        self.configure(self.identity.get(), false);
    }
}

/// A backend of a pool in a generation.
#[derive(Clone)]
pub(crate) struct Choice {
    /// Its place in the pool.
    pub(crate) index: usize,
    pub(crate) weight: u16,
    pub(crate) backend: Rc<Backend>,
}

impl Candidate for Choice {
    fn weight(&self) -> u16 {
        self.weight
    }

    fn active(&self) -> u64 {
        self.backend.stats.active.get()
    }

    fn credit(&self) -> &Cell<i64> {
        &self.backend.credit
    }
}

/// TLS towards a pool's backends, with this thread's session memory.
pub(crate) struct UpstreamTlsView {
    pub(crate) identity: Arc<UpstreamIdentity>,
    pub(crate) configs: Rc<UpstreamConfigs>,
}

/// A pool in a generation.
pub(crate) struct PoolView {
    pub(crate) name: Arc<str>,
    pub(crate) balance: Balance,
    /// Every backend, in the snapshot's order.
    pub(crate) all: Vec<Choice>,
    /// Those that may be chosen.
    pub(crate) up: Vec<Choice>,
    pub(crate) tls: Option<UpstreamTlsView>,
    pub(crate) timeouts: BackendTimeouts,
    /// A PROXY header goes ahead of a connection without HTTP.
    pub(crate) proxy_version: Option<ProxyVersion>,
    pub(crate) max_idle: usize,
    /// Where clients are known again.
    pub(crate) pins: Option<PinsView>,
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
        if pins.pinning.keeps(address, state, clock::now()) { self.all.get(index) } else { None }
    }

    /// The next backend, other than the one that just failed.
    pub(crate) fn choose(&self, not: Option<SocketAddr>) -> Option<&Choice> {
        let candidates = self.up.iter().filter(|c| Some(c.backend.address) != not);
        match self.balance {
            Balance::RoundRobin => balance::round_robin(candidates),
            Balance::LeastConnections => balance::least_connections(candidates),
        }
    }
}
