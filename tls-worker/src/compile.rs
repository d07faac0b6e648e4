//! From a [`Snapshot`] to what threads serve by: every index and name checked, TLS configurations built, routes made
//! ready. What did not change since the last snapshot is taken over from it, so that session tickets stay good and a
//! change of one backend's state costs no parsing of keys.

use crate::api::{
    self, BackendTimeouts, Balance, Balancing, ClientTimeouts, HandshakeLimits, Hedge, HttpLimits, Mode, Multiplex,
    Outliers, PathPolicy, PoolLimits, ProxyVersion, Retry, RetryBudget, Snapshot, TicketKeys,
};
use crate::http::CompiledRoute;
use crate::http::authorize;
use crate::http::forwarded::Forwarding;
use crate::http::route::{Patterns, Router};
use crate::limits::{self, Limits};
use crate::log::Plan;
use crate::networks::Networks;
use crate::persist::Pinning;
use crate::proxy::ProxyRules;
use crate::stream::StreamRouter;
use crate::tls::{self, Ready, ServiceTls, TlsError, UpstreamIdentity};
use crate::upstream::Maglev;
use crate::vars::Template;
use http::HeaderName;
use rustls::sign::CertifiedKey;
use rustls_pki_types::ServerName;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What clients may never send, whether a route uses it or not (RFC 9440, 4).
const RFC_9440: [HeaderName; 2] =
    [HeaderName::from_static("client-cert"), HeaderName::from_static("client-cert-chain")];

/// Why a snapshot was not taken: where, what.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// A certificate.
    #[error("certificate {name:?}: {error}")]
    Certificate { name: String, error: TlsError },
    /// A pool.
    #[error("pool {name:?}: {problem}")]
    Pool { name: String, problem: String },
    /// An access log.
    #[error("access log {name:?}: {problem}")]
    AccessLog { name: String, problem: String },
    /// A service.
    #[error("service {name:?}: {problem}")]
    Service { name: String, problem: String },
    /// An authorizer.
    #[error("authorizer {name:?}: {problem}")]
    Authorizer { name: String, problem: String },
    /// The generation does not rise.
    #[error("generation {given} is not above {current}, which is in force")]
    Generation { given: u64, current: u64 },
}

/// A snapshot, ready to serve by. Immutable, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) generation: u64,
    pub(crate) services: Vec<CompiledService>,
    pub(crate) logs: Vec<Arc<Plan>>,
    pub(crate) pools: Vec<CompiledPool>,
    addresses: HashMap<(IpAddr, Option<u16>), usize>,
    pub(crate) handshakes: HandshakeLimits,
    /// Of one thread; 0: none.
    pub(crate) max_connections: u32,
    certificates: Vec<Ready>,
    /// Headers by which backends are told what the edge vouches for (a client's certificate and address, what an authorizer says),
    /// on whatever route: no client may send one.
    pub(crate) stripped: Vec<HeaderName>,
    patterns: Patterns,
    pub(crate) authorizers: Vec<authorize::Ready>,
}

/// An [`api::Service`], ready.
#[derive(Debug)]
pub(crate) struct CompiledService {
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) tls: Option<Arc<ServiceTls>>,
    /// Routes of requests.
    pub(crate) router: Router,
    /// Routes of connections without HTTP.
    pub(crate) streams: StreamRouter,
    pub(crate) routes: Vec<CompiledRoute>,
    pub(crate) timeouts: ClientTimeouts,
    pub(crate) served_by: Option<HeaderName>,
    pub(crate) max_connections: u64,
    pub(crate) proxy_header: Option<Arc<ProxyRules>>,
    pub(crate) forwarding: Forwarding,
    pub(crate) client_limits: Option<Limits>,
    /// Into [`Compiled::logs`].
    pub(crate) access_log: Option<usize>,
    pub(crate) path: PathPolicy,
    pub(crate) limits: HttpLimits,
}

