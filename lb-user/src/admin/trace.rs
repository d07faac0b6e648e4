//! The way of one client's packets and request, step by step, through what is in force. Pure: what the datapath says of the
//! flow comes in. Nobody is asked on the way: no authorizer, no backend.

use super::api::{TraceHttp, TraceRequest, TraceStep, TraceView};
use super::view;
use super::view_certificates::version;
use super::view_forward as forward;
use crate::config::Forward;
use crate::datapath::{FlowAnswer, FlowReason, ForwardHash, Ports, Protocol};
use crate::reconcile::State;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;
use tls_worker::api::routes::{Sample, find};
use tls_worker::api::{ClientCertMode, Mode, Route, Service, SniPolicy};

/// Backends of a pool that are named.
const BACKENDS: usize = 8;

/// The way, as far as it goes.
pub(super) fn trace(edge: &State, flow: Option<&FlowAnswer>, request: &TraceRequest, now: SystemTime) -> TraceView {
    let mut way = Way { edge, steps: Vec::new() };
    let mut service = None;
    let arrives = way.go(flow, request, now, &mut service).is_some();
    TraceView { arrives, service, steps: way.steps }
}

struct Way<'e> {
    edge: &'e State,
    steps: Vec<TraceStep>,
}

impl<'e> Way<'e> {
    fn say(&mut self, stage: &str, says: impl Into<String>) {
        self.steps.push(TraceStep { stage: stage.into(), says: says.into() });
    }

    /// The last step.
    fn end<T>(&mut self, stage: &str, says: impl Into<String>) -> Option<T> {
        self.say(stage, says);
        None
    }

    /// None: it ends before it arrives.
    fn go(
        &mut self,
        flow: Option<&FlowAnswer>,
        request: &TraceRequest,
        now: SystemTime,
        met: &mut Option<String>,
    ) -> Option<()> {
        let TraceRequest { client, to, protocol, http } = request;
        let edge = self.edge;
        let forwarded = edge.config.forwards.iter().find(|forward| is_at(forward, *to, *protocol));
        let terminated = || edge.config.services.iter().find(|service| listens(service, *to));
        let service = match (forwarded, *protocol) {
            (Some(_), _) | (None, Protocol::Udp) => None,
            (None, Protocol::Tcp) => terminated(),
        };
        let name = service.map(|service| &service.name).or(forwarded.map(|forward| &forward.name));
        let Some(name) = name else {
            return self.end("service", format!("no service has {to}/{protocol}: it is left to the host's own stack"));
        };
        *met = Some(name.clone());
        self.say("service", format!("{to}/{protocol} is {name}"));
        self.shield(name, client.ip(), now)?;
        if let Some(forward) = forwarded {
            return self.forward(forward, flow, client.port());
        }
        if let Some(FlowAnswer { worker: Some(worker), cpu, .. }) = flow.filter(|_| client.port() != 0) {
            self.say("steering", format!("worker {worker}, CPU {}", cpu.map_or("-".into(), |cpu| cpu.to_string())));
        }
        self.terminated(service?, client.ip(), http.as_ref())
    }

    fn shield(&mut self, service: &str, client: IpAddr, now: SystemTime) -> Option<()> {
        if !self.edge.config.edge.filters() {
            self.say("shield", "none: this datapath sees no packets");
            return Some(());
        }
        match rule(self.edge, service, client, now) {
            Some((network, false, origin)) => return self.end("shield", format!("denied by {network}, {origin}")),
            Some((network, true, origin)) => {
                self.say("shield", format!("allowed by {network}, {origin}: limited by no rate"));
            }
            None => {
                let limited = forward::limits(self.edge, service).is_some();
                let rates = if limited { "; rates hold, see bailey service show" } else { "" };
                self.say("shield", format!("no rule for {client}{rates}"));
            }
        }
        if forward::flooded(self.edge, service) {
            self.say("shield", "SYNs are answered with cookies now");
        }
        Some(())
    }

