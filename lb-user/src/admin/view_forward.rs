//! From the reconciler's picture to what is shown of forwarded services and the shield. Pure.

use super::api::*;
use crate::config::Forward;
use crate::datapath::{ForwardState, PacketCounter, Rate, SynCookies};
use crate::reconcile::{RuntimeRule, State};
use ipnet::IpNet;
use lb_common::Verdict;
use lb_common::verdict::Action;
use std::net::SocketAddr;
use std::time::SystemTime;

/// Rules that are shown at the most.
pub const MAX_RULES_SHOWN: usize = 1000;
/// Troubles of backends that a status tells at the most.
const MAX_TROUBLES: usize = 20;

/// A forwarded service at a glance.
pub(super) fn row(edge: &State, service: &Forward) -> ServiceRow {
    ServiceRow {
        name: service.name.clone(),
        mode: "l4".into(),
        addresses: service.addresses.iter().map(ToString::to_string).collect(),
        protocols: service.protocols.clone(),
        packets: packets(edge, &service.name, false),
        packets_dropped: packets(edge, &service.name, true),
        connections: 0,
        connections_active: 0,
        requests: 0,
    }
}

/// A forwarded service.
pub(super) fn view(edge: &State, service: &Forward) -> ServiceView {
    let name = &service.name;
    let state = state(edge, name);
    let of = |value: fn(&ForwardState) -> u64| state.map_or(0, value);
    ServiceView {
        row: row(edge, service),
        id: edge.ids.id(name),
        certificates: Vec::new(),
        min_tls: None,
        http2: None,
        routes: Vec::new(),
        connections_refused: 0,
        received_bytes: 0,
        sent_bytes: 0,
        handshakes: 0,
        handshake_failures: 0,
        handshake_counts: HandshakesView::default(),
        policies: vec![],
        strict_sni: false,
        alpn: vec![],
        forward: Some(ForwardView {
            pool: edge.config.pools.get(service.pool).map(|pool| pool.name.clone()).unwrap_or_default(),
            forward: service.mode,
            hash: service.hash,
            drain_seconds: service.drain.as_secs(),
            udp_idle_seconds: service.udp_idle.as_secs(),
            outer_mtu: service.outer_mtu,
            slots: service.slots,
            moved: state.map_or(0, |s| s.moved),
            watched: state.map_or(0, |s| s.watched),
            remembered: of(|s| s.remembered),
            evicted: of(|s| s.evicted),
            dead: of(|s| s.dead),
            backends: state.map_or_else(Vec::new, |state| forwarded(name, state)),
        }),
        verdicts: verdicts(edge, name),
        limits: limits(edge, name),
        flooded: flooded(edge, name),
    }
}

/// What a backend of a pool gets from each forwarded service.
pub(super) fn to_backend(edge: &State, pool: &str, address: SocketAddr) -> Vec<ForwardedView> {
    let ours = |service: &&Forward| edge.config.pools.get(service.pool).is_some_and(|p| p.name == pool);
    let services = edge.config.forwards.iter().filter(ours);
    let views = services.filter_map(|s| Some(forwarded(&s.name, state(edge, &s.name)?))).flatten();
    views.filter(|view| view.address == address).collect()
}

/// Backends that cannot be reached.
pub(super) fn troubles(edge: &State) -> Vec<String> {
    let all = edge.config.forwards.iter().filter_map(|s| Some((s, state(edge, &s.name)?)));
    let troubled = all.flat_map(|(service, state)| {
        state.backends.iter().filter_map(|backend| {
            let trouble = backend.trouble.as_ref()?;
            Some(format!("backend {} of service {:?}: {trouble}", backend.address, service.name))
        })
    });
    troubled.take(MAX_TROUBLES).collect()
}

fn state<'s>(edge: &'s State, name: &str) -> Option<&'s ForwardState> {
    let id = edge.ids.id(name)?;
    edge.counters.forwards.iter().find(|state| state.service == id)
}

