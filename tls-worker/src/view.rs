//! One thread's view of one generation: the shared [`Compiled`] with the thread's own counters, backends and turn of
//! balancing hung onto it. Requests take an `Rc` of it, so no reference count is shared between threads.

use crate::api::PoolShare;
use crate::compile::{Compiled, CompiledService};
use crate::http::Turn;
use crate::log::{LogView, Plan};
use crate::stats::{HistogramCells, RequestKey, ServiceStats};
use crate::thread::Thread;
use crate::upstream::PoolView;
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
        let pools: Vec<_> = compiled.pools.iter().map(|p| Rc::new(PoolView::new(thread, p))).collect();
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
    routes: Vec<RouteView>,
}

/// What a thread keeps of a route.
struct RouteView {
    name: Arc<str>,
    turn: Rc<Turn>,
    /// By share; where there is none, one without a name.
    pools: Vec<PoolCells>,
}

/// Request counters of a route's pool, found by name when first used and by place from then on.
struct PoolCells {
    pool: Arc<str>,
    /// By place in the pool, the last for none reached.
    backends: Vec<Option<SocketAddr>>,
    by_backend: OnceCell<Vec<[OnceCell<Arc<HistogramCells>>; 5]>>,
}

impl ServiceView {
    fn new(thread: &Thread, index: usize, service: &CompiledService, pools: &[Rc<PoolView>]) -> Self {
        let cells = |pool: Option<&Rc<PoolView>>| {
            let known = pool.into_iter().flat_map(|p| p.all.iter()).map(|c| Some(c.backend.address));
            PoolCells {
                pool: pool.map_or("".into(), |p| p.name.clone()),
                backends: known.chain([None]).collect(),
                by_backend: OnceCell::new(),
            }
        };
        let route = |name: Arc<str>, shares: &[PoolShare]| {
            let turn = thread.registry.borrow_mut().turn(&service.name, &name);
            let named = shares.iter().map(|share| (pools[share.pool].name.clone(), share.weight));
            turn.set(&named.collect::<Vec<_>>());
            let mut each: Vec<_> = shares.iter().map(|share| cells(Some(&pools[share.pool]))).collect();
            if each.is_empty() {
                each.push(cells(None));
            }
            RouteView { name, turn, pools: each }
        };
        let routes = service.routes.iter().map(|r| route(r.name.clone(), &r.shares));
        let routes = routes.chain([route("".into(), &[])]).collect();
        ServiceView {
            index,
            name: service.name.clone(),
            stats: thread.registry.borrow_mut().service(&service.name),
            routes,
        }
    }

    /// Name of the route that a request took.
    pub(crate) fn route_name(&self, by: Answered) -> Option<&str> {
        Some(&self.routes[by.route?].name)
    }

    /// Name of that route's pool.
    pub(crate) fn pool_name(&self, by: Answered) -> Option<&str> {
        Some(&self.routes[by.route?].pools[by.share].pool)
    }

    /// What is kept of a route across generations.
    pub(crate) fn turn(&self, route: usize) -> &Rc<Turn> {
        &self.routes[route].turn
    }

    /// The backend that it went to.
    pub(crate) fn backend(&self, by: Answered) -> Option<SocketAddr> {
        *self.routes[by.route?].pools[by.share].backends.get(by.backend?)?
    }

    /// Count an answered request.
    pub(crate) fn answered(&self, thread: &Thread, by: Answered, code: http::StatusCode, took: Duration) {
        let route = &self.routes[by.route.unwrap_or(self.routes.len() - 1)];
        let pool = &route.pools[by.share];
        let none = pool.backends.len() - 1;
        let backend = by.backend.unwrap_or(none).min(none);
        let class = (code.as_u16() / 100).clamp(1, 5) as usize;
        let cells = pool.by_backend.get_or_init(|| pool.backends.iter().map(|_| Default::default()).collect());
        let cell = cells[backend][class - 1].get_or_init(|| {
            thread.registry.borrow_mut().request(RequestKey {
                service: self.name.clone(),
                route: route.name.clone(),
                // "Empty when none was reached": a pool without a backend to take was not.
                pool: if backend == none { "".into() } else { pool.pool.clone() },
                backend: pool.backends[backend],
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
    /// Place among the route's pools.
    pub(crate) share: usize,
    /// Place in the pool's backends.
    pub(crate) backend: Option<usize>,
}