    fn forward(&mut self, service: &Forward, flow: Option<&FlowAnswer>, port: u16) -> Option<()> {
        let pool = self.pool(service.pool)?;
        if port == 0 && service.hash == ForwardHash::Flow {
            self.say("backend", "depends on the client's port: give it as IP:PORT");
            return Some(());
        }
        match flow {
            Some(FlowAnswer { reason: Some(FlowReason::NoBackend), .. }) => self.end("backend", "none may be chosen"),
            Some(FlowAnswer { backend: Some(backend), .. }) => {
                self.say("backend", format!("{backend} of {pool}"));
                Some(())
            }
            _ => self.end("backend", "the datapath does not say"),
        }
    }

    fn terminated(&mut self, service: &'e Service, client: IpAddr, http: Option<&TraceHttp>) -> Option<()> {
        let speaks_http = matches!(service.mode, Mode::Http | Mode::Https);
        let ends_tls = matches!(service.mode, Mode::Https | Mode::Tls);
        let sni = http.and_then(|http| http.sni.as_deref());
        if let Some(tls) = service.tls.as_ref().filter(|_| ends_tls) {
            let named = sni.and_then(|sni| policy(&tls.policies, sni));
            let Some(policy) = named.or_else(|| tls.policies.first().filter(|_| !tls.strict_sni)) else {
                let asked = sni.unwrap_or("no name");
                return self
                    .end("TLS", format!("{asked}: refused with unrecognized_name, the service knows no such name"));
            };
            self.tls(policy, sni);
        }
        let Some(http) = http else {
            if service.mode == Mode::Tcp {
                return self.route(service.routes.first()?, speaks_http);
            }
            self.say("route", "depends on what the client asks for: give an address such as https://HOST/PATH");
            return Some(());
        };
        let host = if speaks_http { http.host.clone() } else { sni.unwrap_or_default().to_owned() };
        let sample = Sample {
            host,
            method: http.method.clone(),
            path: http.path.clone(),
            query: http.query.clone(),
            headers: http.headers.clone(),
            client,
            sni: http.sni.clone().filter(|_| service.mode != Mode::Http),
        };
        match find(&service.routes, &sample) {
            Ok(Some(place)) => self.route(service.routes.get(place)?, speaks_http),
            Ok(None) if speaks_http => self.end("route", "none takes it: 404"),
            Ok(None) => self.end("route", "none takes it: the connection is refused"),
            Err(error) => self.end("route", error),
        }
    }

    fn tls(&mut self, policy: &SniPolicy, sni: Option<&str>) {
        let certificate = |index: &usize| Some(self.edge.config.certificates.get(*index)?.name().to_owned());
        let certificates: Vec<String> = policy.certificates.iter().filter_map(certificate).collect();
        let (from, to) = (version(policy.protocol.min_version), version(policy.protocol.max_version));
        let asked = match policy.client_cert.as_ref().map(|rules| rules.mode) {
            None => "",
            Some(ClientCertMode::Optional | ClientCertMode::OptionalAny) => "; the client is asked for a certificate",
            Some(ClientCertMode::Required) => "; without a good certificate of the client it ends here",
        };
        let name = sni.unwrap_or("no name");
        self.say("TLS", format!("{name}: certificates {}, TLS {from} to {to}{asked}", certificates.join(", ")));
    }