fn forwarded(service: &str, state: &ForwardState) -> Vec<ForwardedView> {
    let view = |backend: &crate::datapath::ForwardBackendState| ForwardedView {
        service: service.into(),
        address: backend.address,
        packets: backend.packets,
        bytes: backend.bytes,
        flows: backend.flows,
        slots: backend.slots,
        share_percent: f64::from(backend.slots) * 100.0 / f64::from(state.slots.max(1)),
        trouble: backend.trouble.clone(),
    };
    state.backends.iter().map(view).collect()
}

fn drops(counter: &PacketCounter) -> bool {
    Verdict::ALL.iter().any(|v| v.name() == counter.verdict && v.action() == Action::Drop)
}

fn counted<'s>(edge: &'s State, service: &str) -> impl Iterator<Item = &'s PacketCounter> {
    let id = edge.ids.id(service);
    edge.counters.packets.iter().filter(move |counter| Some(counter.service) == id)
}

/// Packets of a service: all, or those that were dropped.
pub(super) fn packets(edge: &State, service: &str, dropped: bool) -> u64 {
    counted(edge, service).filter(|counter| !dropped || drops(counter)).map(|counter| counter.packets).sum()
}

/// Packets of a service by what became of them.
pub(super) fn verdicts(edge: &State, service: &str) -> Vec<VerdictView> {
    let view = |counter: &PacketCounter| VerdictView {
        verdict: counter.verdict.into(),
        dropped: drops(counter),
        packets: counter.packets,
        bytes: counter.bytes,
    };
    counted(edge, service).map(view).collect()
}

/// Whether SYNs of a service are answered with cookies now.
pub(super) fn flooded(edge: &State, service: &str) -> bool {
    edge.ids.id(service).is_some_and(|id| edge.counters.shield.flooded.contains(&id))
}

/// Limits of a service.
pub(super) fn limits(edge: &State, service: &str) -> Option<LimitsView> {
    let limits = edge.config.limits.get(service)?;
    let rate = |rate: Option<Rate>| rate.map(|r| RateView { rate: r.per_second, burst: r.burst });
    let (word, syn_flood) = match limits.syn_cookies {
        SynCookies::Never => ("never", None),
        SynCookies::Always => ("always", None),
        SynCookies::Auto { on, off, hold } => ("auto", Some(FloodView { on, off, hold_seconds: hold.as_secs_f64() })),
    };
    Some(LimitsView {
        source_packets: rate(limits.source_packets),
        source_connections: rate(limits.source_connections),
        packets: rate(limits.packets),
        connections: rate(limits.connections),
        source_prefix_v4: limits.source_v4,
        source_prefix_v6: limits.source_v6,
        syn_cookies: word.into(),
        syn_flood,
    })
}

/// Rules of one service, or all: those of run time first.
pub fn rules(edge: &State, service: Option<&str>, now: SystemTime) -> Rules {
    let wanted = |owner: &Option<String>| service.is_none() || owner.as_deref() == service;
    let word = |allow: bool| if allow { "allow".to_owned() } else { "deny".to_owned() };
    let runtime = edge.overlay.rules();
    let said = runtime.iter().filter(|((owner, _), _)| wanted(owner));
    let of_runtime = said.map(|((owner, network), rule): (&(Option<String>, IpNet), &RuntimeRule)| RuleView {
        service: owner.clone(),
        network: *network,
        action: word(rule.allow),
        origin: "runtime".into(),
        seconds_left: rule.until.map(|until| until.duration_since(now).map_or(0, |left| left.as_secs())),
    });
    let of_file = edge.config.prefixes.iter().filter(|(owner, _)| wanted(owner)).flat_map(|(owner, rules)| {
        // Where both say something, run time holds.
        let holds = move |network: &IpNet| runtime.is_empty() || !runtime.contains_key(&(owner.clone(), *network));
        rules.iter().filter(move |(network, _)| holds(network)).map(move |(network, allow)| RuleView {
            service: owner.clone(),
            network: *network,
            action: word(*allow),
            origin: "file".into(),
            seconds_left: None,
        })
    });
    let mut found = Rules { total: 0, rules: Vec::new() };
    for rule in of_runtime.chain(of_file) {
        found.total += 1;
        if found.rules.len() < MAX_RULES_SHOWN {
            found.rules.push(rule);
        }
    }
    found
}
