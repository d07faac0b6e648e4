//! One thread's view of one generation: the shared [`Compiled`] with the thread's own counters, backends and turn of
//! balancing hung onto it. Requests take an `Rc` of it, so no reference count is shared between threads.

use crate::api::BackendState;
use crate::compile::{Compiled, CompiledPool, CompiledService};
use crate::log::{LogView, Plan};
use crate::stats::{HistogramCells, RequestKey, ServiceStats};
use crate::thread::Thread;
use crate::upstream::{Choice, PinsView, PoolView, UpstreamTlsView};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
pub(crate) struct View {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) services: Vec<Rc<ServiceView>>,
    pub(crate) pools: Vec<Rc<PoolView>>,
    /// Access logs.
    pub(crate) logs: Vec<Rc<LogView>>,
    by_name: HashMap<Arc<str>, usize>,
}

impl View {
    pub(crate) fn new(thread: &Thread, compiled: Arc<Compiled>) -> Self {
        let pools: Vec<_> = compiled.pools.iter().map(|p| Rc::new(pool_view(thread, p))).collect();
        let service = |(i, s)| Rc::new(ServiceView::new(thread, i, s, &pools));
        let services: Vec<_> = compiled.services.iter().enumerate().map(service).collect();
        let by_name = services.iter().enumerate().map(|(i, s)| (s.name.clone(), i)).collect();
        let log = |plan: &Arc<Plan>| {
            let stats = thread.registry.borrow_mut().log(&plan.name);
            Rc::new(LogView::new(plan.clone(), stats, thread.log.clone()))
        };
        let logs = compiled.logs.iter().map(log).collect();
        View { services, by_name, pools, logs, compiled }
    }

    /// Before the first snapshot: no service.
    pub(crate) fn empty() -> Self {
        View {
            compiled: Arc::default(),
            services: Vec::new(),
            pools: Vec::new(),
            logs: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.compiled.generation
    }

    /// Where a service is in `services`.
    pub(crate) fn place_of(&self, service: &str) -> Option<usize> {
        self.by_name.get(service).copied()
    }
}

/// A service in a [`View`].
pub(crate) struct ServiceView {
    /// Its place in [`Compiled::services`].
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) stats: Arc<ServiceStats>,
    /// By route, the last for none.
    routes: Vec<RouteStats>,
}

/// Request counters of a route, found by name when first used and by place from then on.
struct RouteStats {
    name: Arc<str>,
    pool: Arc<str>,
    /// By place in the pool, the last for none reached.
    backends: Vec<Option<SocketAddr>>,
    by_backend: OnceCell<Vec<[OnceCell<Arc<HistogramCells>>; 5]>>,
}

impl ServiceView {
    fn new(thread: &Thread, index: usize, service: &CompiledService, pools: &[Rc<PoolView>]) -> Self {
        let route = |name: Arc<str>, pool: Option<&Rc<PoolView>>| {
            let known = pool.into_iter().flat_map(|p| p.all.iter()).map(|c| Some(c.backend.address));
            RouteStats {
                name,
                pool: pool.map_or("".into(), |p| p.name.clone()),
                backends: known.chain([None]).collect(),
                by_backend: OnceCell::new(),
            }
        };
        let routes = service.routes.iter().map(|r| route(r.name.clone(), Some(&pools[r.pool])));
        ServiceView {
            index,
            name: service.name.clone(),
            stats: thread.registry.borrow_mut().service(&service.name),
            routes: routes.chain([route("".into(), None)]).collect(),
        }
    }

    /// Name of the route that a request took.
    pub(crate) fn route_name(&self, by: Answered) -> Option<&str> {
        Some(&self.routes[by.route?].name)
    }

    /// Name of that route's pool.
    pub(crate) fn pool_name(&self, by: Answered) -> Option<&str> {
        Some(&self.routes[by.route?].pool)
    }

    /// The backend that it went to.
    pub(crate) fn backend(&self, by: Answered) -> Option<SocketAddr> {
        *self.routes[by.route?].backends.get(by.backend?)?
    }

    /// Count an answered request.
    pub(crate) fn answered(&self, thread: &Thread, by: Answered, code: http::StatusCode, took: Duration) {
        let route = &self.routes[by.route.unwrap_or(self.routes.len() - 1)];
        let none = route.backends.len() - 1;
        let backend = by.backend.unwrap_or(none).min(none);
        let class = (code.as_u16() / 100).clamp(1, 5) as usize;
        let cells = route.by_backend.get_or_init(|| route.backends.iter().map(|_| Default::default()).collect());
        let cell = cells[backend][class - 1].get_or_init(|| {
            thread.registry.borrow_mut().request(RequestKey {
                service: self.name.clone(),
                route: route.name.clone(),
                // "Empty when none was reached": a pool without a backend to take was not.
                pool: if backend == none { "".into() } else { route.pool.clone() },
                backend: route.backends[backend],
                code_class: class as u8,
            })
        });
        cell.observe(took);
    }
}

/// Who answered a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answered {
    /// Place in the service's routes.
    pub(crate) route: Option<usize>,
    /// Place in the pool's backends.
    pub(crate) backend: Option<usize>,
}

fn pool_view(thread: &Thread, pool: &CompiledPool) -> PoolView {
    let identity = pool.tls.as_ref().map_or(0, |t| t.id);
    let all: Vec<Choice> = (pool.backends.iter().enumerate())
        .map(|(index, b)| Choice { index, weight: b.weight, backend: thread.backend(&pool.name, b.address) })
        .collect();
    for (choice, b) in all.iter().zip(&pool.backends) {
        let serves = matches!(b.state, BackendState::Up | BackendState::Draining);
        choice.backend.configure(identity, serves);
    }
    let mut up: Vec<Choice> =
        all.iter().filter(|c| pool.backends[c.index].state == BackendState::Up).cloned().collect();
    // Threads begin their turn at different backends, so that few requests do not all meet the first one.
    if !up.is_empty() {
        let by = thread.index as usize % up.len();
        up.rotate_left(by);
    }
    let tls = pool.tls.as_ref().map(|t| UpstreamTlsView { identity: t.clone(), configs: thread.upstream_configs(t) });
    let pins = pool.pinning.as_ref().map(|pinning| PinsView {
        pinning: pinning.clone(),
        stats: thread.registry.borrow_mut().sessions(&pool.name),
        backends: pool.backends.iter().enumerate().map(|(i, b)| (b.address, (i, b.state))).collect(),
    });
    PoolView {
        pins,
        name: pool.name.clone(),
        balance: pool.balance,
        all,
        up,
        tls,
        timeouts: pool.timeouts,
        proxy_version: pool.proxy_version,
        max_idle: pool.max_idle,
    }
}