/// An [`api::Pool`], ready.
#[derive(Debug)]
pub(crate) struct CompiledPool {
    pub(crate) name: Arc<str>,
    pub(crate) balance: Balance,
    pub(crate) backends: Vec<api::Backend>,
    pub(crate) tls: Option<Arc<UpstreamIdentity>>,
    pub(crate) timeouts: BackendTimeouts,
    pub(crate) max_idle: usize,
    pub(crate) proxy_version: Option<ProxyVersion>,
    pub(crate) balancing: Balancing,
    /// [`Balancing::hash_key`]
    pub(crate) hash_key: Option<Arc<Template>>,
    pub(crate) table: Arc<Maglev>,
    pub(crate) limits: PoolLimits,
    pub(crate) multiplex: Multiplex,
    pub(crate) retry: Retry,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) outliers: Option<Outliers>,
    pub(crate) pinning: Option<Arc<Pinning>>,
    pub(crate) drain_timeout: Option<Duration>,
}

impl Compiled {
    /// Make a snapshot ready; `last` is the one in force.
    pub(crate) fn new(snapshot: Snapshot, last: &Compiled) -> Result<Compiled, CompileError> {
        if snapshot.generation <= last.generation {
            return Err(CompileError::Generation { given: snapshot.generation, current: last.generation });
        }
        let mut new = Compiled {
            generation: snapshot.generation,
            handshakes: snapshot.handshakes,
            max_connections: snapshot.max_connections_per_thread,
            patterns: last.patterns.next(),
            ..Compiled::default()
        };
        for certificate in snapshot.certificates {
            let key = certified_key(&certificate, last)?;
            new.certificates.push((certificate, key));
        }
        let mut names = HashSet::new();
        for pool in snapshot.pools {
            if !names.insert(pool.name.clone()) {
                return Err(CompileError::Pool { name: pool.name, problem: "is there twice".into() });
            }
            new.pools.push(compile_pool(pool, &snapshot.tickets, last)?);
        }
        names.clear();
        for authorizer in &snapshot.authorizers {
            let ready = new
                .compile_authorizer(authorizer, last)
                .map_err(|problem| CompileError::Authorizer { name: authorizer.name.clone(), problem })?;
            new.authorizers.push(ready);
        }
        for log in &snapshot.access_logs {
            let plan = Plan::new(log).map_err(|problem| CompileError::AccessLog { name: log.name.clone(), problem })?;
            new.logs.push(Arc::new(plan));
        }
        for service in snapshot.services {
            if !names.insert(service.name.clone()) {
                return Err(CompileError::Service { name: service.name, problem: "is there twice".into() });
            }
            let compiled = new
                .compile_service(&service, &snapshot.tickets, last)
                .map_err(|problem| CompileError::Service { name: service.name, problem })?;
            new.services.push(compiled);
        }
        let told = new.services.iter().flat_map(|s| &s.routes).flat_map(|r| &r.client_cert).map(|(name, _)| name);
        let addresses = new.services.iter().filter_map(|s| s.forwarding.client_ip_header.as_ref());
        let vouched = new.authorizers.iter().flat_map(|authorizer| &authorizer.request_headers);
        let names: HashSet<HeaderName> = RFC_9440.iter().chain(told).chain(addresses).chain(vouched).cloned().collect();
        new.stripped = names.into_iter().collect();
        new.patterns = new.patterns.done();
        Ok(new)
    }

    /// The service that a connection to this address is for: the exact one, then every port of the address, then the
    /// family's unspecified address.
    pub(crate) fn service_at(&self, address: SocketAddr) -> Option<usize> {
        let ip = address.ip().to_canonical();
        let port = Some(address.port());
        let any = if ip.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        [(ip, port), (ip, None), (any, port), (any, None)].iter().find_map(|key| self.addresses.get(key)).copied()
    }

    /// Forget what limits need not remember. No thread of requests does this.
    pub(crate) fn sweep(&self) {
        let now = limits::now();
        self.services.iter().filter_map(|service| service.client_limits.as_ref()).for_each(|limits| limits.sweep(now));
    }