    fn route(&mut self, route: &Route, speaks_http: bool) -> Option<()> {
        let leads = self.edge.config.leads_to(route);
        self.say("route", format!("{}: {leads}", route.name));
        if let Some(authorizer) = route.authorizer.and_then(|index| self.edge.config.authorizers.get(index)) {
            let pool = self.edge.config.pools.get(authorizer.pool)?;
            let up = view::pool(self.edge, &pool.name).is_some_and(|pool| pool.row.up > 0);
            let asked = format!("{} asks pool {}", authorizer.name, pool.name);
            match (up, authorizer.fail_open) {
                (true, _) => self.say("authorizer", asked + ", which decides"),
                (false, true) => self.say("authorizer", asked + ", where nobody is up: it goes on (fail = \"open\")"),
                (false, false) => {
                    return self.end("authorizer", asked + ", where nobody is up: 403 (fail = \"closed\")");
                }
            }
        }
        if route.answer.is_some() {
            self.say("answer", "the edge's own");
            return Some(());
        }
        let pools: Vec<usize> = match &route.split[..] {
            [] => vec![route.pool],
            split => split.iter().filter(|share| share.weight > 0).map(|share| share.pool).collect(),
        };
        let up = pools.iter().filter(|pool| self.pool(**pool).is_some()).count();
        if up > 0 {
            return Some(());
        }
        let end = if speaks_http { "no backend may be chosen: 503" } else { "no backend may be chosen: it is closed" };
        self.end("backend", end)
    }

    /// Its name; none: no backend of it may be chosen.
    fn pool(&mut self, index: usize) -> Option<String> {
        let pool = self.edge.config.pools.get(index)?;
        let view = view::pool(self.edge, &pool.name)?;
        let mut backends: Vec<String> = view
            .backends
            .iter()
            .take(BACKENDS)
            .map(|backend| match (&backend.cause, backend.state.as_str()) {
                (Some(cause), "down") => format!("{} down ({cause})", backend.address),
                (_, state) => format!("{} {state}", backend.address),
            })
            .collect();
        if view.backends.len() > BACKENDS {
            backends.push(format!("and {} more", view.backends.len() - BACKENDS));
        }
        if backends.is_empty() {
            backends.push("no backend".into());
        }
        let again = match pool.persistence {
            Some(_) => "; a client that is known goes back to its own",
            None => "",
        };
        self.say("pool", format!("{} ({}): {}{again}", view.row.name, view.row.balance, backends.join(", ")));
        (view.row.up > 0).then_some(view.row.name)
    }
}

fn listens(service: &Service, to: SocketAddr) -> bool {
    service.addresses.iter().any(|listen| {
        let same_family = listen.address.is_ipv4() == to.is_ipv4();
        let address = listen.address == to.ip() || (same_family && listen.address.is_unspecified());
        address && listen.port.is_none_or(|port| port == to.port())
    })
}

fn is_at(forward: &Forward, to: SocketAddr, protocol: Protocol) -> bool {
    let at = |ports: Ports| match ports {
        Ports::All => true,
        Ports::Range(first, last) => (first..=last).contains(&to.port()),
    };
    let here = forward.addresses.iter().any(|service| service.address == to.ip() && at(service.ports));
    here && forward.protocols.contains(&protocol)
}

/// The rule that decides about a client: the longest; of two of one length the service's own, and run time before the file.
fn rule(edge: &State, service: &str, client: IpAddr, now: SystemTime) -> Option<(IpNet, bool, &'static str)> {
    let owners = [Some(service.to_owned()), None];
    let longest = if client.is_ipv4() { 32 } else { 128 };
    let runtime = edge.overlay.rules();
    (0..=longest).rev().filter_map(|length| Some(IpNet::new(client, length).ok()?.trunc())).find_map(|network| {
        owners.iter().find_map(|owner| {
            if let Some(rule) = runtime.get(&(owner.clone(), network)) {
                // One that has run out hides the file's until it is taken away.
                return rule.until.is_none_or(|until| until > now).then_some((network, rule.allow, "at run time"));
            }
            let allow = edge.config.prefixes.get(owner)?.get(&network)?;
            Some((network, *allow, "by the config"))
        })
    })
}

/// The rules for a name: those of the name itself before those of a wildcard.
fn policy<'p>(policies: &'p [SniPolicy], name: &str) -> Option<&'p SniPolicy> {
    let name = name.to_ascii_lowercase();
    let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    let has = |wanted: &str| policies.iter().find(|policy| policy.names.iter().any(|one| one == wanted));
    has(&name).or_else(|| has(&wildcard?))
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