    fn compile_service(
        &mut self,
        service: &api::Service,
        tickets: &TicketKeys,
        last: &Compiled,
    ) -> Result<CompiledService, String> {
        let index = self.services.len();
        for address in &service.addresses {
            let key = (address.address.to_canonical(), address.port);
            if let Some(other) = self.addresses.insert(key, index) {
                let other = self.services.get(other).map_or(&*service.name, |s| &*s.name);
                let port = address.port.map_or("*".to_owned(), |p| p.to_string());
                return Err(format!("address {} port {port} is already that of service {other:?}", key.0));
            }
        }
        if service.access_log.is_some_and(|log| log >= self.logs.len()) {
            return Err(format!("there is no access log {:?}", service.access_log));
        }
        let before = last.services.iter().find(|s| *s.name == service.name);
        let has_http = matches!(service.mode, Mode::Http | Mode::Https);
        for route in &service.routes {
            self.check_pools(route, has_http)?;
        }
        let (requests, streams) =
            if has_http { (&service.routes[..], &[][..]) } else { (&[][..], &service.routes[..]) };
        let parse =
            |h: &String| HeaderName::try_from(h).map_err(|_| format!("served_by_header {h:?} is no header name"));
        let tls = self.compile_tls(service, tickets, before)?.map(Arc::new);
        let patterns = &mut self.patterns;
        Ok(CompiledService {
            name: service.name.as_str().into(),
            mode: service.mode,
            tls,
            router: Router::new(requests, patterns)?,
            streams: StreamRouter::new(streams),
            routes: service.routes.iter().map(|route| CompiledRoute::new(route, patterns)).collect::<Result<_, _>>()?,
            timeouts: service.timeouts,
            served_by: service.served_by_header.as_ref().map(parse).transpose()?,
            max_connections: service.max_connections_per_thread.into(),
            proxy_header: service.proxy_header.as_ref().map(|rules| Arc::new(proxy_rules(rules))),
            forwarding: Forwarding::new(&service.forwarding)?,
            client_limits: Limits::new(&service.client_limits, before.and_then(|before| before.client_limits.as_ref())),
            access_log: service.access_log.filter(|_| has_http),
            path: service.path,
            limits: service.limits,
        })
    }

    fn check_pools(&self, route: &api::Route, has_http: bool) -> Result<(), String> {
        if let Some(place) = route.authorizer.filter(|place| *place >= self.authorizers.len()) {
            return Err(format!("route {:?} points to authorizer {place}, which there is not", route.name));
        }
        if !has_http && (route.answer.is_some() || !route.split.is_empty()) {
            return Err(format!("route {:?}: without HTTP, one pool takes its connections", route.name));
        }
        for index in route.pools() {
            let Some(pool) = self.pools.get(index) else {
                let (name, have) = (&route.name, self.pools.len());
                return Err(format!("route {name:?} points to pool {index} of {have}"));
            };
            if pool.proxy_version.is_some() && has_http {
                return Err(format!(
                    "route {:?} points to pool {:?}, which wants the PROXY protocol: requests of many clients share a connection",
                    route.name, pool.name
                ));
            }
        }
        Ok(())
    }

    fn compile_authorizer(&self, authorizer: &api::Authorizer, last: &Compiled) -> Result<authorize::Ready, String> {
        if self.authorizers.iter().any(|known| *known.name == authorizer.name) {
            return Err("is there twice".into());
        }
        let have = self.pools.len();
        let pool = self.pools.get(authorizer.pool).ok_or(format!("points to pool {} of {have}", authorizer.pool))?;
        let before = last.authorizers.iter().find(|before| *before.name == authorizer.name);
        authorize::Ready::new(authorizer, &pool.name, before)
    }

    fn compile_tls(
        &self,
        service: &api::Service,
        tickets: &TicketKeys,
        before: Option<&CompiledService>,
    ) -> Result<Option<ServiceTls>, String> {
        let word = match service.mode {
            Mode::Http => "http",
            Mode::Https => "https",
            Mode::Tls => "tls",
            Mode::Passthrough => "passthrough",
            Mode::Tcp => "tcp",
        };
        let tls = match (service.mode, &service.tls) {
            (Mode::Http | Mode::Passthrough | Mode::Tcp, None) => return Ok(None),
            (Mode::Https | Mode::Tls, Some(tls)) => tls,
            (_, Some(_)) => return Err(format!("mode is {word}, but there is a TLS table")),
            (_, None) => return Err(format!("mode is {word}, but there is no TLS table")),
        };
        let before = before.and_then(|before| before.tls.as_deref());
        let ready = ServiceTls::new(&service.name, tls, &self.certificates, tickets, before);
        ready.map(Some).map_err(|e| e.to_string())
    }
}

fn proxy_rules(rules: &api::ProxyHeader) -> ProxyRules {
    let max = rules.max_size as usize;
    ProxyRules { from: Networks::new(&rules.from), required: rules.required, timeout: rules.timeout, max }
}

fn certified_key(certificate: &api::Certificate, last: &Compiled) -> Result<Arc<CertifiedKey>, CompileError> {
    let same =
        |(c, _): &&Ready| c.chain == certificate.chain && c.key == certificate.key && c.staple == certificate.staple;
    if let Some((_, key)) = last.certificates.iter().find(same) {
        return Ok(key.clone());
    }
    tls::certified_key(certificate).map_err(|error| CompileError::Certificate { name: certificate.name.clone(), error })
}

fn compile_pool(pool: api::Pool, tickets: &TicketKeys, last: &Compiled) -> Result<CompiledPool, CompileError> {
    let wrong = |problem: String| CompileError::Pool { name: pool.name.clone(), problem };
    let mut seen = HashSet::new();
    for backend in &pool.backends {
        if !(1..=256).contains(&backend.weight) {
            return Err(wrong(format!(
                "backend {}: weight {} is not within 1 to 256",
                backend.address, backend.weight
            )));
        }
        if !seen.insert(backend.address) {
            return Err(wrong(format!("backend {} is there twice", backend.address)));
        }
        if let Some(name) = backend.server_name.as_ref().filter(|name| ServerName::try_from(name.as_str()).is_err()) {
            return Err(wrong(format!("backend {}: {name:?} is no name of a server", backend.address)));
        }
    }
    let last = last.pools.iter().find(|p| *p.name == pool.name);
    let pinning = Pinning::new(&pool, tickets, last.and_then(|p| p.pinning.as_deref())).map_err(wrong)?;
    let before = last.and_then(|p| p.tls.as_ref());
    let tls = match &pool.tls {
        None => None,
        Some(source) => Some(match before.filter(|t| t.source == *source) {
            Some(same) => same.clone(),
            None => Arc::new(tls::upstream_identity(source).map_err(|e| wrong(format!("tls: {e}")))?),
        }),
    };
    let parse = |text: &String| Template::parse(text).map_err(|e| wrong(format!("hash key {text:?}: {e}")));
    let hash_key = pool.balancing.hash_key.as_ref().map(parse).transpose()?.map(Arc::new);
    Ok(CompiledPool {
        table: table(&pool, last),
        name: pool.name.as_str().into(),
        balance: pool.balance,
        backends: pool.backends,
        tls,
        timeouts: pool.timeouts,
        max_idle: pool.max_idle_per_thread as usize,
        proxy_version: pool.proxy_version,
        balancing: pool.balancing,
        hash_key,
        limits: pool.limits,
        multiplex: pool.multiplex,
        retry: pool.retry,
        retry_budget: pool.retry_budget,
        hedge: pool.hedge,
        outliers: pool.outliers,
        pinning: pinning.map(Arc::new),
        drain_timeout: pool.drain_timeout,
    })
}

/// Of all backends, whatever their state: a change of state alone leaves the table as it is.
fn table(pool: &api::Pool, last: Option<&CompiledPool>) -> Arc<Maglev> {
    if pool.balance != Balance::Hash {
        return Arc::default();
    }
    let of = |backends: &[api::Backend]| backends.iter().map(|b| (b.address, b.weight)).collect::<Vec<_>>();
    match last.filter(|last| last.balance == Balance::Hash && of(&last.backends) == of(&pool.backends)) {
        Some(last) => last.table.clone(),
        None => Arc::new(Maglev::new(&of(&pool.backends))),
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
